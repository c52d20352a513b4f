//! Compares selection with a small reference model, on the host, in worlds of every shape.

use super::{
    SLOTS,
    model::{self, Becomes, Flow},
    ports, reached, recorded, slot_of, tcp,
};
use edge_common::{
    abi::{Failover, State, WhenExhausted},
    host::{Flows, Memory},
};
use edge_tests::{
    both::{Program, on_host},
    kernel::Arrival,
    packet::{ACK, SYN},
    world::{DISABLED, DOWN, DRAINED, UP, World},
};
use proptest::{prelude::*, sample};

fn state() -> impl Strategy<Value = u32> {
    let unknown = State::NEW | State::ALIVE | State::ENABLED;
    let states = sample::select(vec![UP, UP, UP, unknown, DRAINED, DOWN, DISABLED]);
    // The slots of these worlds are among the first in the order in which slots return.
    let withheld = prop_oneof![4 => Just(0), 1 => 1..=SLOTS];
    (states, withheld).prop_map(|(state, withheld)| state | withheld << State::WITHHELD_SHIFT)
}

/// A world in a random state.
fn any_world() -> impl Strategy<Value = World> {
    let withheld = prop_oneof![4 => Just(0), 1 => 1..=SLOTS, 1 => Just(256)];
    let shape = prop::collection::vec((1usize..12, 1u16..5, withheld), 1..5);
    let failover = (0u8..5, any::<bool>());
    let policy = sample::select(vec![WhenExhausted::Open, WhenExhausted::Reject, WhenExhausted::Drop]);
    (shape, prop::collection::vec(state(), 50), failover, policy).prop_map(|(shape, states, failover, policy)| {
        let sizes: Vec<_> = shape.iter().map(|(size, ..)| *size).collect();
        let mut world = super::world(&sizes);
        for (pool, (_, min_healthy, withheld)) in world.pools.iter_mut().zip(&shape) {
            pool.min_healthy = *min_healthy;
            pool.withheld = *withheld;
        }
        for (backend, state) in world.backends[1..].iter_mut().zip(states) {
            backend.state = state;
        }
        for service in &mut world.services {
            // Also to a pool behind the last one, which no controller writes.
            let first = failover.0.min(service.pools.len().try_into().expect("a few"));
            service.failover = Failover { first, evacuate: failover.1 };
            service.when_exhausted = policy;
        }
        world
    })
}

fn send(memory: &Memory, frame: &[u8]) -> Option<u16> {
    reached(&on_host(memory, Program::Edge, frame, Arrival::by(1))).1
}

fn owner(memory: &Memory, slot: u32) -> u16 {
    slot_of(memory, 0, slot).owner
}

/// The picks of all slots, determined without starting a flow.
fn picks(world: &World, memory: &Memory) -> Vec<u16> {
    world.picks(memory, 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_packet_goes_as_in_the_model(
        world in any_world(),
        owners in prop::collection::vec(0u16..60, SLOTS as usize),
        order: [bool; 4],
        room in sample::select(vec![1, 8, 1 << 12]),
    ) {
        let (mut memory, ports) = (world.memory(), ports(&world));
        // Owners of any kind, including backends that do not exist.
        for (slot, owner) in (0..).zip(&owners) {
            memory.write_slot(world.slot_address(0, slot), |slot| slot.owner = *owner);
        }
        let plan = &world.services[0];
        memory.flows = Flows::new(room);
        let picks = picks(&world, &memory);
        for slot in 0..SLOTS {
            let (port, before) = (ports[slot as usize], owner(&memory, slot));
            let pick = Some(picks[slot as usize]).filter(|pick| *pick != 0);
            let expected = model::pick(&world, &memory, plan, slot);
            prop_assert!(expected.allows(pick), "slot {slot}: {pick:?}, not {expected:?}");
            for starts in order {
                let record = recorded(&memory, plan.protocol, port);
                let flow = Flow { starts, record, owner: owner(&memory, slot), pick };
                let fits = memory.records().len() < room;
                let mut expected = model::select(&world, plan, flow, fits);
                // A marked slot stays marked.
                expected.unrecorded |= slot_of(&memory, 0, slot).unrecorded != 0;
                let found = Becomes {
                    goes: send(&memory, &tcp(port, if starts { SYN } else { ACK })),
                    record: recorded(&memory, plan.protocol, port),
                    owner: owner(&memory, slot),
                    unrecorded: slot_of(&memory, 0, slot).unrecorded != 0,
                };
                prop_assert_eq!(found, expected, "slot {}: {:?}, room {}", slot, flow, fits);
                prop_assert!(starts || found.owner == flow.owner, "no running flow moves an owner");
                prop_assert!(found.owner == before || !fits, "and no flow at all where there is room");
                if starts {
                    let again = send(&memory, &tcp(port, SYN));
                    prop_assert_eq!(again, found.goes, "the same every time");
                }
            }
        }
    }

    #[test]
    fn a_death_moves_nobody_elses_slots(world in any_world(), victim in 0usize..50) {
        let mut world = world;
        let victim = 1 + victim % (world.backends.len() - 1);
        world.backends[victim].state = UP;
        for pool in &mut world.pools {
            pool.min_healthy = 1;
            // If fewer than half of the members take new flows, one slot in some thousands finds none among the sixteen
            // candidates that it searches. It then falls back to the member list, whose order changes.
            let members = pool.members.len();
            for member in pool.members.iter().take(members.div_ceil(2) + 1) {
                world.backends[usize::from(*member)].state = UP;
            }
        }
        let before = picks(&world, &world.memory());
        world.backends[victim].state = DOWN;
        let after = picks(&world, &world.memory());
        let pool = &world.pools[usize::from(world.backends[victim].pool)];
        let alone = !pool.members.iter().any(|member| State(world.backends[usize::from(*member)].state).has_all(State::NEW));
        for (slot, (before, after)) in before.iter().zip(&after).enumerate() {
            // The death of a pool's last backend makes the pool unavailable.
            let its = usize::from(*before) == victim || alone;
            prop_assert!(its || before == after, "slot {slot}: from {before} to {after}");
            prop_assert!(usize::from(*after) != victim || alone, "slot {slot} goes to the dead one");
        }
    }

    #[test]
    fn a_flow_whose_owner_lives_never_moves(
        world in any_world(),
        changes in prop::collection::vec((0usize..50, state()), 1..20),
    ) {
        let ports = ports(&world);
        let mut world = world;
        for service in &mut world.services {
            service.failover.evacuate = false;
        }
        let mut memory = world.memory();
        for (backend, state) in changes {
            let backend = 1 + backend % (world.backends.len() - 1);
            world.backends[backend].state = state;
            memory = world.memory_after(&memory);
            for slot in 0..SLOTS {
                let owner = owner(&memory, slot);
                let lives = State(world.backends[usize::from(owner)].state).has_all(State::ALIVE);
                if lives {
                    prop_assert_eq!(send(&memory, &tcp(ports[slot as usize], ACK)), Some(owner));
                }
            }
        }
    }
}
