//! Invariants of any sequence: no packet takes another flow's record, no flow moves while its backend lives, and a
//! stable service looks up no record.

use edge_common::{
    abi::{Failover, FlowCounts, FlowEnds, State, Tracking, WhenExhausted},
    flow_table::Stage,
    host::{FlowRecord, Flows, Memory},
};
use edge_tests::{
    both::{Both, Program, on_host},
    kernel::Arrival,
    namespace::in_namespace,
    world::{DISABLED, DOWN, DRAINED, Side, UP, World},
};
use proptest::{prelude::*, sample};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::{
    Flow,
    Meaning::{self, Runs, Starts},
    ROOM, SLOTS, TCP, UDP, Who, both, number, reached, record, records, world,
};

const STATES: [u32; 7] = [UP, UP, UP, DRAINED, DOWN, DISABLED, State::RETIRED | State::ALIVE];
const TRACKINGS: [Tracking; 3] = [Tracking::Tcp, Tracking::Quic, Tracking::Learn];

/// An event of a sequence.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// A packet of a flow, with or without options.
    Packet {
        flow: usize,
        meaning: Meaning,
        slow: bool,
    },
    /// A backend's state changes.
    State {
        backend: usize,
        state: u32,
    },
    Failover(Failover),
    /// Another second passes.
    Second,
}

fn happens(evacuations: bool) -> impl Strategy<Value = Happens> {
    let packet = (0usize..16, any::<bool>(), any::<bool>()).prop_map(|(flow, starts, slow)| Happens::Packet {
        flow,
        meaning: if starts { Starts } else { Runs },
        slow,
    });
    let state =
        (1usize..7, sample::select(STATES.to_vec())).prop_map(|(backend, state)| Happens::State { backend, state });
    let failover = (0u8..3, any::<bool>())
        .prop_map(move |(first, evacuate)| Happens::Failover(Failover { first, evacuate: evacuate && evacuations }));
    prop_oneof![20 => packet, 4 => state, 1 => failover, 1 => Just(Happens::Second)]
}

/// Some flows of each service, a few of which share a slot.
fn flows(world: &World, side: Side) -> Vec<Flow> {
    let flow = |nth: usize| {
        let slot = [7, 7, 20, 51][nth / 2 % 4];
        Flow::into_slot(world, side, [TCP, UDP][nth % 2], slot, nth)
    };
    (0..16).map(flow).collect()
}

/// Applies an event other than a packet to the host's world. As with the real controller, stable services are in
/// transition afterwards.
fn upset(world: &mut World, memory: &mut Memory, what: Happens) {
    match what {
        Happens::Packet { .. } => {}
        Happens::State { backend, state } => world.backends[backend].state = state,
        Happens::Failover(failover) => world.services.iter_mut().for_each(|service| service.failover = failover),
        Happens::Second => memory.clock_ns.set(memory.clock_ns.get() + (1 << 30)),
    }
    world.services.iter_mut().for_each(|service| service.in_transition = true);
    let new = world.memory_after(memory);
    (memory.services, memory.pools) = (new.services, new.pools);
    (memory.backends, memory.candidates, memory.slots) = (new.backends, new.candidates, new.slots);
}

/// A world whose services use this tracking if it fits their protocol.
fn world_of(side: Side, mode: Tracking, policy: WhenExhausted) -> World {
    let mut world = world(side);
    world.services[UDP as usize].tracking = tracking(mode, UDP);
    world.services.iter_mut().for_each(|service| service.when_exhausted = policy);
    world
}

fn policy() -> impl Strategy<Value = WhenExhausted> {
    sample::select(vec![WhenExhausted::Open, WhenExhausted::Reject, WhenExhausted::Drop])
}

fn frame(flow: &Flow, meaning: Meaning, slow: bool) -> Vec<u8> {
    if slow { flow.slow_frame(meaning) } else { flow.frame(meaning) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn no_packet_costs_another_flow_its_record(
        side in sample::select(Side::BOTH.to_vec()),
        mode in sample::select(TRACKINGS.to_vec()),
        policy in policy(),
        stable: bool,
        limit in sample::select(vec![0u32, 1, 3, 1 << 30]),
        room in sample::select(vec![1usize, 2, 4, 8]),
        happening in prop::collection::vec(happens(true), 1..150),
    ) {
        let mut world = world_of(side, mode, policy);
        world.records_per_second = limit;
        world.services.iter_mut().for_each(|service| service.in_transition = !stable);
        let flows = flows(&world, side);
        let mut memory = world.memory();
        memory.flows = Flows::new(room);
        for what in happening {
            let Happens::Packet { flow, meaning, slow } = what else {
                upset(&mut world, &mut memory, what);
                continue;
            };
            let flow = &flows[flow];
            let (mut before, recorded) = (records(&memory), record(&memory, flow).is_some());
            on_host(&memory, Program::Edge, &frame(flow, meaning, slow), Arrival::by(1));
            let after = records(&memory);
            prop_assert!(after.len() <= room);
            // Records of flows that are over, or of which only one packet was seen, may give way.
            before.retain(|ends, record| {
                *ends != flow.ends() && record.stage == Stage::Established && !record.once
            });
            for (ends, record) in &before {
                prop_assert_eq!(after.get(ends), Some(record), "{:?} of {:?}, recorded: {}", meaning, flow, recorded);
            }
        }
    }

    #[test]
    fn no_flow_moves_while_its_backend_lives(
        side in sample::select(Side::BOTH.to_vec()),
        mode in sample::select(TRACKINGS.to_vec()),
        policy in policy(),
        stable: bool,
        happening in prop::collection::vec(happens(false), 1..150),
    ) {
        let mut world = world_of(side, mode, policy);
        world.services.iter_mut().for_each(|service| service.in_transition = !stable);
        let flows = flows(&world, side);
        let mut memory = world.memory();
        let goes = |memory: &Memory, flow: &Flow, meaning, slow| {
            reached(&on_host(memory, Program::Edge, &frame(flow, meaning, slow), Arrival::by(1))).1
        };
        let stateless = |flow: &Flow| tracking(mode, flow.service) == Tracking::Stateless;
        // Backend of each flow; none once the backend has died.
        let mut homes: Vec<_> = flows.iter().map(|flow| goes(&memory, flow, Runs, false)).collect();
        for what in happening {
            let Happens::Packet { flow: nth, meaning, slow } = what else {
                upset(&mut world, &mut memory, what);
                for home in &mut homes {
                    *home = home.filter(|home| State(world.backends[usize::from(*home)].state).has_all(State::ALIVE));
                }
                continue;
            };
            let (flow, home) = (&flows[nth], homes[nth]);
            let to = goes(&memory, flow, meaning, slow);
            let starts = meaning == Starts && tracking(mode, flow.service) != Tracking::Learn;
            if stateless(flow) {
                continue;
            }
            if starts {
                homes[nth] = to.or(home);
                // A repetition of the first packet, however late.
                prop_assert_eq!(goes(&memory, flow, meaning, slow), to);
            } else if home.is_some() {
                prop_assert_eq!(to, home, "{:?} {:?}", what, flow);
            } else if tracking(mode, flow.service) == Tracking::Learn {
                let lives = |to: &u16| State(world.backends[usize::from(*to)].state).has_all(State::ALIVE);
                homes[nth] = to.filter(lives);
            }
        }
    }
}

/// The tracking of a service in a world with this tracking.
fn tracking(mode: Tracking, service: u32) -> Tracking {
    match (service, mode) {
        (TCP, _) => Tracking::Tcp,
        (_, Tracking::Tcp) => Tracking::Stateless,
        (_, mode) => mode,
    }
}

#[test]
fn a_stable_service_needs_no_record_for_any_packet() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut both = both(world(side));
            for mode in TRACKINGS {
                both.change(|world| {
                    world.services[UDP as usize].tracking = tracking(mode, UDP);
                    world.services.iter_mut().for_each(|service| service.in_transition = false);
                });
                for slot in 0..SLOTS {
                    for service in [TCP, UDP] {
                        let flow = Flow::into_slot(&both.world, side, service, slot, 1);
                        let owner = number(&both.memory, slot, Who::First);
                        for (meaning, slow) in [(Starts, false), (Runs, false), (Starts, true), (Runs, true)] {
                            assert_eq!(reached(&both.run(&frame(&flow, meaning, slow))).1, Some(owner));
                        }
                    }
                }
            }
            assert_eq!([TCP, UDP].map(|service| both.memory.service_traffic(service).packets), [3 * 4 * 64; 2]);
            assert_eq!([TCP, UDP].map(|service| both.memory.flow_counts(service)), [FlowCounts::default(); 2]);
            assert!(both.memory.in_transition.borrow().is_empty());
            assert!(records(&both.memory).is_empty());
            both.compare_state().unwrap_or_else(|error| panic!("{error}"));
        });
    }
}

#[test]
fn a_flood_of_new_flows_costs_no_flow_its_record_in_the_kernel() {
    const SEED: u64 = 0x00f1_00d5;
    println!("seed {SEED:#x}");
    for side in Side::BOTH {
        let mut random = StdRng::seed_from_u64(SEED);
        in_namespace(|| {
            let mut both = both(world_of(side, Tracking::Learn, WhenExhausted::Open));
            let mut full = 0;
            for step in 0..60 {
                both.change(|world| {
                    let backend = random.random_range(1..world.backends.len());
                    world.backends[backend].state = *STATES.choose(&mut random).expect("some");
                });
                for _ in 0..20 {
                    let service = *[TCP, UDP].choose(&mut random).expect("some");
                    let slot = random.random_range(0..SLOTS);
                    let flow = Flow::into_slot(&both.world, side, service, slot, random.random_range(0..40));
                    let meaning = *[Starts, Runs].choose(&mut random).expect("some");
                    let mut before = in_kernel(&both);
                    both.run(&frame(&flow, meaning, random.random()));
                    let mut after = in_kernel(&both);
                    full += usize::from(after.len() == ROOM);
                    for records in [&mut before, &mut after] {
                        records.retain(|(ends, _)| *ends != flow.ends());
                    }
                    assert_eq!(before, after, "step {step}: {meaning:?} of {flow:?}");
                }
                both.compare_state().unwrap_or_else(|error| panic!("step {step}: {error}"));
            }
            assert!(full > 300, "the table was full {full} times");
        });
    }
}

/// All records in the kernel's maps without their times.
fn in_kernel(both: &Both) -> Vec<(FlowEnds, FlowRecord)> {
    let records = both.kernel.records(&both.memory).into_iter();
    records.map(|(ends, record)| (ends, FlowRecord { since: 0, seen: 0, ..record })).collect()
}
