//! The watch's schedule of work.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep_until};

/// Work for a later time, each kind including the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// Compare next hops with the published ones.
    Evaluate,
    /// Look up the routes that a change concerns, then evaluate.
    Affected,
    /// Look up all routes, then evaluate.
    Lookups,
    /// Read all tables, then look up and evaluate.
    Everything,
}

/// The scheduled work.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    due: BTreeMap<Work, Instant>,
    /// When to look up routes once more after a change.
    pub(super) repeat: Option<Instant>,
    /// Earliest time for each kind of work, and for the kinds that include it.
    rest_until: BTreeMap<Work, Instant>,
}

impl Agenda {
    /// Adds `work`, to be done `after` from now, or when its rest is over; work that is due earlier keeps its time.
    pub(super) fn add(&mut self, work: Work, after: Duration) {
        let at = Instant::now() + after;
        let rests = self.rest_until.range(..=work).map(|(_, until)| *until);
        self.add_at(work, rests.fold(at, Instant::max));
    }

    /// As [`add`](Self::add), but without rest.
    pub(super) fn add_without_rest(&mut self, work: Work, after: Duration) {
        self.add_at(work, Instant::now() + after);
    }

    fn add_at(&mut self, work: Work, at: Instant) {
        let due = self.due.entry(work).or_insert(at);
        *due = at.min(*due);
    }

    /// Puts off work of this kind that is added from now on, for this long.
    pub(super) fn rest(&mut self, work: Work, time: Duration) {
        self.rest_until.insert(work, Instant::now() + time);
    }

    pub(super) async fn wait(&self) -> Work {
        let Some((at, work)) = self.next() else { return std::future::pending().await };
        sleep_until(at).await;
        work
    }

    fn next(&self) -> Option<(Instant, Work)> {
        let due = self.due.iter().map(|(work, at)| (*at, *work));
        due.chain(self.repeat.map(|at| (at, Work::Lookups))).min()
    }

    /// Removes the work that [`Self::wait`] returned, and any due work that it includes.
    pub(super) fn done(&mut self, work: Work) {
        let now = Instant::now();
        self.due.retain(|kind, at| *kind > work || *at > now);
        self.repeat = self.repeat.filter(|at| *at > now || work < Work::Lookups);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(100);

    #[test]
    fn what_a_change_concerns_does_not_wait_for_the_rest() {
        let mut agenda = Agenda::default();
        agenda.rest(Work::Lookups, LONG);
        agenda.add(Work::Everything, Duration::ZERO);
        agenda.add(Work::Affected, Duration::ZERO);
        let affected = agenda.next().unwrap();
        assert!(affected.1 == Work::Affected && affected.0 <= Instant::now());
        agenda.done(Work::Affected);
        // A neighbour's loss does not wait either, and does not bring the lookups forward.
        agenda.add(Work::Evaluate, Duration::ZERO);
        assert_eq!(agenda.next().unwrap().1, Work::Evaluate);
        agenda.done(Work::Evaluate);
        let (at, work) = agenda.next().unwrap();
        assert!(work == Work::Everything && at > Instant::now() + LONG / 2);
    }

    #[test]
    fn only_routes_that_change_all_the_time_have_to_wait() {
        let mut agenda = Agenda::default();
        agenda.rest(Work::Affected, LONG);
        agenda.add(Work::Affected, Duration::ZERO);
        assert!(agenda.next().unwrap().0 > Instant::now() + LONG / 2);
        agenda.add_without_rest(Work::Affected, Duration::ZERO);
        assert!(agenda.next().unwrap().0 <= Instant::now());
    }
}
