//! Damping: each death of a backend prolongs the hold before its next return.

use std::time::Duration;

/// The first hold is the longest one divided by this; each further hold is twice as long as the one before.
const FIRST: u32 = 32;

/// Computes how long a returning backend is held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damper {
    /// The longest hold, and the uptime after which a backend's deaths are forgotten. With zero no backend is ever held.
    longest: Duration,
    deaths: u32,
    /// When the backend last came back.
    up_since: Option<Duration>,
}

impl Damper {
    pub(super) const fn new(longest: Duration) -> Self {
        Self { longest, deaths: 0, up_since: None }
    }

    pub(super) fn came_back(&mut self, now: Duration) {
        self.up_since = Some(now);
    }

    pub(super) fn died(&mut self, now: Duration) {
        if self.up_since.is_none_or(|since| now.saturating_sub(since) >= self.longest) {
            self.deaths = 0;
        }
        self.deaths = self.deaths.saturating_add(1);
    }

    /// Undoes the last death, which turned out to be none.
    pub(super) fn pardon(&mut self) {
        self.deaths = self.deaths.saturating_sub(1);
    }

    pub(super) fn deaths(&self) -> u32 {
        self.deaths
    }

    /// How long the probes of the backend have to pass before it is up again.
    pub(super) fn hold(&self) -> Duration {
        match self.deaths {
            0 | 1 => Duration::ZERO,
            more => (self.longest / FIRST).saturating_mul(1 << (more - 2).min(31)).min(self.longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_mins(5);

    #[test]
    fn each_death_doubles_the_hold_up_to_the_longest() {
        let mut damper = Damper::new(LONGEST);
        let mut now = Duration::from_secs(1);
        let mut holds = Vec::new();
        for _ in 0..8 {
            damper.died(now);
            holds.push(damper.hold().as_millis());
            now += damper.hold();
            damper.came_back(now);
            now += Duration::from_secs(1);
        }
        assert_eq!(holds, [0, 9375, 18_750, 37_500, 75_000, 150_000, 300_000, 300_000]);
    }

    #[test]
    fn a_long_time_up_resets_the_penalty() {
        for (up, hold) in [(LONGEST / 2, LONGEST / 32), (LONGEST, Duration::ZERO)] {
            let mut damper = Damper::new(LONGEST);
            damper.died(Duration::ZERO);
            damper.came_back(Duration::from_secs(10));
            damper.died(Duration::from_secs(10) + up);
            assert_eq!(damper.hold(), hold);
        }
    }

    #[test]
    fn without_damping_nobody_is_held() {
        let mut damper = Damper::new(Duration::ZERO);
        for second in 0..100 {
            damper.died(Duration::from_secs(second));
            damper.came_back(Duration::from_secs(second));
            assert_eq!(damper.hold(), Duration::ZERO);
        }
    }
}
