//! When a flow was recorded and last seen, and packets that only concern it.

use std::{thread::sleep, time::Duration};

use edge_common::abi::FlowRecord;
use edge_tests::{
    both::{Both, Program, on_host},
    kernel::Arrival,
    namespace::in_namespace,
    world::Side,
};

use super::{
    Flow,
    Says::{Concerns, Runs, Starts},
    TCP, Who, both, number, put_records, reached, record, set_owner, world,
};

const SLOT: u32 = 33;
/// A second, nanoseconds.
const S: u64 = 1_000_000_000;

#[test]
fn a_record_says_when_it_was_made_and_when_the_flow_was_last_seen() {
    for side in Side::BOTH {
        for says in [Starts, Runs] {
            let world = world(side);
            let memory = world.memory();
            let [first, owner] = [Who::First, Who::Second].map(|who| number(&memory, SLOT, who));
            set_owner(&memory, TCP, SLOT, owner);
            let flow = Flow::into_slot(&world, side, TCP, SLOT, 0);
            let backend = if says == Starts { first } else { owner };
            let made = FlowRecord { recorded_s: 70, ..flow.record(backend) };
            // Recorded, then found by either packet, then by another one at the same time.
            for (now, says) in [(70 * S + 5, says), (90 * S, Runs), (91 * S, Starts), (91 * S, Runs)] {
                memory.clock_ns.set(now);
                on_host(&memory, Program::Edge, &flow.frame(says), Arrival::by(1));
                assert_eq!(record(&memory, &flow), Some(FlowRecord { seen_ns: now, ..made }), "{side:?}");
            }
        }
    }
}

#[test]
fn the_kernels_records_say_it_by_its_own_clock() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut both = both(world(side));
            let owner = number(&both.memory, SLOT, Who::Second);
            set_owner(&both.memory, TCP, SLOT, owner);
            both.change(|_| ());
            let flow = Flow::into_slot(&both.world, side, TCP, SLOT, 0);
            let only = |both: &Both| {
                let all = both.kernel.flows_v4().into_values().chain(both.kernel.flows_v6().into_values());
                let [only] = all.collect::<Vec<_>>().try_into().expect("one record");
                only
            };
            both.run(&flow.frame(Starts));
            let made: FlowRecord = only(&both);
            assert_eq!(u64::from(made.recorded_s), made.seen_ns / S);
            assert!(made.seen_ns > 0);
            // The coarse clock ticks a few hundred times a second.
            sleep(Duration::from_millis(50));
            both.run(&flow.frame(Runs));
            let seen = only(&both);
            let later = seen.seen_ns - made.seen_ns;
            assert!((20_000_000..20 * S).contains(&later), "seen {later} ns later");
            assert_eq!(seen, FlowRecord { seen_ns: seen.seen_ns, ..made });
            both.compare_state().unwrap_or_else(|error| panic!("{error}"));
        });
    }
}

#[test]
fn what_only_concerns_a_flow_is_none_of_its_packets() {
    for side in Side::BOTH {
        let world = world(side);
        let memory = world.memory();
        let flow = Flow::into_slot(&world, side, TCP, SLOT, 0);
        put_records(&memory, &[(flow, flow.record(number(&memory, SLOT, Who::Second)))]);
        let before = record(&memory, &flow);
        memory.clock_ns.set(5 * S);
        let seen = on_host(&memory, Program::Edge, &flow.frame(Concerns), Arrival::by(1));
        assert_eq!(reached(&seen).1, Some(number(&memory, SLOT, Who::Second)), "{side:?}");
        assert_eq!(record(&memory, &flow), before, "{side:?}");
    }
}
