//! The number of flows that may be recorded in a second, separately for starting and for running flows.

use std::{iter::repeat_n, thread::sleep, time::Duration};

use edge_common::abi::FlowCount::{
    self, InsertFailed, KeptAtOwner, Lookups, OverLimit, RecordedAtNew, RecordedAtOwner,
};
use edge_tests::{
    both::{Program, on_host},
    kernel::Arrival,
    namespace::in_namespace,
    world::{Side, World},
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use super::{
    Flow,
    Meaning::{Runs, Starts},
    TCP, Who, both_with_room, counted, number, record, set_owner, world,
};

const SLOT: u32 = 9;
/// A second of the packet path, nanoseconds.
const SECOND: u64 = 1 << 30;

/// A world with a limit of records per second.
fn limited(side: Side, limit: u32) -> World {
    let mut world = world(side);
    world.records_per_second = limit;
    world
}

/// Starts `each` flows of the slot, and lets as many others run, alternately; flows from number `first` on are new.
fn send_each(world: &World, side: Side, first: usize, each: usize, mut send: impl FnMut(&[u8])) {
    for nth in (first..).step_by(2).take(each) {
        send(&Flow::into_slot(world, side, TCP, SLOT, nth).frame(Starts));
        send(&Flow::into_slot(world, side, TCP, SLOT, nth + 1).frame(Runs));
    }
}

/// The expected counts if the owner is alive, but takes no new flows.
fn expected(limit: usize, each: usize) -> Vec<FlowCount> {
    let recorded = limit.min(each);
    let rest = each - recorded;
    let counts = [
        (Lookups, 2 * each),
        (RecordedAtNew, recorded),
        (RecordedAtOwner, recorded),
        (KeptAtOwner, rest),
        (InsertFailed, rest),
        (OverLimit, 2 * rest),
    ];
    counts.into_iter().flat_map(|(what, times)| repeat_n(what, times)).collect()
}

#[test]
fn each_second_has_its_own_records_and_each_kind_of_them() {
    for side in Side::BOTH {
        for limit in [0, 1, 2, 3, 5] {
            let world = limited(side, limit);
            let memory = world.memory();
            set_owner(&memory, TCP, SLOT, number(&memory, SLOT, Who::Second));
            // Also late in a second, and after some seconds without packets.
            for (nth, now) in [0, SECOND, 4 * SECOND - 1, 4 * SECOND, 1000 * SECOND + 5].into_iter().enumerate() {
                memory.clock_ns.set(now);
                let before = memory.flow_counts(TCP);
                send_each(&world, side, 6 * nth, 3, |frame| {
                    on_host(&memory, Program::Edge, frame, Arrival::by(1));
                });
                let found = counted(before, memory.flow_counts(TCP));
                assert_eq!(found, expected(limit as usize, 3), "{side:?}, {limit} a second, at {now}");
            }
        }
    }
}

#[test]
fn flows_that_need_no_record_take_none_from_others() {
    let (world, side) = (limited(Side::V4, 1), Side::V4);
    let memory = world.memory();
    let send = |nth, meaning| {
        let frame = Flow::into_slot(&world, side, TCP, SLOT, nth).frame(meaning);
        on_host(&memory, Program::Edge, &frame, Arrival::by(1));
    };
    let at = |nth| record(&memory, &Flow::into_slot(&world, side, TCP, SLOT, nth)).map(|record| record.backend);
    // The owner takes new flows: no record is needed.
    (0..5).for_each(|nth| [Starts, Runs].into_iter().for_each(|meaning| send(nth, meaning)));
    let [first, second] = [Who::First, Who::Second].map(|who| number(&memory, SLOT, who));
    set_owner(&memory, TCP, SLOT, second);
    // Recorded once, and found afterwards.
    (0..5).for_each(|_| [Starts, Runs].into_iter().for_each(|meaning| send(5, meaning)));
    (0..5).for_each(|_| send(6, Runs));
    assert_eq!([at(5), at(6)], [Some(first), Some(second)]);
    [Starts, Runs].into_iter().zip([7, 8]).for_each(|(meaning, nth)| send(nth, meaning));
    assert_eq!([at(7), at(8)], [None, None], "that was all");
}

#[test]
fn the_kernel_counts_the_same_in_seconds_of_its_own_clock() {
    for side in Side::BOTH {
        in_namespace(|| {
            stay_on_one_cpu();
            assert!((0..10).any(|_| in_whole_seconds(side)), "ten times in a row a second ended in the middle");
        });
    }
}

/// Pins this thread to one CPU, so that only one CPU's limit applies.
fn stay_on_one_cpu() {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("CPUs");
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).expect("a CPU")).expect("some CPU");
    let mut only = CpuSet::new();
    only.set(first).expect("a CPU");
    sched_setaffinity(this, &only).expect("an allowed CPU");
}

/// Uses up the limit in one second, and again in a later one. `false` if a second ended meanwhile, so that nothing is
/// proved.
fn in_whole_seconds(side: Side) -> bool {
    let mut both = both_with_room(limited(side, 2), 64);
    let owner = number(&both.memory, SLOT, Who::Second);
    set_owner(&both.memory, TCP, SLOT, owner);
    both.change(|_| ());
    for nth in 0..2 {
        let (start, before) = (second(), both.memory.flow_counts(TCP));
        send_each(&both.world, side, 20 * nth, 4, |frame| drop(both.run(frame)));
        let found = counted(before, both.memory.flow_counts(TCP));
        if second() != start {
            return false;
        }
        assert_eq!(found, expected(2, 4));
        both.compare_state().unwrap_or_else(|error| panic!("{side:?}: {error}"));
        while second() == start {
            sleep(Duration::from_millis(20));
        }
        both.memory.clock_ns.set(both.memory.clock_ns.get() + SECOND);
    }
    true
}

/// The current second of the kernel's clock.
fn second() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("a clock");
    let now = u64::try_from(Duration::from(now).as_nanos()).expect("some years");
    now / SECOND
}
