//! Times of a record: when the flow was recorded and last seen, and packets that do not count as the flow's own.

use std::{thread::sleep, time::Duration};

use edge_common::{
    abi::Timeouts,
    flow_table::{Stage, since, units},
    host::{FlowRecord, Memory},
};
use edge_tests::{
    both::{Program, on_host},
    kernel::Arrival,
    namespace::in_namespace,
    packet::{ACK, FIN, Payload, SYN, Tcp},
    world::Side,
};

use super::{
    Flow,
    Meaning::{Concerns, Runs, Starts},
    TCP, Who, both, framed, free_expired, number, put_records, reached, record, recorded_at, set_owner, world,
};

const SLOT: u32 = 33;
/// A second in nanoseconds.
const S: u64 = 1_000_000_000;

#[test]
fn a_record_has_the_times_of_its_creation_and_of_the_last_packet() {
    for side in Side::BOTH {
        for meaning in [Starts, Runs] {
            let world = world(side);
            let memory = world.memory();
            let [first, owner] = [Who::First, Who::Second].map(|who| number(&memory, SLOT, who));
            set_owner(&memory, TCP, SLOT, owner);
            let flow = Flow::into_slot(&world, side, TCP, SLOT, 0);
            let backend = if meaning == Starts { first } else { owner };
            let since = since(units(70 * S + 5));
            let tentative = (meaning == Starts).then_some(Tcp::default().sequence + 1);
            let stage = if meaning == Starts { Stage::HalfOpen } else { Stage::Established };
            let mut made = FlowRecord { since, stage, once: meaning == Runs, tentative, ..recorded_at(backend) };
            // The flow is recorded, found by a packet of either kind, and found by another one at the same time.
            for (now, meaning) in [(70 * S + 5, meaning), (90 * S, Runs), (91 * S, Starts), (91 * S, Runs)] {
                memory.clock_ns.set(now);
                on_host(&memory, Program::Edge, &flow.frame(meaning), Arrival::by(1));
                if meaning == Runs && now != 70 * S + 5 {
                    (made.stage, made.once, made.tentative) = (Stage::Established, false, None);
                }
                assert_eq!(record(&memory, &flow), Some(FlowRecord { seen: units(now), ..made }), "{side:?}");
            }
        }
    }
}

#[test]
fn the_kernels_records_have_times_of_its_own_clock() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut both = both(world(side));
            let owner = number(&both.memory, SLOT, Who::Second);
            set_owner(&both.memory, TCP, SLOT, owner);
            both.change(|_| ());
            let flow = Flow::into_slot(&both.world, side, TCP, SLOT, 0);
            // Time since the flow was last seen, in units.
            let ago = |record: &FlowRecord| units(both.memory.clock_ns.get()).wrapping_sub(record.seen);
            let only = || {
                let all = both.kernel.records(&both.memory).into_values();
                let [only] = all.collect::<Vec<_>>().try_into().expect("one record");
                only
            };
            both.run(&flow.frame(Starts));
            let made: FlowRecord = only();
            assert!(ago(&made) < 3, "{made:?}");
            // A little more than four units.
            sleep(Duration::from_millis(1100));
            assert!(ago(&only()) > 2, "{:?}", only());
            both.run(&flow.frame(Runs));
            let seen = only();
            assert!(ago(&seen) < 3, "{seen:?}");
            assert_eq!((seen.stage, seen.tentative, seen.backend), (Stage::Established, None, made.backend));
            both.compare_state().unwrap_or_else(|error| panic!("{error}"));
        });
    }
}

#[test]
fn what_only_concerns_a_flow_is_none_of_its_packets() {
    for side in Side::BOTH {
        let world = world(side);
        let mut memory = world.memory();
        let flow = Flow::into_slot(&world, side, TCP, SLOT, 0);
        let at = number(&memory, SLOT, Who::Second);
        put_records(&mut memory, &[(flow, recorded_at(at))]);
        let before = record(&memory, &flow);
        memory.clock_ns.set(5 * S);
        let seen = on_host(&memory, Program::Edge, &flow.frame(Concerns), Arrival::by(1));
        assert_eq!(reached(&seen).1, Some(number(&memory, SLOT, Who::Second)), "{side:?}");
        assert_eq!(record(&memory, &flow), before, "{side:?}");
    }
}

#[test]
fn a_client_that_only_listens_stays_for_as_long_as_it_does() {
    for side in Side::BOTH {
        let world = world(side);
        let mut memory = world.memory();
        memory.flows.head.timeouts = Timeouts::STANDARD;
        let [home, owner] = [Who::Third, Who::Second].map(|who| number(&memory, SLOT, who));
        set_owner(&memory, TCP, SLOT, owner);
        let flow = Flow::into_slot(&world, side, TCP, SLOT, 0);
        put_records(&mut memory, &[(flow, recorded_at(home))]);
        let mut listens = flow.packet(Runs);
        if let Payload::Tcp(tcp) = &mut listens.payload {
            (tcp.flags, tcp.data) = (ACK, Vec::new());
        }
        let listens = framed(listens);
        // Bare ACKs of a download, and answers to a server's keepalives, have the same sequence number for hours.
        let to = |now| {
            memory.clock_ns.set(now);
            reached(&on_host(&memory, Program::Edge, &listens, Arrival::by(1))).1
        };
        let mut now = memory.clock_ns.get();
        for timeout in 0..24 {
            now += 295 * S;
            assert_eq!(to(now), Some(home), "{side:?}, after {timeout} timeouts");
            let record = record(&memory, &flow).map(|record| (record.seen, record.stage));
            assert_eq!(record, Some((units(now), Stage::Established)), "{side:?}, after {timeout} timeouts");
        }
    }
}

#[test]
fn a_client_that_has_closed_its_side_has_time_for_the_answer() {
    for side in Side::BOTH {
        let world = world(side);
        let mut memory = world.memory();
        memory.flows.head.timeouts = Timeouts::STANDARD;
        let [home, owner] = [Who::First, Who::Second].map(|who| number(&memory, SLOT, who));
        set_owner(&memory, TCP, SLOT, owner);
        let flow = Flow::into_slot(&world, side, TCP, SLOT, 0);
        let at = |now, flags, more| {
            memory.clock_ns.set(now);
            free_expired(&memory);
            let mut packet = flow.packet(Starts);
            if let Payload::Tcp(tcp) = &mut packet.payload {
                (tcp.flags, tcp.sequence, tcp.data) = (flags, tcp.sequence + more, Vec::new());
            }
            reached(&on_host(&memory, Program::Edge, &framed(packet), Arrival::by(1))).1
        };
        for (now, flags, more) in [(S, SYN, 0), (S, ACK, 1), (2 * S, ACK | FIN, 100)] {
            assert_eq!(at(now, flags, more), Some(home));
        }
        // It acknowledges parts of the answer.
        for now in [3, 33, 77] {
            assert_eq!(at(now * S, ACK, 101), Some(home), "{side:?}, after {now} s");
            assert_eq!(record(&memory, &flow).map(|record| record.stage), Some(Stage::Closed));
        }
        at(123 * S, ACK, 101);
        assert_eq!(record(&memory, &flow).map(|record| record.backend), Some(owner), "{side:?}: it was forgotten");
    }
}

#[test]
fn a_start_does_not_follow_a_record_that_has_expired_though_nobody_frees_it() {
    for side in Side::BOTH {
        let world = world(side);
        let mut memory = world.memory();
        memory.flows.head.timeouts = Timeouts::STANDARD;
        let [pick, owner, home] = [Who::First, Who::Second, Who::Third].map(|who| number(&memory, SLOT, who));
        set_owner(&memory, TCP, SLOT, owner);
        let flow = Flow::into_slot(&world, side, TCP, SLOT, 0);
        let at = |memory: &Memory, now, meaning| {
            memory.clock_ns.set(now);
            reached(&on_host(memory, Program::Edge, &flow.frame(meaning), Arrival::by(1))).1
        };
        put_records(&mut memory, &[(flow, recorded_at(home))]);
        assert_eq!(at(&memory, 290 * S, Starts), Some(home), "{side:?}: it has not expired");
        assert_eq!(at(&memory, 600 * S, Starts), Some(pick), "{side:?}");
        assert_eq!(at(&memory, 600 * S, Runs), Some(pick), "{side:?}");
        put_records(&mut memory, &[(flow, recorded_at(home))]);
        assert_eq!(at(&memory, 1000 * S, Runs), Some(home), "{side:?}: a running flow has no better place");
    }
}
