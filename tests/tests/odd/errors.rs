//! ICMP errors about what a backend sent reach that backend, change nothing, and are never answered by errors.

use std::net::IpAddr;

use edge_common::{
    abi::{FlowCount, FlowCounts, Mode, WhenExhausted},
    exit::Exit,
    host::Memory,
};
use edge_tests::{
    both::{Both, Way},
    cases::scene::to_tunnel,
    packet::{Extension, Icmp, Ip, Payload, SYN, protocol},
    world::{DISABLED, DOWN, Side},
};

use super::odd::{
    Flow, error, exit, flows, for_each_flow, forwarded, fragment, fragments, frame, header, run, traffic, with_both,
    with_world, world,
};

/// Types of errors about a flow, and those that are the host's although they are errors.
const fn kinds(side: Side) -> (&'static [u8], &'static [u8]) {
    match side {
        Side::V4 => (&[3, 11, 12], &[4, 5]),
        Side::V6 => (&[1, 2, 3, 4], &[0, 5, 100, 127]),
    }
}

/// One that quotes the first eight bytes behind the header.
fn about(flow: &Flow) -> Ip {
    let quoted = flow.answer().bytes();
    error(flow.side, kinds(flow.side).0[0], 1, &quoted[..header(flow.side) + 8])
}

fn check_label(flow: &Flow, told_by: u32) {
    let expected = if flow.tunnel() == Some(Side::V6) { flow.label() } else { 0 };
    assert_eq!(told_by, expected, "{flow:?}: an outer header is told by the flow, and has DF as the error has");
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
                        let before = traffic(both, &flow, owner);
                        let (backend, by) = forwarded(both, &flow, &packet);
                        assert_eq!(backend, owner, "{flow:?}: type {kind}");
                        check_label(&flow, by);
                        let bytes = packet.bytes().len() as u64;
                        for (before, after) in before.into_iter().zip(traffic(both, &flow, owner)) {
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

#[test]
fn four_bytes_behind_the_quoted_header_are_enough_and_fewer_are_the_hosts() {
    with_both(|both| {
        for flow in flows() {
            let quoted = flow.answer().bytes();
            let kind = kinds(flow.side).0[0];
            for length in 0..=quoted.len() {
                let packet = error(flow.side, kind, 1, &quoted[..length]);
                if length >= header(flow.side) + 4 {
                    assert_eq!(forwarded(both, &flow, &packet).0, flow.owner(both));
                } else {
                    assert_eq!(exit(both, &packet), Exit::IcmpError, "{flow:?}: {length} bytes quoted");
                }
            }
            let bytes = about(&flow).bytes();
            let mut cut = about(&flow);
            for length in 0..8 {
                cut.payload = Payload::Other(bytes[if flow.side == Side::V4 { 9 } else { 6 }], vec![kind; length]);
                assert_eq!(exit(both, &cut), Exit::Malformed, "{length} bytes of ICMP");
            }
        }
    });
}

#[test]
fn what_is_quoted_need_not_be_plain_but_must_be_ours() {
    with_both(|both| {
        for flow in flows() {
            let kind = kinds(flow.side).0[0];
            let of = |quoted: Ip| error(flow.side, kind, 1, &quoted.bytes());
            let with = |change: &dyn Fn(&mut Ip)| {
                let mut quoted = flow.answer();
                change(&mut quoted);
                of(quoted)
            };
            let mut reach = vec![
                ("TTL of 0", with(&|ip| ip.ttl = 0)),
                ("a length that is not what is there", with(&|ip| ip.length = Some(9_000))),
            ];
            let mut hosts = vec![
                ("another source", with(&|ip| ip.source = flow.side.other())),
                ("a version that is none", with(&|ip| ip.version = Some(5))),
                ("another protocol", with(&|ip| ip.protocol = Some(protocol::SCTP))),
                ("a later fragment", of(fragments(&flow.answer(), 16, 3).remove(1))),
                // Its data look like the flow's ports.
                ("a later fragment like a first one", of(fragment(&flow.answer(), flow.answer().payload, 5, true, 3))),
            ];
            let echo = Icmp::echo(if flow.side == Side::V4 { 0 } else { 129 }, 1, 1, b"pong");
            hosts.push(("ICMP", with(&|ip| ip.payload = Payload::Icmp(echo.clone()))));
            let nobody = Flow { port: 999, ..flow };
            hosts.push(("a port without a service", of(nobody.answer())));
            let first = of(fragments(&flow.answer(), 24, 3).remove(0));
            match flow.side {
                Side::V4 => {
                    reach.push(("options", with(&|ip| ip.options = vec![1; 4])));
                    reach.push(("all options", with(&|ip| ip.options = vec![1; 40])));
                    reach.push(("a first fragment", first));
                    hosts.push(("a header too short", with(&|ip| ip.header_words = Some(4))));
                    // Read by that, the client's address would be the ports.
                    let [a, b] = flow.port.to_be_bytes();
                    let alike = with(&|ip| {
                        (ip.header_words, ip.destination) = (Some(4), IpAddr::from([a, b, 0x9c, 0x40]));
                    });
                    hosts.push(("a header too short before what would be ports", alike));
                    hosts.push(("a header longer than the rest", with(&|ip| ip.header_words = Some(15))));
                }
                Side::V6 => {
                    hosts.push(("a first fragment", first));
                    let filler = Extension::filler(protocol::DESTINATION, 0);
                    hosts.push(("an extension header", with(&|ip| ip.extensions = vec![filler.clone()])));
                }
            }
            for (what, packet) in reach {
                let (backend, by) = forwarded(both, &flow, &packet);
                assert_eq!(backend, flow.owner(both), "{flow:?}: quotes {what}");
                check_label(&flow, by);
            }
            for (what, packet) in hosts {
                let seen = run(both, &packet);
                assert_eq!(exit(both, &packet), Exit::IcmpError, "{flow:?}: quotes {what}");
                assert_eq!(seen.frame, frame(&packet));
            }
        }
    });
}

#[test]
fn options_and_extension_headers_of_the_error_itself_are_looked_through_so_far() {
    with_both(|both| {
        for flow in flows() {
            let mut packet = about(&flow);
            match flow.side {
                Side::V4 => packet.options = vec![1; 40],
                Side::V6 => packet.extensions = vec![Extension::filler(protocol::DESTINATION, 1); 4],
            }
            assert_eq!(forwarded(both, &flow, &packet).0, flow.owner(both));
            if flow.side == Side::V6 {
                // What is quoted stands behind byte 255.
                for (eights, near) in [(23, true), (24, false), (25, false), (200, false)] {
                    packet.extensions = vec![Extension::filler(protocol::DESTINATION, eights)];
                    assert_eq!(exit(both, &packet) == flow.exit(), near, "{flow:?}: {eights}");
                }
            }
        }
    });
}

#[test]
fn a_quote_too_far_behind_is_not_looked_for_elsewhere() {
    with_both(|both| {
        for flow in flows().into_iter().filter(|flow| flow.side == Side::V6) {
            let mut packet = about(&flow);
            let mut extension = Extension::filler(protocol::DESTINATION, 31);
            // 256 bytes before the quote stands another one.
            extension.rest[7..47].copy_from_slice(&flow.answer().bytes()[..40]);
            packet.extensions = vec![extension];
            assert_eq!(exit(both, &packet), Exit::IcmpError, "{flow:?}");
        }
    });
}

#[test]
fn an_error_to_one_vip_says_nothing_about_what_another_one_sent() {
    let mut world = world();
    let pools = [world.services[0].pools[0], world.backends.last().expect("a backend").pool];
    for (side, pool) in Side::BOTH.into_iter().zip(pools) {
        for protocol in [protocol::TCP, protocol::UDP] {
            world.service(side.other(), 80, protocol, Mode::Dsr, &[pool]);
        }
    }
    with_world(world, |both| {
        for flow in flows().into_iter().filter(|flow| flow.port == 80) {
            let mut quoted = flow.answer();
            quoted.source = flow.side.other();
            let mut packet = error(flow.side, kinds(flow.side).0[0], 1, &quoted.bytes());
            assert_eq!(exit(both, &packet), Exit::IcmpError, "{flow:?}");
            packet.destination = flow.side.other();
            assert_eq!(exit(both, &packet), Exit::DsrTx, "{flow:?}");
        }
    });
}

/// Records of both families in the kernel, with their times.
fn kernel_records(both: &Both) -> String {
    format!("{:?} {:?}", both.kernel.flows_v4(), both.kernel.flows_v6())
}

#[test]
fn they_follow_a_record_and_else_the_owner_and_leave_no_trace() {
    for_each_flow(|both, flow| {
        let service = u32::try_from(flow.service(&both.world)).expect("a small world");
        let owner = flow.drain_owner(both);
        // A flow without a record: the owner's, whoever is the pick.
        let before = (both.memory.flow_counts(service), kernel_records(both));
        assert_eq!(forwarded(both, &flow, &about(&flow)).0, owner, "{flow:?}");
        assert_eq!(kernel_records(both), before.1, "nothing is recorded");
        let quiet = |both: &Both, before: FlowCounts| {
            let after = both.memory.flow_counts(service);
            for what in FlowCount::ALL {
                let by = after.0[what as usize] - before.0[what as usize];
                let expected = u64::from(what == FlowCount::Asked);
                assert!(by == expected || what == FlowCount::Found && by <= 1, "{flow:?}: {what:?} {by} times");
            }
        };
        quiet(both, before.0);
        assert!(both.memory.missed.borrow().iter().all(|cell| cell.0 == [0; 4]));

        // One that is recorded where it started, or where it runs.
        let at = forwarded(both, &flow, &flow.with_flags(SYN, 0)).0;
        assert_eq!(at == owner, flow.protocol == protocol::UDP, "who learns records running flows at their owner");
        let records = both.memory.flows_v4.records.borrow().len() + both.memory.flows_v6.records.borrow().len();
        assert_eq!(records, 1);
        let pool = &both.world.pools[usize::from(both.world.backends[usize::from(at)].pool)];
        let third = *pool.members.iter().find(|member| **member != at && **member != owner).expect("three members");
        flow.set_owner(both, third);
        both.memory.clock_ns.set(both.memory.clock_ns.get() + 1_000_000_000);
        let before = (both.memory.flow_counts(service), kernel_records(both));
        let seen = both.memory.clone();
        assert_eq!(forwarded(both, &flow, &about(&flow)).0, at, "{flow:?}: by its record");
        quiet(both, before.0);
        assert_eq!(kernel_records(both), before.1, "an error is no sign of life");
        let same = |a: &Memory, b: &Memory| {
            assert_eq!(*a.flows_v4.records.borrow(), *b.flows_v4.records.borrow());
            assert_eq!(*a.flows_v6.records.borrow(), *b.flows_v6.records.borrow());
        };
        same(&seen, &both.memory);

        // A record of a dead backend says nothing, and stays for a packet of the flow to drop.
        both.change(|world| world.backends[usize::from(at)].state = DOWN);
        let before = kernel_records(both);
        assert_eq!(forwarded(both, &flow, &about(&flow)).0, third);
        assert_eq!(kernel_records(both), before);
    });
}

#[test]
fn they_follow_the_owner_of_a_settled_service_without_asking() {
    for_each_flow(|both, flow| {
        both.change(|world| world.services.iter_mut().for_each(|service| service.unsettled = false));
        let service = u32::try_from(flow.service(&both.world)).expect("a small world");
        let before = both.memory.flow_counts(service);
        assert_eq!(forwarded(both, &flow, &about(&flow)).0, flow.owner(both));
        assert_eq!(both.memory.flow_counts(service), before);
    });
}

#[test]
fn they_go_to_the_pick_when_the_owner_is_dead_and_to_the_host_when_nobody_is_left() {
    for_each_flow(|both, flow| {
        let owner = flow.owner(both);
        both.change(|world| world.backends[usize::from(owner)].state = DOWN);
        let owners = both.memory.owners.borrow().clone();
        let (backend, _) = forwarded(both, &flow, &about(&flow));
        assert_ne!(backend, owner);
        assert_eq!(*both.memory.owners.borrow(), owners, "no owner is taken over");
        for policy in [WhenExhausted::Open, WhenExhausted::Reject, WhenExhausted::Drop] {
            both.change(|world| {
                world.backends.iter_mut().for_each(|backend| backend.state = DISABLED);
                world.services.iter_mut().for_each(|service| service.when_exhausted = policy);
            });
            assert_eq!(exit(both, &about(&flow)), Exit::IcmpError, "{flow:?}: {policy:?}");
        }
    });
}

#[test]
fn with_affinity_they_go_where_the_client_goes() {
    let mut world = world();
    let pool = world.services[0].pools[0];
    for (side, prefix) in [(Side::V4, 24), (Side::V6, 64)] {
        for protocol in [protocol::TCP, protocol::UDP] {
            let service = world.service(side.vip(), 86, protocol, Mode::Dsr, &[pool]);
            world.services[service as usize].affinity = Some(prefix);
        }
    }
    with_world(world, |both| {
        for side in Side::BOTH {
            for protocol in [protocol::TCP, protocol::UDP] {
                let mut reached = Vec::new();
                for source in 1_000..1_030 {
                    let flow = Flow { side, protocol, port: 86, source };
                    reached.push(forwarded(both, &flow, &flow.packet(10)).0);
                    reached.push(forwarded(both, &flow, &about(&flow)).0);
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
                assert_eq!(forwarded(both, &flow, &about(&flow)).0, forwarded(both, &flow, &flow.packet(0)).0);
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
            let mut packet = about(&flow);
            packet.ttl = 1;
            assert_eq!(exit(both, &packet), Exit::TtlExceededSilent, "{flow:?}");
        }
        both.change(|world| world.backends.iter_mut().for_each(|backend| backend.mtu = 64));
        for flow in flows() {
            let packet = error(flow.side, kinds(flow.side).0[0], 1, &flow.answer().bytes());
            assert!(packet.bytes().len() > 64);
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
                assert_eq!(seen.way, Way::Edge(Exit::NotOurs));
                assert_eq!(seen.frame, frame.bytes());
            }
        }
    });
}
