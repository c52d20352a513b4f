//! ICMP errors about packets of a backend reach that backend, change no state, and are never answered by errors.

use edge_common::{
    abi::{Exit, FlowCount, FlowCounts, Mode, WhenExhausted},
    host::Memory,
};
use edge_tests::{
    both::{Both, ProgramExit},
    cases::scene::to_tunnel,
    packet::{Icmp, Ip, Payload, SYN, protocol},
    world::{DISABLED, DOWN, Side},
};

use super::world::{Flow, error, exit, flows, for_each_flow, forwarded, header, traffic, with_both, with_world, world};

/// Types of errors about a flow, and types of other errors, which go to the host.
pub(crate) const fn kinds(side: Side) -> (&'static [u8], &'static [u8]) {
    match side {
        Side::V4 => (&[3, 11, 12], &[4, 5]),
        Side::V6 => (&[1, 2, 3, 4], &[0, 5, 100, 127]),
    }
}

/// An error about the flow that quotes the first eight bytes behind the IP header.
pub(crate) fn about(flow: Flow) -> Ip {
    let quoted = flow.answer().bytes();
    error(flow.side, kinds(flow.side).0[0], 1, &quoted[..header(flow.side) + 8])
}

pub(crate) fn check_label(flow: Flow, found: u32) {
    assert_eq!(found, flow.fingerprint(), "{flow:?}: an outer header has the flow's label, and DF as the error has it");
}

#[test]
fn errors_of_every_type_that_concerns_a_flow_reach_its_backend_and_others_the_host() {
    with_both(|both| {
        for flow in flows() {
            let quoted = flow.answer().bytes();
            let owner = flow.owner(both);
            for kind in 0..=255 {
                if kinds(flow.side).0.contains(&kind) {
                    for code in [0, 1, 4, 255] {
                        let packet = error(flow.side, kind, code, &quoted[..header(flow.side) + 8]);
                        let before = traffic(both, flow, owner);
                        let (backend, by) = forwarded(both, flow, &packet);
                        assert_eq!(backend, owner, "{flow:?}: type {kind}");
                        check_label(flow, by);
                        let bytes = packet.bytes().len() as u64;
                        for (before, after) in before.into_iter().zip(traffic(both, flow, owner)) {
                            assert_eq!(after, (before.0 + 1, before.1 + bytes, before.2));
                        }
                    }
                } else {
                    let packet = error(flow.side, kind, 1, &quoted[..header(flow.side) + 8]);
                    let others = kinds(flow.side).1.contains(&kind) || flow.side == Side::V6 && kind < 128;
                    let expected = if others { Exit::IcmpError } else { Exit::IcmpOther };
                    assert_eq!(exit(both, &packet), expected, "{flow:?}: type {kind}");
                }
            }
        }
    });
}

/// Records in the kernel, with their times.
fn kernel_records(both: &Both) -> String {
    format!("{:?}", both.kernel.records(&both.memory))
}

#[test]
fn they_follow_a_record_and_else_the_owner_and_leave_no_trace() {
    for_each_flow(|both, flow| {
        let service = u32::try_from(flow.service(&both.world)).expect("a small world");
        let owner = flow.drain_owner(both);
        // A flow without a record belongs to the owner, whatever the pick is.
        let before = (both.memory.flow_counts(service), kernel_records(both));
        assert_eq!(forwarded(both, flow, &about(flow)).0, owner, "{flow:?}");
        assert_eq!(kernel_records(both), before.1, "nothing is recorded");
        let quiet = |both: &Both, before: FlowCounts| {
            let after = both.memory.flow_counts(service);
            for what in FlowCount::ALL {
                let by = after.0[what as usize] - before.0[what as usize];
                let expected = u64::from(what == FlowCount::Lookups);
                assert!(by == expected || what == FlowCount::Hits && by <= 1, "{flow:?}: {what:?} {by} times");
            }
        };
        quiet(both, before.0);
        assert!(both.memory.slots.borrow().iter().flat_map(|cell| cell.0).all(|slot| slot.unrecorded == 0));

        // A flow with a record, at the backend where it started or runs.
        let at = forwarded(both, flow, &flow.with_flags(SYN, 0)).0;
        assert_eq!(at == owner, flow.protocol == protocol::UDP, "who learns records running flows at their owner");
        assert_eq!(both.memory.records().len(), 1);
        let pool = &both.world.pools[usize::from(both.world.backends[usize::from(at)].pool)];
        let third = *pool.members.iter().find(|member| **member != at && **member != owner).expect("three members");
        flow.set_owner(both, third);
        both.memory.clock_ns.set(both.memory.clock_ns.get() + 1_000_000_000);
        let before = (both.memory.flow_counts(service), kernel_records(both));
        let seen = both.memory.clone();
        assert_eq!(forwarded(both, flow, &about(flow)).0, at, "{flow:?}: by its record");
        quiet(both, before.0);
        assert_eq!(kernel_records(both), before.1, "an error is no sign of life");
        let same = |a: &Memory, b: &Memory| {
            assert_eq!(a.records(), b.records());
        };
        same(&seen, &both.memory);

        // The record of a dead backend is ignored, and stays until a packet of the flow removes it.
        both.change(|world| world.backends[usize::from(at)].state = DOWN);
        let before = kernel_records(both);
        assert_eq!(forwarded(both, flow, &about(flow)).0, third);
        assert_eq!(kernel_records(both), before);
    });
}

#[test]
fn they_follow_the_owner_of_a_stable_service_without_a_lookup() {
    for_each_flow(|both, flow| {
        both.change(|world| world.services.iter_mut().for_each(|service| service.in_transition = false));
        let service = u32::try_from(flow.service(&both.world)).expect("a small world");
        let before = both.memory.flow_counts(service);
        assert_eq!(forwarded(both, flow, &about(flow)).0, flow.owner(both));
        assert_eq!(both.memory.flow_counts(service), before);
    });
}

#[test]
fn they_go_to_the_pick_when_the_owner_is_dead_and_to_the_host_when_nobody_is_left() {
    for_each_flow(|both, flow| {
        let owner = flow.owner(both);
        both.change(|world| world.backends[usize::from(owner)].state = DOWN);
        let owners = both.memory.slots.borrow().clone();
        let (backend, _) = forwarded(both, flow, &about(flow));
        assert_ne!(backend, owner);
        assert_eq!(*both.memory.slots.borrow(), owners, "no owner is taken over");
        for policy in [WhenExhausted::Open, WhenExhausted::Reject, WhenExhausted::Drop] {
            both.change(|world| {
                world.backends.iter_mut().for_each(|backend| backend.state = DISABLED);
                world.services.iter_mut().for_each(|service| service.when_exhausted = policy);
            });
            assert_eq!(exit(both, &about(flow)), Exit::IcmpError, "{flow:?}: {policy:?}");
        }
    });
}

#[test]
fn with_affinity_they_go_where_the_client_goes() {
    let mut world = world();
    let pool = world.services[0].pools[0];
    for (side, prefix) in [(Side::V4, 24), (Side::V6, 64)] {
        for protocol in [protocol::TCP, protocol::UDP] {
            let service = world.service(side.vip(), 88, protocol, Mode::Dsr, &[pool]);
            world.services[service as usize].affinity = Some(prefix);
        }
    }
    with_world(world, |both| {
        for side in Side::BOTH {
            for protocol in [protocol::TCP, protocol::UDP] {
                let mut reached = Vec::new();
                for source in 1_000..1_030 {
                    let flow = Flow { side, protocol, port: 88, source };
                    reached.push(forwarded(both, flow, &flow.packet(10)).0);
                    reached.push(forwarded(both, flow, &about(flow)).0);
                }
                reached.dedup();
                assert_eq!(reached.len(), 1, "{side:?}");
            }
        }
    });
}

#[test]
fn flows_of_all_slots_get_their_own_errors() {
    with_both(|both| {
        for of in flows() {
            let mut backends = std::collections::BTreeSet::new();
            for source in 2_000..2_040 {
                let flow = Flow { source, ..of };
                assert_eq!(forwarded(both, flow, &about(flow)).0, forwarded(both, flow, &flow.packet(0)).0);
                backends.insert(flow.owner(both));
            }
            assert_eq!(backends.len(), 3, "else nothing was tested");
        }
    });
}

#[test]
fn errors_are_not_answered_by_errors() {
    with_both(|both| {
        for flow in flows() {
            let mut packet = about(flow);
            packet.ttl = 1;
            assert_eq!(exit(both, &packet), Exit::TtlExceededSilent, "{flow:?}");
        }
        both.change(|world| world.backends.iter_mut().for_each(|backend| backend.mtu = 64));
        for flow in flows() {
            let quoted = [flow.answer().bytes(), vec![0; 1300]].concat();
            let packet = error(flow.side, kinds(flow.side).0[0], 1, &quoted);
            assert!(packet.bytes().len() > 1280);
            assert_eq!(exit(both, &packet), Exit::TooBigSilent, "{flow:?}");
        }
    });
}

#[test]
fn an_error_to_a_tunnels_source_about_other_things_is_the_hosts() {
    with_both(|both| {
        for flow in flows() {
            for kind in kinds(flow.side).0 {
                let quoted = flow.answer().bytes();
                let frame = to_tunnel(flow.side, Payload::Icmp(Icmp::error(*kind, 1, 1400, &quoted)));
                let seen = both.run(&frame.bytes());
                assert_eq!(seen.exit, ProgramExit::Edge(Exit::NotOurs));
                assert_eq!(seen.frame, frame.bytes());
            }
        }
    });
}
