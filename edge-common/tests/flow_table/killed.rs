//! Whoever writes may be stopped before any access: nothing is lost by it but, for a while, one place.

use std::{
    cell::Cell,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicU32, AtomicU64},
};

use edge_common::flow_table::{Native, Signal, Stage, Word, Words, life::ABANDONED};

use crate::state::{State, served};

thread_local! {
    /// Accesses until this thread is stopped.
    static LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
}

/// Words that stop who accesses them.
#[derive(Clone, Copy, Debug, Default)]
struct Mortal;

#[derive(Debug, Default)]
struct MortalWord<A>(A);

struct Stopped;

impl Words for Mortal {
    type U32 = MortalWord<AtomicU32>;
    type U64 = MortalWord<AtomicU64>;
}

fn tick() {
    match LEFT.get() {
        u32::MAX => {}
        0 => resume_unwind(Box::new(Stopped)),
        left => LEFT.set(left - 1),
    }
}

impl<T, A: Word<T>> Word<T> for MortalWord<A> {
    fn load(&self) -> T {
        tick();
        self.0.load()
    }

    fn store(&self, value: T) {
        tick();
        self.0.store(value);
    }

    fn replace_if(&self, old: T, new: T) -> bool {
        tick();
        self.0.replace_if(old, new)
    }
}

const ENTRIES: u32 = 16;

/// Stops `action` before each of its accesses, each time in a new table that `prepare` has filled. Then checks the table, lets
/// time go by, and has each place taken once.
fn stopped_anywhere(prepare: impl Fn(&mut State<Mortal>), action: impl Fn(&State<Mortal>)) -> u32 {
    for accesses in 0.. {
        let mut state = State::new(ENTRIES);
        prepare(&mut state);
        let before = state.flows();
        LEFT.set(accesses);
        let ran = catch_unwind(AssertUnwindSafe(|| action(&state)));
        LEFT.set(u32::MAX);
        if ran.is_ok() {
            return accesses;
        }
        state.check();
        let after = state.flows();
        let changed = before.keys().filter(|flow| !after.contains_key(flow)).count()
            + after.keys().filter(|flow| !before.contains_key(flow)).count();
        assert!(changed <= 2, "{changed} flows came or went");
        let busy = (0..ENTRIES).filter(|number| state.life(*number).is_busy()).count();
        assert!(busy <= 2, "{busy} places held");

        // What was held is free again, and flows that live and are not idle go on.
        let kept: Vec<_> =
            after.iter().filter(|(_, number)| state.life(**number).stage() == Stage::Established).collect();
        state.now += ABANDONED.unsigned_abs() + 2;
        for flow in 1000..1000 + 10 * ENTRIES {
            let _full = state.insert(flow, Stage::Established);
        }
        let flows = state.flows();
        assert_eq!(flows.len(), ENTRIES as usize, "a place that nobody gets, after {accesses} accesses");
        assert!(kept.iter().all(|(flow, number)| flows.get(flow) == Some(number)));
        state.check_clean();

        // And each place once more, for flows of which none was there before.
        state.now += 1002;
        let added = (2000..2000 + 10 * ENTRIES).filter(|flow| state.insert(*flow, Stage::Established).is_ok());
        assert_eq!(added.count(), ENTRIES as usize);
        state.check_clean();
    }
    unreachable!("an action without end")
}

fn fill(state: &State<Mortal>, flows: Range<u32>, stage: Stage) {
    for flow in flows {
        state.insert(flow, stage).expect("room");
    }
}

#[test]
fn while_it_adds_a_flow() {
    let accesses = stopped_anywhere(
        |state| fill(state, 0..8, Stage::Established),
        |state| {
            state.insert(100, Stage::Established).expect("room");
        },
    );
    assert!(accesses > 40, "{accesses} accesses");
}

#[test]
fn while_it_takes_the_place_of_a_flow_that_is_gone() {
    stopped_anywhere(
        |state| {
            fill(state, 0..8, Stage::HalfOpen);
            fill(state, 8..16, Stage::Established);
            state.now += 60;
        },
        |state| {
            state.insert(100, Stage::Established).expect("what is gone");
        },
    );
}

#[test]
fn while_it_takes_the_place_of_a_weak_flow() {
    stopped_anywhere(
        |state| {
            fill(state, 0..16, Stage::HalfOpen);
            state.now += 13;
        },
        |state| {
            state.insert(100, Stage::Established).expect("the weakest");
        },
    );
}

#[test]
fn while_it_removes_a_flow() {
    stopped_anywhere(
        |state| fill(state, 0..16, Stage::Established),
        |state| {
            state.table().remove(&state.find(3).expect("added"));
        },
    );
}

#[test]
fn while_it_touches_a_flow() {
    stopped_anywhere(
        |state| fill(state, 0..16, Stage::HalfOpen),
        |state| {
            assert!(state.table().touch(&state.find(3).expect("added"), Signal::Data, served(3).sequence));
        },
    );
}

#[test]
fn while_it_takes_the_slot_of_a_flow_that_is_gone() {
    let mut taken = 0;
    for accesses in 0.. {
        let mut state = State::<Mortal>::with_few_slots(ENTRIES);
        // Both buckets are full, with a flow in each second slot that is gone.
        while state.arrays.buckets.iter().flatten().any(|slot| slot.load() == 0) {
            let stage = if taken % 2 == 0 { Stage::HalfOpen } else { Stage::Established };
            let _full = state.insert(taken, stage);
            taken += 1;
        }
        state.now += 60;
        LEFT.set(accesses);
        let ran = catch_unwind(AssertUnwindSafe(|| state.insert(1_000_000, Stage::Established)));
        LEFT.set(u32::MAX);
        state.check();
        if let Ok(added) = ran {
            added.expect("a slot");
            return;
        }
        state.now += ABANDONED.unsigned_abs() + 2;
        for flow in 2_000_000..2_000_100 {
            let _full = state.insert(flow, Stage::Established);
        }
        assert_eq!(state.flows().len(), 8, "a slot that nobody gets, after {accesses} accesses");
        state.check_clean();
    }
}

#[test]
fn words_that_stop_nobody_are_native_ones() {
    LEFT.set(u32::MAX);
    let (mortal, native) = (State::<Mortal>::new(ENTRIES), State::<Native>::new(ENTRIES));
    for flow in 0..40 {
        assert_eq!(mortal.insert(flow, Stage::Established), native.insert(flow, Stage::Established));
    }
    assert_eq!(mortal.flows(), native.flows());
}
