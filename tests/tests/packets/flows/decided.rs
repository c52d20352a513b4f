//! Decisions about flow records: which flows are recorded where, which are not, and what is counted, through host and
//! kernel.

use std::collections::BTreeMap;

use edge_common::abi::{Exit, Tracking, Unrecorded};

use super::{
    Flow, Meaning, ROOM, Who,
    cases::{self, Case, Goes, Room, Slot},
    counted, number, put_records, reached, recorded_at, records, set_owner, write_slot,
};
use edge_tests::{both::Both, namespace::in_namespace, packet::protocol, world::Side};

/// Slots in which the cases are played.
const SLOTS: [u32; 3] = [0, 21, 62];

/// Plays a case in a slot of a service with this tracking; `slow` sends a slow-path packet.
fn play(both: &mut Both, side: Side, service: u32, tracking: Tracking, slot: u32, case: &Case, slow: bool) {
    let flow = Flow::into_slot(&both.world, side, service, slot, 0);
    let who = |both: &Both, who| number(&both.memory, slot, who);
    let others = if case.room == Room::Full { ROOM - usize::from(case.record.is_some()) } else { 1 };
    let mut expected: Vec<_> = (0..others)
        .map(|nth| {
            let other = Flow::into_slot(&both.world, side, service, slot, 1 + nth);
            (other, recorded_at(who(both, Who::Third)))
        })
        .collect();
    let own = case.record.map(|at| (flow, recorded_at(who(both, at))));

    // The initial state.
    put_records(&mut both.memory, &expected.iter().copied().chain(own).collect::<Vec<_>>());
    both.memory.slots.borrow_mut().iter_mut().flat_map(|cell| &mut cell.0).for_each(|slot| slot.unrecorded = 0);
    let owner = who(both, case.owner);
    set_owner(&both.memory, service, slot, owner);
    let states = case.states.iter().map(|(role, state)| (who(both, *role), *state)).collect::<Vec<_>>();
    both.change(|world| {
        world.records_per_second = if case.room == Room::Spent { 0 } else { 1 << 30 };
        world.backends[1..].iter_mut().for_each(|backend| backend.state = case.others);
        for (backend, state) in states {
            world.backends[usize::from(backend)].state = state;
        }
        let plan = &mut world.services[service as usize];
        (plan.tracking, plan.in_transition) = (tracking, !case.stable);
        (plan.when_exhausted, plan.failover) = (case.policy, case.failover);
    });
    let after = both.memory.clone();
    let (counts, traffic) = (both.memory.flow_counts(service), both.memory.service_traffic(service));

    let seen = both.run(&if slow { flow.slow_frame(case.meaning) } else { flow.frame(case.meaning) });

    // The expected result.
    let is_tcp = both.world.services[service as usize].protocol == protocol::TCP;
    let goes = match case.goes {
        Goes::To(to) => (Exit::DsrTx, Some(who(both, to))),
        Goes::Passed => (Exit::IcmpError, None),
        Goes::Dropped => (Exit::Exhausted, None),
        Goes::Rejected if is_tcp => (Exit::RejectReset, None),
        Goes::Rejected => (Exit::RejectUnreachable, None),
    };
    assert_eq!(reached(&seen), goes);
    expected.extend(case.then.map(|then| (flow, recorded_at(who(both, then)))));
    let expected: BTreeMap<_, _> = expected.iter().map(|(flow, record)| (flow.ends(), record.backend)).collect();
    let found = records(&both.memory).into_iter().map(|(ends, record)| (ends, record.backend));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), expected, "records");
    match case.slot {
        Slot::Same => {}
        Slot::Marked => write_slot(&after, service, slot, |slot| slot.unrecorded = Unrecorded::Flow as u8),
        Slot::StartMarked => write_slot(&after, service, slot, |slot| slot.unrecorded = Unrecorded::Start as u8),
        Slot::TakenBy(taken_by) => set_owner(&after, service, slot, who(both, taken_by)),
    }
    if case.starts_transition {
        write_slot(&after, service, slot, |slot| slot.look = 1);
    }
    assert_eq!(*both.memory.slots.borrow(), *after.slots.borrow(), "slots");
    let in_transition = both.memory.in_transition.borrow().iter().copied().collect::<Vec<_>>();
    assert_eq!(
        in_transition,
        Vec::from_iter(case.starts_transition.then_some((1, service))),
        "transitions that the packet path started"
    );
    assert_eq!(counted(counts, both.memory.flow_counts(service)), case.counts);
    let (packets, flows) =
        (u64::from(goes.1.is_some()), u64::from(goes.1.is_some() && starts(tracking, case.meaning, is_tcp)));
    let counted = both.memory.service_traffic(service);
    assert_eq!((counted.packets - traffic.packets, counted.flows - traffic.flows), (packets, flows), "traffic");
    both.compare_state().unwrap_or_else(|error| panic!("{error}"));
}

/// Whether a packet counts as the start of a flow.
fn starts(tracking: Tracking, meaning: Meaning, is_tcp: bool) -> bool {
    meaning == Meaning::Starts && (is_tcp || tracking == Tracking::Quic)
}

/// The services that can have a tracking.
fn services(tracking: Tracking) -> &'static [u32] {
    match tracking {
        Tracking::Tcp => &[super::TCP],
        Tracking::Quic | Tracking::Learn => &[super::UDP],
        Tracking::Stateless => &[super::TCP, super::UDP],
    }
}

fn play_all(side: Side, slow: bool) {
    in_namespace(|| {
        let mut both = super::both(super::world(side));
        let mut played = 0;
        for case in cases::all() {
            for tracking in case.of {
                for service in services(*tracking) {
                    for slot in SLOTS {
                        let name = format!("{}\n{side:?}, {tracking:?}, slot {slot}, slow: {slow}", case.name);
                        let play = || play(&mut both, side, *service, *tracking, slot, case, slow);
                        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(play));
                        assert!(played.is_ok(), "{name}\n{case:#?}");
                    }
                    played += 1;
                }
            }
        }
        assert!(played > 150, "{played} cases");
    });
}

#[test]
fn every_case_of_ipv4() {
    play_all(Side::V4, false);
}

#[test]
fn every_case_of_ipv6() {
    play_all(Side::V6, false);
}

#[test]
fn every_case_of_ipv4_behind_options() {
    play_all(Side::V4, true);
}

#[test]
fn every_case_of_ipv6_behind_an_extension_header() {
    play_all(Side::V6, true);
}
