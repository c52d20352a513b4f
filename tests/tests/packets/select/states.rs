//! The backend of a packet in different states: death, drain, order of pools, both kinds of failover, and no backend
//! left, through host and kernel.

use std::collections::BTreeSet;

use super::{
    model::{self, Becomes, Flow},
    more_ports, ports, reached, recorded, slot_of, tcp,
};
use edge_common::abi::{Exit, Failover, State, Tracking, WhenExhausted};
use edge_tests::{
    both::Both,
    namespace::in_namespace,
    packet::{ACK, FIN, Payload, RST, SYN, Udp, protocol},
    world::{DISABLED, DOWN, DRAINED, UP, World},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

/// Pools A (1, 2, 3) and B (4, 5, 6).
pub(super) const A: std::ops::RangeInclusive<u16> = 1..=3;
pub(super) const B: std::ops::RangeInclusive<u16> = 4..=6;

pub(super) fn with_both(world: World, test: impl FnOnce(&mut Both, &[u16]) + Send) {
    let ports = ports(&world);
    in_namespace(|| {
        let mut both = Both::new(world);
        test(&mut both, &ports);
        both.compare_state().unwrap_or_else(|error| panic!("{error}"));
    });
}

fn udp(source: u16) -> Vec<u8> {
    super::frame(Payload::Udp(Udp { source, destination: super::PORT, ..Udp::default() }))
}

/// Sends a frame through host and kernel; returns the backend that it reached.
fn to(both: &Both, frame: &[u8]) -> Option<u16> {
    reached(&both.run(frame)).1
}

pub(super) fn set(both: &mut Both, backends: impl IntoIterator<Item = u16>, state: u32) {
    both.change(|world| backends.into_iter().for_each(|number| world.backends[usize::from(number)].state = state));
}

fn track(both: &mut Both, tracking: Tracking) {
    both.change(|world| world.services[1].tracking = tracking);
}

fn fail_over(both: &mut Both, first: u8, evacuate: bool) {
    both.change(|world| {
        for service in &mut world.services {
            service.failover = Failover { first, evacuate };
        }
    });
}

/// The backends that packets of all slots reach.
fn all(both: &Both, ports: &[u16], frame: impl Fn(u16) -> Vec<u8>) -> Vec<Option<u16>> {
    ports.iter().map(|port| to(both, &frame(*port))).collect()
}

fn running(both: &Both, ports: &[u16]) -> Vec<Option<u16>> {
    all(both, ports, |port| tcp(port, ACK))
}

pub(super) fn new(both: &Both, ports: &[u16]) -> Vec<Option<u16>> {
    all(both, ports, |port| tcp(port, SYN))
}

pub(super) fn within(went: &[Option<u16>], pool: &std::ops::RangeInclusive<u16>) -> bool {
    went.iter().all(|backend| backend.is_some_and(|backend| pool.contains(&backend)))
}

#[test]
fn all_is_well_and_every_backend_of_the_first_pool_serves() {
    with_both(super::world(&[3, 3]), |both, ports| {
        let went = new(both, ports);
        assert!(within(&went, &A));
        assert_eq!(went.iter().collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(running(both, ports), went);
        assert_eq!(all(both, ports, udp), went);
        assert_eq!(new(both, ports), went, "the same every time");
    });
}

#[test]
fn a_death_moves_its_flows_at_the_next_packet_and_no_others() {
    with_both(super::world(&[3, 3]), |both, ports| {
        let before = running(both, ports);
        set(both, [2], DOWN);
        let after = running(both, ports);
        for (before, after) in before.iter().zip(&after) {
            assert_ne!(*after, Some(2));
            assert!(*before == Some(2) || before == after, "a flow whose backend lives never moves");
        }
        assert!(within(&after, &A));
        let spread: BTreeSet<_> =
            before.iter().zip(&after).filter(|(was, _)| **was == Some(2)).map(|(_, is)| is).collect();
        assert_eq!(spread.len(), 2, "both others take of its load");
        assert_eq!(all(both, ports, udp), after);
        // No packet has started a flow: owners are unchanged, and so are the flows once the backend lives again.
        set(both, [2], UP);
        assert_eq!(running(both, ports), before);
    });
}

#[test]
fn a_flow_that_starts_elsewhere_is_recorded_there_and_the_owner_stays() {
    with_both(super::world(&[3, 3]), |both, ports| {
        let others = more_ports(&both.world, 1);
        let (before, owners) = (running(both, ports), both.memory.slots.borrow().clone());
        set(both, [2], DOWN);
        let during = new(both, ports);
        for ((port, before), during) in ports.iter().zip(&before).zip(&during) {
            let elsewhere = during.filter(|_| before != during);
            assert_eq!(recorded(&both.memory, protocol::TCP, *port), elsewhere, "only where the owner would be wrong");
        }
        set(both, [2], UP);
        assert_eq!(running(both, ports), during, "flows that started during its death stay where they are");
        assert_eq!(new(both, ports), during, "when their first packet comes again, too");
        assert_eq!(new(both, &others), before, "new ones come back");
        assert_eq!(running(both, &others), before);
        assert_eq!(running(both, ports), during);
        assert_eq!(*both.memory.slots.borrow(), owners);
    });
}

#[test]
fn what_is_no_plain_syn_starts_no_flow() {
    with_both(super::world(&[3, 3]), |both, ports| {
        let before = running(both, ports);
        set(both, [2], DRAINED);
        for flags in [0, ACK, SYN | ACK, SYN | RST, SYN | FIN, RST, FIN | ACK] {
            assert_eq!(all(both, ports, |port| tcp(port, flags)), before, "flags {flags:#04x}");
        }
    });
}

#[test]
fn a_syn_that_offers_ecn_starts_a_flow() {
    with_both(super::world(&[3, 3]), |both, ports| {
        set(both, [2], DRAINED);
        let plain = new(both, ports);
        // RFC 3168, section 6.1.1: such a SYN has ECE and CWR set.
        assert_eq!(all(both, ports, |port| tcp(port, SYN | 0xc0)), plain);
        assert!(!plain.contains(&Some(2)));
    });
}

#[test]
fn a_drained_backend_keeps_its_flows_and_gets_no_new_ones() {
    with_both(super::world(&[3, 3]), |both, ports| {
        let before = running(both, ports);
        set(both, [2], DRAINED);
        assert_eq!(running(both, ports), before);
        // With new flows.
        let new = all(both, &more_ports(&both.world, 1), |port| tcp(port, SYN));
        assert!(within(&new, &A));
        assert!(!new.contains(&Some(2)));
        for (before, new) in before.iter().zip(&new) {
            assert!(*before == Some(2) || before == new);
        }
        assert_eq!(all(both, ports, udp), new, "without a start of flow each packet goes where it would");
        track(both, Tracking::Learn);
        assert_eq!(all(both, ports, udp), before, "unless its flows are learnt");
    });
}

#[test]
fn a_pool_below_min_healthy_is_left_and_found_again() {
    let mut world = super::world(&[3, 3]);
    world.pools[0].min_healthy = 2;
    with_both(world, |both, ports| {
        let others = more_ports(&both.world, 1);
        let before = running(both, ports);
        set(both, [1], DOWN);
        assert!(within(&new(both, ports), &A), "two of three are enough");
        set(both, [2], DOWN);
        let after = running(both, ports);
        assert!(after.iter().all(|backend| *backend == Some(3) || B.contains(&backend.expect("somebody"))));
        assert!(after.contains(&Some(3)), "running flows of the one that lives stay");
        let of_three = |went: &[Option<u16>]| went.iter().map(|to| *to == Some(3)).collect::<Vec<_>>();
        assert_eq!(of_three(&running(both, &others)), of_three(&before), "those that were never recorded, too");
        let during = new(both, &more_ports(&both.world, 2));
        assert!(within(&during, &B), "one of three is not");
        set(both, A, UP);
        assert_eq!(running(both, &more_ports(&both.world, 2)), during, "and what started there stays");
        assert_eq!(new(both, &more_ports(&both.world, 3)), before);
    });
}

#[test]
fn when_no_pool_has_enough_the_first_with_anybody_serves() {
    let mut world = super::world(&[3, 3]);
    (world.pools[0].min_healthy, world.pools[1].min_healthy) = (3, 3);
    with_both(world, |both, ports| {
        set(both, [1, 4], DOWN);
        assert!(within(&new(both, ports), &(2..=3)));
        set(both, A, DOWN);
        assert!(within(&new(both, ports), &(5..=6)));
    });
}

#[test]
fn a_failover_moves_new_flows_and_leaves_the_running_ones() {
    with_both(super::world(&[3, 3]), |both, ports| {
        let [others, unseen] = [1, 2].map(|before| more_ports(&both.world, before));
        let before = running(both, ports);
        fail_over(both, 1, false);
        assert_eq!(running(both, ports), before);
        let during = new(both, &others);
        assert!(within(&during, &B));
        assert_eq!(running(both, &others), during, "they stay where they started");
        assert_eq!(all(both, ports, udp), during, "without a start of flow each packet goes where it would");
        assert_eq!(running(both, ports), before, "the owners did not follow: they are the controller's to move");
        track(both, Tracking::Learn);
        assert_eq!(all(both, ports, udp), before, "flows that are learnt stay");
        fail_over(both, 0, false);
        assert_eq!(running(both, &others), during, "failback moves no running flow");
        assert_eq!(running(both, ports), before);
        assert_eq!(new(both, &unseen), before);
    });
}

#[test]
fn an_evacuation_moves_the_running_flows_too() {
    with_both(super::world(&[3, 3]), |both, ports| {
        let before = running(both, ports);
        fail_over(both, 1, true);
        assert!(within(&running(both, ports), &B));
        assert!(within(&all(both, ports, udp), &B));
        set(both, B, DOWN);
        let went = new(both, ports);
        assert!(within(&went, &A), "the last resort");
        assert_eq!(running(both, ports), went, "flows that started there stay");
        set(both, A, DOWN);
        assert!(within(&new(both, ports), &B), "open, in the failover's order");
        set(both, B, DISABLED);
        assert!(within(&new(both, ports), &A));
        set(both, A, DISABLED);
        assert_eq!(reached(&both.run(&tcp(ports[0], SYN))), (Exit::RejectReset, None));
        set(both, A, UP);
        set(both, B, UP);
        assert!(within(&running(both, ports), &B), "what was evacuated is left again");
        let stayed = new(both, &more_ports(&both.world, 1));
        fail_over(both, 0, false);
        assert_eq!(running(both, &more_ports(&both.world, 1)), stayed, "failback moves no running flow");
        assert_eq!(new(both, &more_ports(&both.world, 2)), before);
    });
}

#[test]
fn a_failover_to_a_dead_pool_falls_back_to_those_that_it_passed_over() {
    with_both(super::world(&[3, 3, 2]), |both, ports| {
        fail_over(both, 1, false);
        set(both, B, DOWN);
        assert!(within(&new(both, ports), &(7..=8)), "the pools behind it first");
        set(both, 7..=8, DOWN);
        assert!(within(&new(both, ports), &A));
    });
}

#[test]
fn without_backends_the_services_policy_applies() {
    with_both(super::world(&[3, 3]), |both, ports| {
        let exits = |both: &Both| {
            let frames = [tcp(ports[0], SYN), tcp(ports[0], ACK), udp(ports[0])];
            frames.map(|frame| reached(&both.run(&frame)).0)
        };
        for (state, policy, tcp, udp) in [
            (DOWN, WhenExhausted::Open, Exit::DsrTx, Exit::DsrTx),
            (DOWN, WhenExhausted::Reject, Exit::RejectReset, Exit::RejectUnreachable),
            (DOWN, WhenExhausted::Drop, Exit::Exhausted, Exit::Exhausted),
            (DISABLED, WhenExhausted::Open, Exit::RejectReset, Exit::RejectUnreachable),
            (DISABLED, WhenExhausted::Reject, Exit::RejectReset, Exit::RejectUnreachable),
            (DISABLED, WhenExhausted::Drop, Exit::Exhausted, Exit::Exhausted),
        ] {
            set(both, 1..=6, state);
            both.change(|world| world.services.iter_mut().for_each(|service| service.when_exhausted = policy));
            assert_eq!(exits(both), [tcp, tcp, udp], "{policy:?}, {state:#x}");
        }
        // `open` uses the first pool with an enabled backend, and never a disabled one.
        set(both, 1..=6, DISABLED);
        set(both, [5], DOWN);
        both.change(|world| world.services.iter_mut().for_each(|service| service.when_exhausted = WhenExhausted::Open));
        assert!(within(&new(both, ports), &(5..=5)));
    });
}

#[test]
fn a_large_pool_with_few_left_is_searched_to_the_last_backend() {
    with_both(super::world(&[40]), |both, ports| {
        for left in [1, 17, 40] {
            set(both, 1..=40, DOWN);
            set(both, [left], UP);
            assert!(within(&new(both, ports), &(left..=left)));
            assert!(within(&running(both, ports), &(left..=left)));
        }
        set(both, 1..=40, DOWN);
        assert!(within(&new(both, ports), &(1..=40)), "open");
        set(both, 1..=40, DISABLED);
        set(both, [33], DOWN);
        assert!(within(&new(both, ports), &(33..=33)), "open, but not to the disabled");
    });
}

#[test]
fn a_long_walk_through_all_states_stays_with_the_model() {
    const SEED: u64 = 0x5e1e_c700;
    println!("seed {SEED:#x}");
    with_both(super::world(&[3, 4, 7]), |both, ports| {
        let mut random = StdRng::seed_from_u64(SEED);
        for step in 0..400 {
            both.change(|world| upset(world, &mut random));
            for _ in 0..25 {
                let slot = random.random_range(0..super::SLOTS);
                let port = ports[slot as usize];
                let (service, starts, frame): (u32, _, _) = match random.random_range(0..3) {
                    0 => (0, true, tcp(port, SYN)),
                    1 => (0, false, tcp(port, ACK)),
                    _ => (1, false, udp(port)),
                };
                let plan = both.world.services[service as usize].clone();
                let picks = both.world.picks(&both.memory, service as usize);
                let pick = Some(picks[slot as usize]).filter(|pick| *pick != 0);
                let expected = model::pick(&both.world, &both.memory, &plan, slot);
                assert!(expected.allows(pick), "step {step}, slot {slot}: {pick:?}, not {expected:?}");
                let now = |both: &Both| Becomes {
                    goes: to(both, &frame),
                    record: recorded(&both.memory, plan.protocol, port),
                    owner: slot_of(&both.memory, service, slot).owner,
                    unrecorded: slot_of(&both.memory, service, slot).unrecorded != 0,
                };
                let record = recorded(&both.memory, plan.protocol, port);
                let owner = slot_of(&both.memory, service, slot).owner;
                let flow = Flow { starts, record, owner, pick };
                let becomes = model::select(&both.world, &plan, flow, true);
                assert_eq!(now(both), becomes, "step {step}, slot {slot}: {plan:?} {flow:?}");
                assert!(
                    !becomes.unrecorded && becomes.owner == owner,
                    "step {step}: there is room, and no owner moves"
                );
                let again = model::select(&both.world, &plan, Flow { record: becomes.record, ..flow }, true);
                assert_eq!(now(both), again, "step {step}: the same again");
                // The backend of a removed record is dead, and the flow is over.
                assert!(again.goes == becomes.goes || record.is_some() && becomes.record.is_none(), "step {step}");
            }
            both.compare_state().unwrap_or_else(|error| panic!("step {step}: {error}"));
        }
    });
}

/// Makes a random change.
fn upset(world: &mut World, random: &mut StdRng) {
    let states = [UP, UP, UP, DRAINED, DOWN, DISABLED, State::ENABLED | State::ALIVE | State::NEW];
    for _ in 0..random.random_range(1..4) {
        let backend = random.random_range(1..world.backends.len());
        world.backends[backend].state = *states.choose(random).expect("some");
    }
    if random.random_ratio(1, 10) {
        let state = *states.choose(random).expect("some");
        world.backends[1..].iter_mut().for_each(|backend| backend.state = state);
    }
    if random.random_ratio(1, 4) {
        let pool = random.random_range(0..world.pools.len());
        world.pools[pool].min_healthy = random.random_range(1..5);
    }
    if random.random_ratio(1, 10) {
        let trackings = [Tracking::Stateless, Tracking::Learn];
        world.services[1].tracking = *trackings.choose(random).expect("some");
    }
    for service in &mut world.services {
        if random.random_ratio(1, 4) {
            service.failover = Failover { first: random.random_range(0..3), evacuate: random.random() };
        }
        if random.random_ratio(1, 4) {
            let policies = [WhenExhausted::Open, WhenExhausted::Reject, WhenExhausted::Drop];
            service.when_exhausted = *policies.choose(random).expect("some");
        }
    }
}
