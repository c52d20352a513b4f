//! When a flow was recorded and last seen, and packets that only concern it.

use std::{thread::sleep, time::Duration};

use edge_common::{
    abi::{FlowCount, FlowCounts, FlowRecord, Target, Tracking},
    host::{Frame, Memory},
    pipeline::{self, Place},
    tables::Tables as _,
};
use edge_tests::{
    both::{Both, Program, on_host},
    kernel::Arrival,
    namespace::in_namespace,
    packet::{Ip, protocol},
    world::{DOWN, Side, World},
};

use super::{
    Flow, PORT,
    Says::{Runs, Starts},
    TCP, UDP, Who, both, counted, framed, number, put_records, record, records, set_lane, world,
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
            set_lane(&mut memory.owners.borrow_mut(), TCP, SLOT, owner);
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
            set_lane(&mut both.memory.owners.borrow_mut(), TCP, SLOT, owner);
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
            both.settle().unwrap_or_else(|error| panic!("{error}"));
        });
    }
}

/// Asks on the host where a packet goes that only concerns a flow: one from the VIP to the client, quoted in an error.
fn concerned(world: &World, memory: &Memory, flow: &Flow) -> Option<u16> {
    let asked = flow.packet(Runs);
    let quoted = Frame::new(&framed(Ip::new(asked.destination, asked.source, asked.payload)));
    let ([a, b], [c, d]) = (flow.source.to_be_bytes(), PORT.to_be_bytes());
    let place = Place {
        l3: 14,
        protocol: if flow.service == TCP { protocol::TCP } else { protocol::UDP },
        ports: u32::from_le_bytes([a, b, c, d]),
        half: 1,
        starts: false,
        v6: asked.source.is_ipv6(),
        quoted: true,
    };
    let owners = memory.service(1, flow.service).expect("a service").owners;
    assert_eq!(owners, flow.service * world.owner_cells());
    let hash = World::flow(flow.client, flow.source, PORT);
    let found = pipeline::choose(&quoted, memory, Target::new(flow.service, owners), hash, place).split();
    found.ok().map(|chosen| chosen.backend)
}

#[test]
fn what_only_concerns_a_flow_goes_where_it_goes_and_changes_nothing() {
    for side in Side::BOTH {
        for tracking in [Tracking::Tcp, Tracking::Quic, Tracking::Learn] {
            let service = if tracking == Tracking::Tcp { TCP } else { UDP };
            let mut world = world(side);
            world.services[service as usize].tracking = tracking;
            let flow = Flow::into_slot(&world, side, service, SLOT, 0);
            let memory = world.memory();
            let who = |who| number(&memory, SLOT, who);
            let [first, second, third] = [who(Who::First), who(Who::Second), who(Who::Third)];
            for (name, owner, recorded, dead, goes, found) in [
                ("nothing is recorded, the owner another one", second, None, None, second, false),
                ("recorded", first, Some(third), None, third, true),
                ("the record's backend is dead", second, Some(third), Some(third), second, false),
                ("the owner is dead", second, None, Some(second), first, false),
                ("the owner is dead, the flow recorded", second, Some(third), Some(second), third, true),
            ] {
                let mut world = world.clone();
                if let Some(backend) = dead {
                    world.backends[usize::from(backend)].state = DOWN;
                }
                let memory = world.memory();
                memory.clock_ns.set(5 * S);
                set_lane(&mut memory.owners.borrow_mut(), service, SLOT, owner);
                let own = recorded.map(|backend| (flow, flow.record(backend)));
                put_records(&memory, own.as_slice());
                let (before, owners) = (records(&memory), memory.owners.borrow().clone());
                assert_eq!(concerned(&world, &memory, &flow), Some(goes), "{name}, {side:?}, {tracking:?}");
                assert_eq!(records(&memory), before, "{name}: not even the time");
                assert_eq!(*memory.owners.borrow(), owners, "{name}");
                assert!(memory.missed.borrow().iter().all(|cell| cell.0 == [0; 4]), "{name}");
                let counts = counted(FlowCounts::default(), memory.flow_counts(service));
                let expected: &[_] = if found { &[FlowCount::Asked, FlowCount::Found] } else { &[FlowCount::Asked] };
                assert_eq!(counts, expected, "{name}");
            }
        }
    }
}
