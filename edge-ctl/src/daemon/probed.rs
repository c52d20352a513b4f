//! A backend that is probed: its health, how it is probed, and since when nothing was heard of its probes.

use crate::{
    config::Probe,
    health::{Health, HealthChange, Machine, Verdict},
};

/// So many probes must have been missed before a verdict is too old.
const MISSED: u32 = 10;
/// It is not before so many seconds.
const LEAST: u32 = 10;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Probed {
    probe: Probe,
    machine: Machine,
    /// Seconds in which this daemon ran and no probe has ended. Not of a clock: while the daemon stands still, so do its
    /// probes, and what they had found before must not be thrown away at the first moment after.
    silent: u32,
}

impl Probed {
    /// The backend `before`, if it was probed, is probed by `probe` from now on; its health was `health`. What was counted
    /// goes on where the probe is the same.
    pub(super) fn go_on(before: Option<Self>, probe: &Probe, health: Health) -> Self {
        match before {
            Some(before) if before.probe == *probe && before.machine.health() == health => before,
            _ => Self {
                probe: probe.clone(),
                machine: Machine::starting_from(health, probe.rise, probe.fall),
                silent: 0,
            },
        }
    }

    pub(super) fn health(&self) -> Health {
        self.machine.health()
    }

    pub(super) fn observe(&mut self, verdict: &Verdict) -> Option<HealthChange> {
        self.silent = 0;
        self.machine.observe(verdict)
    }

    /// A second has passed. A verdict that is too old is forgotten.
    pub(super) fn age(&mut self) -> Option<HealthChange> {
        self.silent = self.silent.saturating_add(1);
        let limit = self.longest();
        (self.silent == limit).then(|| self.machine.forget(&format!("no probe has ended for {limit} s")))?
    }

    /// Seconds after which a verdict is too old.
    fn longest(&self) -> u32 {
        let each = self.probe.interval.max(self.probe.timeout) + self.probe.timeout;
        u32::try_from((each * MISSED).as_secs()).unwrap_or(u32::MAX).max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fixture::inventory;

    fn probe() -> Probe {
        inventory().config.pools[0].probe.clone().expect("it has one")
    }

    fn fail() -> Verdict {
        Verdict::Fail("no answer".to_owned())
    }

    #[test]
    fn counts_go_on_with_the_same_probe_and_begin_anew_with_another() {
        let mut probed = Probed::go_on(None, &probe(), Health::Up);
        assert_eq!((probed.observe(&fail()), probed.observe(&fail())), (None, None));
        let mut same = Probed::go_on(Some(probed.clone()), &probe(), Health::Up);
        assert_eq!(same.observe(&fail()).map(|change| change.to), Some(Health::Down), "the third in a row");
        let mut other = Probed::go_on(Some(probed), &Probe { port: 81, ..probe() }, Health::Up);
        assert_eq!(other.observe(&fail()), None);
    }

    #[test]
    fn a_verdict_that_is_too_old_is_unknown_once() {
        // Each second, a timeout of half of one: ten of them and their timeouts.
        for health in [Health::Up, Health::Down] {
            let mut probed = Probed::go_on(None, &probe(), health);
            for second in 1..=100 {
                if second == 14 {
                    probed.observe(&fail());
                }
                let changed = probed.age().map(|change| change.to);
                assert_eq!(changed, (second == 14 + 14).then_some(Health::Unknown), "{second}");
            }
        }
    }
}
