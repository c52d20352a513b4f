//! Reports new flows that can't be recorded at the backend that they were sent to: when that begins, and when it is
//! over.

#![deny(clippy::disallowed_methods)]

use std::{collections::BTreeMap, time::Duration};

use edge_common::abi::{FlowCount, FlowCounts};

use crate::control::status::UnrecordedStatus;

/// The limits that can be met, and what to do about each.
const FULL: &str = "the flow table is full (raise `flows`)";
const OVER_LIMIT: &str = "more flows start than `flows_per_second` (raise `flows`, and with it `flows_per_second`)";
/// How long all flows must have been recorded before the fault is over.
const OVER: Duration = Duration::from_mins(1);

/// The last counts of the services in transition, by service number.
#[derive(Debug, Default)]
pub(super) struct Unrecorded(BTreeMap<u32, Seen>);

#[derive(Debug)]
struct Seen {
    counts: Tally,
    begun: Option<Begun>,
}

/// A time in which flows are not recorded.
#[derive(Clone, Copy, Debug)]
struct Begun {
    at: Duration,
    /// The counts before the first of these flows.
    before: Tally,
    /// When a flow was last not recorded.
    last: Duration,
}

/// New flows whose pick was not their slot's owner, since the service got its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    recorded: u64,
    /// Flows that went to the owner all the same.
    kept: u64,
    /// Flows whose backend became the owner.
    taken_over: u64,
    /// Flows of any kind that were not recorded, these included, and those of them for which the rate limit was met.
    failed: u64,
    over_limit: u64,
}

/// A change of a service that is to be reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Begun(String),
    Over(String),
}

impl Unrecorded {
    /// Compares the counts of a service in transition with the last ones, once a second.
    pub(super) fn look(&mut self, service: u32, counts: FlowCounts, now: Duration) -> Option<Change> {
        let counts = Tally::of(counts);
        let seen = self.0.entry(service).or_insert(Seen { counts, begun: None });
        let before = std::mem::replace(&mut seen.counts, counts);
        if counts.unrecorded() > before.unrecorded() {
            let begins = seen.begun.is_none();
            seen.begun = Some(Begun { last: now, ..seen.begun.unwrap_or(Begun { at: now, before, last: now }) });
            return begins.then(|| Change::Begun(format!("{}: {}", counts.since(before), counts.why(before))));
        }
        let Begun { before, .. } = seen.begun.filter(|begun| now >= begun.last + OVER)?;
        seen.begun = None;
        Some(Change::Over(format!("all are recorded again; {}", counts.since(before))))
    }

    /// The status of a service with new flows that are not recorded.
    pub(super) fn status(&self, service: u32, now: Duration, unix_ms: u64) -> Option<UnrecordedStatus> {
        let Seen { counts, begun } = self.0.get(&service)?;
        let Begun { at, before, .. } = (*begun)?;
        let age = now.saturating_sub(at);
        let (kept, taken_over) = (counts.kept - before.kept, counts.taken_over - before.taken_over);
        Some(UnrecordedStatus {
            since: unix_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            for_seconds: age.as_secs(),
            kept,
            taken_over,
            of: kept + taken_over + counts.recorded - before.recorded,
            why: counts.why(before),
        })
    }

    /// Forgets a service that is stable; returns a change if flows of it were not recorded until now.
    pub(super) fn forget(&mut self, service: u32) -> Option<Change> {
        let Seen { counts, begun } = self.0.remove(&service)?;
        let Begun { before, .. } = begun?;
        Some(Change::Over(format!("no flow needs a record any more; {}", counts.since(before))))
    }
}

impl Tally {
    const fn of(FlowCounts(counts): FlowCounts) -> Self {
        let kept = counts[FlowCount::KeptAtOwner as usize];
        let taken_over = counts[FlowCount::OwnerTakenOver as usize];
        Self {
            recorded: counts[FlowCount::RecordedAtNew as usize],
            kept,
            taken_over,
            failed: kept + taken_over + counts[FlowCount::InsertFailed as usize],
            over_limit: counts[FlowCount::OverLimit as usize],
        }
    }

    /// Which of the limits flows have met since `before`, in words.
    fn why(self, before: Self) -> String {
        let over_limit = self.over_limit.saturating_sub(before.over_limit);
        let full = self.failed.saturating_sub(before.failed).saturating_sub(over_limit);
        match (full > 0, over_limit > 0) {
            (true, true) => format!("{FULL}; {OVER_LIMIT}"),
            (false, true) => OVER_LIMIT.to_owned(),
            (_, false) => FULL.to_owned(),
        }
    }

    const fn unrecorded(self) -> u64 {
        self.kept + self.taken_over
    }

    /// The flows since `before`, in words.
    fn since(self, before: Self) -> String {
        let kept = self.kept.saturating_sub(before.kept);
        let taken_over = self.taken_over.saturating_sub(before.taken_over);
        let all = kept + taken_over + self.recorded.saturating_sub(before.recorded);
        let stayed = format!("{kept} of {all} new flows stayed with their slots' owners");
        match taken_over {
            0 => stayed,
            some => format!(
                "{stayed}, and {some} took their slots over from owners that take no new flows (flows of these owners \
                 without a record moved)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(recorded: u64, kept: u64, taken_over: u64) -> FlowCounts {
        let mut counts = FlowCounts::default();
        counts.0[FlowCount::RecordedAtNew as usize] = recorded;
        counts.0[FlowCount::KeptAtOwner as usize] = kept;
        counts.0[FlowCount::OwnerTakenOver as usize] = taken_over;
        counts
    }

    #[test]
    fn it_is_reported_once_when_it_begins_and_once_when_it_is_over() {
        let mut unrecorded = Unrecorded::default();
        let mut look = |second, counts| unrecorded.look(3, counts, Duration::from_secs(second));
        assert_eq!(look(0, counts(100, 7, 1)), None, "counts from before the first look");
        assert_eq!(look(1, counts(200, 7, 1)), None);
        let begun = "2 of 102 new flows stayed with their slots' owners: the flow table is full (raise `flows`)";
        assert_eq!(look(2, counts(300, 9, 1)), Some(Change::Begun(begun.to_owned())));
        assert_eq!(look(3, counts(400, 19, 4)), None, "it goes on");
        assert_eq!(look(62, counts(500, 19, 4)), None);
        let over = "all are recorded again; 12 of 315 new flows stayed with their slots' owners, and 3 took their \
                    slots over from owners that take no new flows (flows of these owners without a record moved)";
        assert_eq!(look(63, counts(500, 19, 4)), Some(Change::Over(over.to_owned())));
        assert_eq!(look(64, counts(500, 19, 4)), None);
    }

    #[test]
    fn status_has_it_while_it_goes_on() {
        let mut unrecorded = Unrecorded::default();
        unrecorded.look(3, counts(100, 7, 1), Duration::from_secs(9));
        assert_eq!(unrecorded.status(3, Duration::from_secs(9), 50_000), None);
        unrecorded.look(3, counts(200, 9, 1), Duration::from_secs(10));
        unrecorded.look(3, counts(295, 10, 3), Duration::from_secs(20));
        let shown = unrecorded.status(3, Duration::from_secs(21), 50_000).expect("it goes on");
        assert_eq!((shown.since, shown.for_seconds), (39_000, 11));
        assert_eq!((shown.kept, shown.taken_over, shown.of), (3, 2, 200));
        unrecorded.look(3, counts(300, 10, 3), Duration::from_secs(80));
        assert_eq!(unrecorded.status(3, Duration::from_secs(80), 50_000), None, "it is over");
        assert_eq!(unrecorded.status(4, Duration::from_secs(80), 50_000), None);
    }

    #[test]
    fn the_limit_that_was_met_is_named() {
        let mut unrecorded = Unrecorded::default();
        unrecorded.look(3, counts(100, 0, 0), Duration::ZERO);
        let mut with = |kept, over_limit| {
            let mut counts = counts(200, kept, 0);
            counts.0[FlowCount::OverLimit as usize] = over_limit;
            unrecorded.look(3, counts, Duration::from_secs(1));
            unrecorded.status(3, Duration::from_secs(1), 0).expect("it goes on").why
        };
        assert_eq!(with(2, 2), OVER_LIMIT);
        assert_eq!(with(3, 2), format!("{FULL}; {OVER_LIMIT}"));
    }

    #[test]
    fn a_service_that_is_stable_needs_no_records() {
        let mut unrecorded = Unrecorded::default();
        unrecorded.look(3, counts(0, 0, 0), Duration::ZERO);
        assert!(matches!(unrecorded.look(3, counts(0, 1, 0), Duration::ZERO), Some(Change::Begun(_))));
        let over = "no flow needs a record any more; 1 of 1 new flows stayed with their slots' owners";
        assert_eq!(unrecorded.forget(3), Some(Change::Over(over.to_owned())));
        assert_eq!(unrecorded.forget(3), None);
    }
}
