//! A probed backend: its health, its probe, and the time without a result.

use std::time::Duration;

use crate::{
    config::{Judging, Probe},
    health::{Evidence, Health, HealthChange, Machine, Standing, Verdict},
    plan,
};

use edge_common::abi::State;

/// Number of missed probes after which a verdict is too old.
const MISSED: u32 = 10;
/// Minimum age in seconds at which a verdict is too old.
const LEAST: u32 = 10;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Probed {
    probe: Probe,
    damping: Duration,
    machine: Machine,
    /// Position of the backend's pool; `None` if the backend is retired.
    pub(super) pool: Option<usize>,
    /// Seconds in which this daemon ran and no probe has ended. Not measured by a clock: while the daemon stands still,
    /// so do its probes, and their earlier results must not be discarded as soon as the daemon goes on.
    silent: u32,
}

impl Probed {
    /// A backend that is probed by `probe` from now on. `state` is the one that an earlier daemon, or another probe,
    /// left.
    pub(super) fn new(probe: &Probe, judging: &Judging, pool: Option<usize>, state: State) -> Self {
        let condition = plan::condition(state);
        // A backend that kept its flows was in doubt.
        let evidence = if condition.standing == Standing::Keeping { Evidence::Soft } else { Evidence::Hard };
        let damping = judging.damping;
        Self {
            probe: probe.clone(),
            damping,
            machine: Machine::starting_from(condition.health, evidence, probe.rise, probe.fall, damping),
            pool,
            silent: 0,
        }
    }

    /// The same backend with the counts so far, if it is probed and judged in the same way.
    pub(super) fn go_on(self, probe: &Probe, judging: &Judging, pool: Option<usize>) -> Option<Self> {
        (self.probe == *probe && self.damping == judging.damping).then_some(Self { pool, ..self })
    }

    pub(super) fn health(&self) -> Health {
        self.machine.health()
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(super) fn observe(&mut self, verdict: &Verdict, now: Duration, deaf: bool) -> Option<HealthChange> {
        self.silent = 0;
        self.machine.observe(verdict, now, deaf)
    }

    /// Records whether the backend answers at its own address, while probes through a service fail.
    pub(super) fn note_address(&mut self, answers: bool) {
        self.machine.note_address(answers);
    }

    /// Whether the backend is out for its silence. It stays out until it is up again, or until the silence is found to
    /// be this host's own.
    pub(super) fn is_out(&self) -> bool {
        self.machine.is_convicted()
    }

    /// Takes the backend out for its silence, which is its own.
    pub(super) fn put_out(&mut self, now: Duration) {
        self.machine.convict(now);
    }

    /// Ends the hold of a backend that damping holds back.
    pub(super) fn release(&mut self, now: Duration) -> Option<HealthChange> {
        self.machine.release(now)
    }

    /// Withdraws a silence that was not the backend's own, unless the backend has been out for longer than a wave of
    /// silence takes.
    pub(super) fn pardon(&mut self, now: Duration, reason: &str) -> Option<HealthChange> {
        if self.is_final(now) { None } else { self.machine.pardon(now, reason) }
    }

    /// Whether the backend has been out for its silence for longer than a wave of silence takes.
    pub(super) fn is_final(&self, now: Duration) -> bool {
        self.is_out() && now.saturating_sub(self.machine.changed()) > self.fall_time() * 2
    }

    /// Counts a second without a result, and forgets a verdict that is too old.
    pub(super) fn age(&mut self, now: Duration) -> Option<HealthChange> {
        self.silent = self.silent.saturating_add(1);
        let limit = self.longest();
        if self.silent != limit {
            return None;
        }
        self.machine.forget(now, &format!("no probe has ended for {limit} s"))
    }

    /// Longest time from the death of a backend until its probes have found the death.
    pub(super) fn fall_time(&self) -> Duration {
        self.probe.fall_time()
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

    fn judging() -> Judging {
        inventory().config.pools[0].judging.clone()
    }

    fn probed(health: Health) -> Probed {
        Probed::new(&probe(), &judging(), Some(0), plan::state(plan::Admin::Enabled, health))
    }

    fn fail(probed: &mut Probed) -> Option<HealthChange> {
        probed.observe(&Verdict::Fail("no answer".to_owned()), Duration::ZERO, false)
    }

    #[test]
    fn counts_go_on_with_the_same_probe_and_begin_anew_with_another() {
        let mut probed = probed(Health::Up);
        assert_eq!((fail(&mut probed), fail(&mut probed)), (None, None));
        let mut same = probed.clone().go_on(&probe(), &judging(), Some(0)).expect("the same");
        assert_eq!(fail(&mut same).map(|change| change.to), Some(Health::Down), "the third in a row");
        assert_eq!(probed.go_on(&Probe { port: 81, ..probe() }, &judging(), Some(0)), None);
    }

    #[test]
    fn a_verdict_that_is_too_old_is_unknown_once() {
        // The probe is sent each second and has a timeout of half a second: a verdict is too old after ten times both.
        for health in [Health::Up, Health::Down] {
            let mut probed = probed(health);
            for second in 1..=100 {
                if second == 14 {
                    fail(&mut probed);
                }
                let changed = probed.age(Duration::ZERO).map(|change| change.to);
                assert_eq!(changed, (second == 14 + 14).then_some(Health::Unknown), "{second}");
            }
        }
    }
}
