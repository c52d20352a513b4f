//! Pace of the looks of one probe: one per interval, and sooner after a look without a good answer.
//!
//! ```text
//! good answers   |------------ interval ------------|------------ interval ------------|
//! no answer      |- fast -|- fast -|------------ interval ------------|
//!                                  '--- timeout ---' `fall` looks were not answered: down
//! ```
//!
//! A look does not wait for the timeout of the previous one: it starts when that has taken longer than answers of this
//! backend usually take. The looks that this adds are limited by the [`Allowance`] that all probes share.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::time::Duration;

use tokio::time::Instant;

use crate::health::Verdict;

/// Additional looks, as a share of the steady rate.
const MORE: f64 = 0.1;
/// Minimum burst of additional looks, however few probes there are: enough for four backends that die together.
const HANDFUL: f64 = 8.0;

/// The pace of one probe. Pure: the time is an argument.
#[derive(Debug)]
pub(super) struct Pace {
    /// Due time of the next look at the steady rate.
    steady: Instant,
    /// Due time of the next look, if it is allowed to come sooner.
    sooner: Option<Instant>,
    /// Start of the latest look.
    latest: Option<Instant>,
    /// Start of the latest look with a good answer.
    good: Option<Instant>,
    /// Looks since the last good answer.
    looks: u32,
    /// Duration of the last good answer.
    usual: Duration,
}

/// Timing parameters of a probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tempo {
    /// Time between two looks at the steady rate, with jitter.
    pub(super) gap: Duration,
    /// Time from a look without a good answer to the next.
    pub(super) fast: Duration,
    /// Consecutive looks that make a backend down.
    pub(super) fall: u32,
}

impl Pace {
    pub(super) fn new(first: Instant) -> Self {
        Self { steady: first, sooner: None, latest: None, good: None, looks: 0, usual: Duration::ZERO }
    }

    /// Duration of the last good answer; zero before the first.
    pub(super) fn usual(&self) -> Duration {
        self.usual
    }

    /// Time of the next call of [`start`](Self::start).
    pub(super) fn due(&self) -> Instant {
        self.sooner.map_or(self.steady, |sooner| sooner.min(self.steady))
    }

    /// Returns whether to start a look that is due. An additional look requires `may` to return true.
    pub(super) fn start(&mut self, now: Instant, tempo: Tempo, may: impl FnOnce() -> bool) -> bool {
        self.sooner = None;
        if now < self.steady && !may() {
            return false;
        }
        // Counted from now and not from `steady`: after a standstill of this host overdue looks are not made up for.
        (self.steady, self.latest) = (now + tempo.gap, Some(now));
        self.looks = self.looks.saturating_add(1);
        self.hasten(now + tempo.fast.max(self.usual * 2), tempo);
        true
    }

    /// Processes the end of the look that began at `start`. Returns whether the result is to be reported: silence of an
    /// earlier look is not, if a later one was answered.
    pub(super) fn end(&mut self, start: Instant, now: Instant, verdict: &Verdict, tempo: Tempo) -> bool {
        match verdict {
            Verdict::Pass => {
                (self.looks, self.sooner, self.usual) = (0, None, now - start);
                self.good = self.good.max(Some(start));
            }
            // A fault of this host would occur again.
            Verdict::Inconclusive(_) => (self.looks, self.sooner) = (0, None),
            Verdict::Silent(_) if self.good > Some(start) => return false,
            Verdict::Silent(_) | Verdict::Unreachable(_) | Verdict::Fail(_) => {
                self.hasten(self.latest.map_or(now, |latest| now.max(latest + tempo.fast)), tempo);
            }
        }
        true
    }

    /// Schedules the next look at `at`, unless there were enough.
    fn hasten(&mut self, at: Instant, tempo: Tempo) {
        self.sooner = Some(at).filter(|at| *at < self.steady && tempo.fast < tempo.gap && self.looks < tempo.fall);
    }
}

/// Limit on the looks that all probes together add to their steady rate.
///
/// Half of a tenth of the looks of an interval may come in a burst, and the other half as time goes by: over any time of
/// an interval or longer they add at most a tenth, whatever was saved before.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Additional looks per second.
    rate: f64,
    most: f64,
    left: f64,
    since: Instant,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { rate: 0.0, most: HANDFUL, left: HANDFUL, since: now }
    }

    /// A limit that does not depend on the number of probes: `rate` looks per second, and `most` in a burst.
    pub(super) fn fixed(rate: f64, most: f64, now: Instant) -> Self {
        Self { rate, most, left: most, since: now }
    }

    /// Adapts the limit to this number of probes, which make `steady` looks per second together.
    #[expect(clippy::cast_precision_loss, reason = "a count of backends is far below 2^52")]
    pub(super) fn resize(&mut self, probes: usize, steady: f64, now: Instant) {
        self.refill(now);
        self.rate = steady * MORE / 2.0;
        let most = (probes as f64 * MORE / 2.0).max(HANDFUL);
        // Used looks stay used.
        (self.left, self.most) = ((self.left + most - self.most).max(0.0), most);
    }

    /// Takes one additional look, if any is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let enough = self.left >= 1.0;
        self.left -= if enough { 1.0 } else { 0.0 };
        enough
    }

    fn refill(&mut self, now: Instant) {
        self.left = (self.left + self.rate * (now - self.since).as_secs_f64()).min(self.most);
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FAST: Duration = Duration::from_millis(250);
    const TIMEOUT: Duration = Duration::from_millis(500);
    const TEMPO: Tempo = Tempo { gap: SECOND, fast: FAST, fall: 3 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn silent() -> Verdict {
        Verdict::Silent("no answer".to_owned())
    }

    /// A probe of a simulated backend: `answer` maps the start of a look to the verdict and its duration.
    struct Simulation<F> {
        pace: Pace,
        zero: Instant,
        answer: F,
        flying: Vec<(Instant, Instant, Verdict)>,
        /// Start times of looks, and end times with verdicts.
        starts: Vec<Duration>,
        ends: Vec<(Duration, Verdict)>,
    }

    impl<F: FnMut(Duration) -> (Verdict, Duration)> Simulation<F> {
        fn new(zero: Instant, first: Duration, answer: F) -> Self {
            let pace = Pace::new(zero + first);
            Self { pace, zero, answer, flying: Vec::new(), starts: Vec::new(), ends: Vec::new() }
        }

        fn next(&self) -> Instant {
            self.flying.iter().map(|flying| flying.1).fold(self.pace.due(), Instant::min)
        }

        fn step(&mut self, allowance: &mut Allowance) {
            let now = self.next();
            if let Some(at) = self.flying.iter().position(|flying| flying.1 == now) {
                let (start, _, verdict) = self.flying.remove(at);
                if self.pace.end(start, now, &verdict, TEMPO) {
                    self.ends.push((now - self.zero, verdict));
                }
            } else if self.pace.start(now, TEMPO, || allowance.take(now)) {
                let (verdict, time) = (self.answer)(now - self.zero);
                self.flying.push((now, now + time, verdict));
                self.starts.push(now - self.zero);
            }
        }

        fn run(&mut self, time: Duration, allowance: &mut Allowance) {
            while self.next() < self.zero + time {
                self.step(allowance);
            }
        }
    }

    /// Looks of a single probe with the minimum burst, within five seconds.
    fn alone(answer: impl FnMut(Duration) -> (Verdict, Duration)) -> (Vec<Duration>, Vec<(Duration, Verdict)>) {
        let zero = Instant::now();
        let mut simulation = Simulation::new(zero, Duration::ZERO, answer);
        simulation.run(ms(4900), &mut Allowance::new(zero));
        (simulation.starts, simulation.ends)
    }

    #[test]
    fn a_silent_death_is_detected_after_two_fast_intervals_and_one_timeout() {
        let dies = |at| if at < ms(1500) { (Verdict::Pass, ms(1)) } else { (silent(), TIMEOUT) };
        let (starts, ends) = alone(dies);
        assert_eq!(starts, [0, 1000, 2000, 2250, 2500, 3500, 4500].map(ms));
        let silences: Vec<_> = ends.iter().filter(|end| end.1 == silent()).map(|end| end.0).collect();
        assert_eq!(silences[2], ms(3000), "the third in a row");
    }

    #[test]
    fn a_refusal_is_followed_at_the_fast_interval() {
        let refuses = |at| if at < ms(1500) { Verdict::Pass } else { Verdict::Fail("refused".to_owned()) };
        let (starts, _) = alone(|at| (refuses(at), ms(1)));
        assert_eq!(starts, [0, 1000, 2000, 2250, 2500, 3500, 4500].map(ms));
    }

    #[test]
    fn a_good_answer_ends_the_hurry_and_what_was_lost_before_it_is_no_news() {
        let loses = |at| if at == ms(1000) { (silent(), TIMEOUT) } else { (Verdict::Pass, ms(1)) };
        let (starts, ends) = alone(loses);
        assert_eq!(starts, [0, 1000, 1250, 2250, 3250, 4250].map(ms));
        assert!(ends.iter().all(|end| end.1 == Verdict::Pass), "{ends:?}");
    }

    #[test]
    fn a_backend_that_always_takes_its_time_is_not_hurried() {
        let (starts, _) = alone(|_| (Verdict::Pass, ms(400)));
        // Only once, before the usual duration is known.
        assert_eq!(starts, [0, 250, 1250, 2250, 3250, 4250].map(ms));
    }

    #[test]
    fn what_this_host_prevents_is_not_tried_more_often() {
        let (starts, _) = alone(|_| (Verdict::Inconclusive("no descriptors".to_owned()), ms(1)));
        assert_eq!(starts, [0, 1000, 2000, 3000, 4000].map(ms));
    }

    #[test]
    fn without_an_allowance_the_rate_is_steady() {
        let zero = Instant::now();
        let mut none = Allowance { rate: 0.0, most: 0.0, left: 0.0, since: zero };
        let mut simulation = Simulation::new(zero, Duration::ZERO, |_| (silent(), TIMEOUT));
        simulation.run(ms(4900), &mut none);
        assert_eq!(simulation.starts, [0, 1000, 2000, 3000, 4000].map(ms));
    }

    /// Kills all of 200 backends, or makes them flap: no interval has more than 1.1 times the steady looks.
    #[test]
    fn no_failure_adds_more_than_a_tenth() {
        const BACKENDS: u32 = 200;
        let dies = |at: Duration| at >= ms(3500);
        let flaps = |at: Duration| at >= ms(3500) && !at.as_millis().is_multiple_of(3);
        for is_bad in [&dies as &dyn Fn(Duration) -> bool, &flaps] {
            let zero = Instant::now();
            let mut allowance = Allowance::new(zero);
            allowance.resize(BACKENDS as usize, BACKENDS.into(), zero);
            let answer = |at| if is_bad(at) { (silent(), TIMEOUT) } else { (Verdict::Pass, ms(1)) };
            let mut all: Vec<_> = (0..BACKENDS).map(|n| Simulation::new(zero, SECOND * n / BACKENDS, answer)).collect();
            while let Some(next) = all.iter_mut().min_by_key(|simulation| simulation.next()) {
                if next.next() >= zero + SECOND * 12 {
                    break;
                }
                next.step(&mut allowance);
            }
            let starts: Vec<_> = all.iter().flat_map(|simulation| &simulation.starts).collect();
            let within = |from: Duration, to: Duration| starts.iter().filter(|at| (from..to).contains(*at)).count();
            for from in 0..110 {
                let from = ms(from * 100);
                let looks = within(from, from + SECOND);
                // Looks are counted whole.
                assert!((199..=221).contains(&looks), "{looks} from {from:?}");
            }
            assert!(within(ms(3500), ms(6500)) >= 605, "the allowance is used");
        }
    }

    #[test]
    fn the_allowance_of_few_is_a_handful_and_fills_again() {
        let zero = Instant::now();
        let mut allowance = Allowance::new(zero);
        allowance.resize(4, 20.0, zero);
        let taken = |allowance: &mut Allowance, now| (0..100).filter(|_| allowance.take(now)).count();
        assert_eq!(taken(&mut allowance, zero), 8, "two looks of each");
        assert_eq!(taken(&mut allowance, zero + SECOND), 1);
        allowance.resize(5, 25.0, zero + SECOND);
        assert_eq!(taken(&mut allowance, zero + SECOND), 0, "what was used stays used");
    }
}
