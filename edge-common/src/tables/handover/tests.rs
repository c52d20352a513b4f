//! A table of all transitions, and random sequences of passes against a reference that remembers all of them.

use proptest::{prelude::*, sample};

use super::*;

const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const A: BackendNumber = 1;
const B: BackendNumber = 2;
const C: BackendNumber = 3;

const fn seen(owner: BackendNumber, pick: BackendNumber) -> SlotState {
    SlotState { owner, pick: if pick == 0 { None } else { Some(pick) }, unrecorded: Unrecorded::Nothing }
}

const fn unrecorded(owner: BackendNumber, pick: BackendNumber) -> SlotState {
    SlotState { unrecorded: Unrecorded::Flow, ..seen(owner, pick) }
}

/// Passes over a single slot, each step with a time, a number of changes and the slot's state; returns their results.
fn passes(flow_idle_timeout: Duration, steps: &[(f64, u32, SlotState)]) -> Vec<Pass> {
    let mut timers = SlotTimers::new(flow_idle_timeout, Duration::ZERO);
    steps.iter().map(|&(at, changes, seen)| timers.reconcile(Duration::from_secs_f64(at), changes, [seen])).collect()
}

/// Time until the handover of the slot, which is not due at this pass; `None` if the slot is stable.
fn rest(pass: &Pass) -> Option<f64> {
    assert_eq!((pass.next, pass.moves.len()), (pass.last, 0), "one slot, which does not move");
    assert_eq!(pass.differing, u32::from(pass.next.is_some()));
    pass.next.map(|rest| rest.as_secs_f64())
}

#[test]
fn every_transition_of_a_slot() {
    // The state after the slot has differed for 6 of 10 seconds, and the time that it then has to wait.
    let cases = [
        ("nothing changed", 0, seen(A, B), Some(4.001)),
        ("something changed, but not here", 1, seen(A, B), Some(4.001)),
        ("its pick changed", 1, seen(A, C), Some(10.001)),
        ("a flow was not recorded", 0, unrecorded(A, B), Some(10.001)),
        ("its pick may have changed twice", 2, seen(A, B), Some(10.001)),
        ("its pick is its owner again", 1, seen(A, A), None),
        ("its owner was taken over by its pick", 0, seen(B, B), None),
        ("a flow was not recorded, but it is stable", 1, unrecorded(A, A), None),
    ];
    for (what, changes, now, expected) in cases {
        let all = passes(IDLE_TIMEOUT, &[(100.0, 1, seen(A, B)), (106.0, changes, now)]);
        assert_eq!(rest(&all[0]), Some(10.001), "a slot that begins to differ waits");
        assert_eq!(rest(&all[1]), expected, "{what}");
    }
}

#[test]
fn a_slot_moves_once_it_has_differed_for_longer_than_the_timeout() {
    let all = passes(IDLE_TIMEOUT, &[(1.0, 1, seen(A, B)), (11.0, 0, seen(A, B)), (11.001, 0, seen(A, B))]);
    assert_eq!(rest(&all[1]), Some(0.001), "not after exactly the timeout");
    assert_eq!(all[2], Pass { moves: vec![Move { slot: 0, from: A, to: B }], ..Pass::default() });
}

#[test]
fn a_start_that_was_not_recorded_has_the_time_of_a_handshake() {
    let minute = Duration::from_mins(1);
    let started = SlotState { unrecorded: Unrecorded::Start, ..seen(A, B) };
    let all = passes(minute, &[(100.0, 1, seen(A, B)), (130.0, 0, started), (155.0, 0, started), (164.0, 0, started)]);
    assert_eq!([1, 2, 3].map(|nth| rest(&all[nth])), [Some(30.001), Some(10.001), Some(10.001)]);
    let all = passes(minute, &[(100.0, 1, seen(A, B)), (161.0, 0, started), (172.0, 0, seen(A, B))]);
    assert_eq!((rest(&all[1]), all[2].moves.len()), (Some(10.001), 1), "also if the slot was due");
    // With a shorter idle timeout it has that time.
    let all = passes(Duration::from_secs(4), &[(100.0, 1, seen(A, B)), (103.0, 0, started)]);
    assert_eq!(rest(&all[1]), Some(4.001));
}

#[test]
fn a_slot_that_was_stable_in_between_waits_the_whole_timeout() {
    let all = passes(
        IDLE_TIMEOUT,
        &[(1.0, 1, seen(A, B)), (9.0, 1, seen(A, A)), (10.0, 1, seen(A, B)), (15.0, 0, seen(A, B))],
    );
    assert_eq!(rest(&all[3]), Some(5.001));
}

#[test]
fn a_slot_that_nobody_takes_differs_and_never_moves() {
    let nobody = seen(A, 0);
    let mut timers = SlotTimers::new(IDLE_TIMEOUT, Duration::ZERO);
    for at in [1, 20, 1_000_000] {
        let pass = timers.reconcile(Duration::from_secs(at), 0, [nobody, seen(B, B)]);
        assert_eq!(pass, Pass { differing: 1, ..Pass::default() });
    }
    let pass = timers.reconcile(Duration::from_secs(1_000_001), 1, [seen(A, B)]);
    assert_eq!(rest(&pass), Some(10.001), "it waits from when somebody takes it");
    assert_eq!(
        timers.reconcile(Duration::from_secs(1_000_002), 1, [seen(0, 0)]),
        Pass::default(),
        "nobody's, and stable"
    );
}

#[test]
fn without_records_a_slot_moves_at_the_first_pass() {
    for (changes, seen) in [(0, seen(A, B)), (1, seen(A, B)), (7, unrecorded(A, B))] {
        let all = passes(Duration::ZERO, &[(0.0, changes, seen)]);
        assert_eq!(all[0], Pass { moves: vec![Move { slot: 0, from: A, to: B }], ..Pass::default() });
    }
    assert_eq!(passes(Duration::ZERO, &[(0.0, 1, seen(A, 0))])[0], Pass { differing: 1, ..Pass::default() });
}

#[test]
fn each_slot_waits_for_itself() {
    let mut timers = SlotTimers::new(IDLE_TIMEOUT, Duration::ZERO);
    let at = Duration::from_secs;
    timers.reconcile(at(1), 1, [seen(A, B), seen(A, A), seen(C, C)]);
    timers.reconcile(at(5), 1, [seen(A, B), seen(A, B), seen(C, C)]);
    let pass = timers.reconcile(at(8), 0, [seen(A, B), unrecorded(A, B), seen(C, C)]);
    assert_eq!((pass.differing, pass.next, pass.last), (2, Some(at(3) + MS), Some(at(10) + MS)));
    let pass = timers.reconcile(at(12), 0, [seen(A, B), seen(A, B), seen(C, C)]);
    assert_eq!(pass.moves, [Move { slot: 0, from: A, to: B }]);
    assert_eq!((pass.differing, pass.next), (1, Some(at(6) + MS)));
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_move_that_was_not_done_is_asked_for_again() {
    let all = passes(IDLE_TIMEOUT, &[(1.0, 1, seen(A, B)), (12.0, 0, seen(A, B)), (13.0, 0, seen(A, B))]);
    assert_eq!(all[1].moves, all[2].moves);
}

#[test]
fn a_clock_that_goes_back_makes_nobody_older() {
    let all = passes(IDLE_TIMEOUT, &[(50.0, 1, seen(A, B)), (3.0, 0, seen(A, B)), (55.0, 0, seen(A, B))]);
    assert_eq!((rest(&all[1]), rest(&all[2])), (Some(10.001), Some(5.001)));
}

#[test]
fn a_clock_of_many_days_is_a_clock() {
    // The milliseconds wrap after 2^32.
    let begin = 4_294_967.296 * 3.0 - 4.0;
    let all =
        passes(IDLE_TIMEOUT, &[(begin, 1, seen(A, B)), (begin + 9.0, 0, seen(A, B)), (begin + 10.5, 0, seen(A, B))]);
    assert!((rest(&all[1]).expect("it waits") - 1.001).abs() < 0.0015);
    assert_eq!(all[2].moves.len(), 1);
}

#[test]
fn records_that_are_needed_no_more() {
    let cases = [
        ("its flow runs, and the owner is another one", B, Some(B), false),
        ("its owner is about to change", A, Some(B), false),
        ("the owner has nobody to follow", A, None, false),
        ("the pick is its backend, the owner not yet", B, Some(A), false),
        ("the stable owner says the same", A, Some(A), true),
    ];
    for (what, owner, pick, expected) in cases {
        assert_eq!(is_redundant(A, owner, pick), expected, "{what}");
    }
}

/// A step: milliseconds since the last pass, changes, and what is seen in each of three slots.
type Step = (u64, u32, [SlotState; 3]);

fn any_step() -> impl Strategy<Value = Step> {
    let gap = sample::select(vec![1u64, 500, 999, 1000, 3000, 9999, 10_000, 10_001, 40_000]);
    let slot = (sample::select(vec![A, A, A, B]), sample::select(vec![0, A, B, B, B, B, C]), 0u8..40);
    let slot = slot.prop_map(|(owner, pick, mark)| SlotState {
        unrecorded: if mark < 3 { Unrecorded::from_raw(mark) } else { Unrecorded::Nothing },
        ..seen(owner, pick)
    });
    (gap, sample::select(vec![0u32, 0, 0, 1, 1, 2, 9]), [slot.clone(), slot.clone(), slot])
}

/// Idle timeout of these sequences, which is longer than a handshake.
const LONGER: Duration = Duration::from_secs(13);

/// Start of the slot's wait for its pick at the last of `steps`, each of which is a time, a number of changes, and a state.
fn reference(steps: &[(Duration, u32, SlotState)]) -> Option<Duration> {
    let (_, _, last) = steps.last()?;
    last.pick.filter(|pick| *pick != last.owner)?;
    let (mut since, mut not_before) = (None, Duration::ZERO);
    for (at, changes, seen) in steps.iter().rev() {
        if seen.pick != last.pick || seen.pick == Some(seen.owner) {
            break;
        }
        since = Some(*at);
        if *changes > 1 || seen.unrecorded == Unrecorded::Flow {
            break;
        }
        if seen.unrecorded == Unrecorded::Start {
            not_before = not_before.max(at.saturating_sub(LONGER.saturating_sub(Duration::from_secs(10))));
        }
    }
    since.map(|since: Duration| since.max(not_before))
}

proptest! {
    #[test]
    fn every_look_says_what_one_says_that_remembers_all(
        begin in 0u64..1 << 34,
        steps in prop::collection::vec(any_step(), 1..40),
    ) {
        let mut now = Duration::from_millis(begin);
        let mut timers = SlotTimers::new(LONGER, now);
        let mut history: [Vec<_>; 3] = Default::default();
        for (gap, changes, slots) in steps {
            now += Duration::from_millis(gap);
            let pass = timers.reconcile(now, changes, slots);
            let (mut moves, mut waits, mut differing) = (Vec::new(), Vec::new(), 0);
            for (slot, (history, seen)) in (0..).zip(history.iter_mut().zip(slots)) {
                history.push((now, changes, seen));
                match (reference(history), seen.pick) {
                    (Some(since), Some(to)) if now > since + LONGER => moves.push(Move { slot, from: seen.owner, to }),
                    (Some(since), _) => waits.push((since + LONGER + MS).saturating_sub(now)),
                    (None, pick) => differing += u32::from(pick != Some(seen.owner)),
                }
            }
            differing += u32::try_from(waits.len()).unwrap();
            let (next, last) = (waits.iter().min().copied(), waits.iter().max().copied());
            prop_assert_eq!(pass, Pass { moves, differing, next, last });
        }
    }

    /// Times that are not whole milliseconds are never rounded in favour of a handover.
    #[test]
    fn no_slot_moves_within_the_timeout(
        flow_idle_timeout in 1u64..5_000_000_000,
        gaps in prop::collection::vec(0u64..2_000_000_000, 1..20),
    ) {
        let flow_idle_timeout = Duration::from_nanos(flow_idle_timeout);
        let mut now = Duration::from_nanos(123_456_789);
        let begin = now;
        let mut timers = SlotTimers::new(flow_idle_timeout, now);
        timers.reconcile(now, 1, [seen(A, B)]);
        for gap in gaps {
            now += Duration::from_nanos(gap);
            let pass = timers.reconcile(now, 0, [seen(A, B)]);
            let waited = now.saturating_sub(begin);
            prop_assert!(pass.moves.is_empty() || waited > flow_idle_timeout, "moved after {waited:?} of {flow_idle_timeout:?}");
            prop_assert!(!pass.moves.is_empty() || waited < flow_idle_timeout + 3 * MS, "waits after {waited:?} of {flow_idle_timeout:?}");
        }
    }
}
