//! Fragments follow the first one of their packet, for a while, and only if it was seen.

use std::{collections::BTreeSet, thread::sleep, time::Duration};

use edge_common::{
    abi::{Mode, WhenExhausted},
    exit::Exit,
};
use edge_tests::{
    both::{Both, Program, Way, on_host},
    kernel::{Arrival, Kernel},
    namespace::in_namespace,
    packet::{Extension, Ip, Payload, SYN, Tcp, Udp, protocol},
    world::{DOWN, Side},
};

use super::odd::{
    Flow, exit, flows, for_each_flow, forwarded, fragment, fragments, frame, header, port, run, traffic, with_both,
    with_world, world,
};

#[test]
fn all_fragments_of_a_packet_go_where_the_first_one_goes_in_any_order() {
    with_both(|both| {
        let mut id = 0x1000;
        for flow in flows() {
            for order in [[0, 1, 2, 3], [0, 3, 2, 1], [0, 2, 3, 1]] {
                for flags in [SYN, 0x10] {
                    id += 0x0111;
                    let pieces = fragments(&flow.with_flags(flags, 240), 80, id);
                    let owner = flow.owner(both);
                    let before = traffic(both, &flow, owner);
                    let mut told_by = BTreeSet::new();
                    for number in order {
                        let (backend, by) = forwarded(both, &flow, &pieces[number]);
                        assert_eq!(backend, owner, "{flow:?}: fragment {number}");
                        told_by.insert(by);
                        if flow.tunnel() == Some(Side::V6) {
                            assert_eq!(by == flow.label(), number == 0, "the flow's label is for what has its ports");
                        }
                    }
                    if flow.tunnel() == Some(Side::V4) && flow.side == Side::V4 {
                        assert_eq!(told_by.len(), 4, "{flow:?}: outer packets that may be fragmented are told apart");
                    }
                    let bytes = pieces.iter().map(|piece| piece.bytes().len() as u64).sum::<u64>();
                    let starts = u64::from(flow.protocol == protocol::TCP && flags == SYN);
                    for (before, after) in before.into_iter().zip(traffic(both, &flow, owner)) {
                        assert_eq!(after, (before.0 + 4, before.1 + bytes, before.2 + starts), "{flow:?}");
                    }
                }
            }
        }
    });
}

#[test]
fn outer_headers_of_first_fragments_have_the_flows_bits() {
    with_both(|both| {
        for flow in flows() {
            let first = &fragments(&flow.packet(240), 80, 0x1234)[0];
            let (_, by) = forwarded(both, &flow, first);
            let expected = match (flow.tunnel(), flow.side) {
                (None, _) | (Some(Side::V4), Side::V6) => 0,
                (Some(Side::V4), Side::V4) => 0x1234 ^ (flow.label() & 0xffff),
                (Some(Side::V6), _) => flow.label(),
            };
            assert_eq!(by, expected, "{flow:?}");
        }
    });
}

#[test]
fn fragments_stay_when_owner_and_pick_change_between_them_or_the_backend_dies() {
    for_each_flow(|both, flow| {
        let pieces = fragments(&flow.packet(240), 80, 7);
        let (first, _) = forwarded(both, &flow, &pieces[0]);
        assert_eq!(flow.drain_owner(both), first);
        assert_eq!(forwarded(both, &flow, &pieces[1]).0, first, "the pick is another one");
        let other = both.world.pools[both.world.backends[usize::from(first)].pool as usize]
            .members
            .iter()
            .find(|member| **member != first);
        flow.set_owner(both, *other.expect("three members"));
        assert_eq!(forwarded(both, &flow, &pieces[2]).0, first, "the owner, too");
        both.change(|world| world.backends[usize::from(first)].state = DOWN);
        assert_eq!(forwarded(both, &flow, &pieces[3]).0, first, "no other could put them together");
    });
}

#[test]
fn fragments_follow_a_record_that_their_first_one_found() {
    for_each_flow(|both, flow| {
        if flow.protocol == protocol::UDP {
            return;
        }
        let owner = flow.drain_owner(both);
        let (pick, _) = forwarded(both, &flow, &flow.with_flags(SYN, 0));
        assert_ne!(pick, owner, "it started elsewhere, and is recorded there");
        for piece in fragments(&flow.packet(240), 80, 9) {
            assert_eq!(forwarded(both, &flow, &piece).0, pick, "{flow:?}");
        }
    });
}

#[test]
fn a_flow_that_starts_with_a_fragment_is_recorded() {
    for_each_flow(|both, flow| {
        if flow.protocol == protocol::UDP {
            return;
        }
        let owner = flow.drain_owner(both);
        let pieces = fragments(&flow.with_flags(SYN, 240), 80, 9);
        let reached = pieces.iter().map(|piece| forwarded(both, &flow, piece).0).collect::<BTreeSet<_>>();
        assert_eq!(reached.len(), 1);
        assert!(!reached.contains(&owner));
        let records = both.memory.flows_v4.records.borrow().len() + both.memory.flows_v6.records.borrow().len();
        assert_eq!(records, 1, "only the first one says whose flow it is");
        assert!(reached.contains(&forwarded(both, &flow, &flow.packet(0)).0));
    });
}

#[test]
fn fragments_go_on_when_their_service_gets_another_number_or_another_half() {
    for_each_flow(|both, flow| {
        let pieces = fragments(&flow.packet(240), 80, 7);
        let (first, _) = forwarded(both, &flow, &pieces[0]);
        let old = flow.service(&both.world);
        let new = (old + 1) % both.world.services.len();
        both.change(|world| world.services.swap(old, new));
        assert_eq!(flow.service(&both.world), new);
        let before = traffic(both, &flow, first);
        assert_eq!(forwarded(both, &flow, &pieces[1]).0, first);
        assert_eq!(traffic(both, &flow, first)[0].0, before[0].0 + 1, "counted where the service is now");
        to_the_other_half(both);
        assert_eq!(forwarded(both, &flow, &pieces[2]).0, first, "{flow:?}");
        // And when it is gone, they are nobody's.
        both.change(|world| world.services[new].port = 9999);
        assert_eq!(exit(both, &pieces[3]), Exit::NotOurs);
    });
}

/// Publishes the same in the other half, and leaves nothing in the first one.
fn to_the_other_half(both: &mut Both) {
    fn swap<T: Default>(map: &mut [T]) {
        for pair in map.chunks_mut(2) {
            pair.swap(0, 1);
        }
    }
    let memory = &mut both.memory;
    memory.published.active ^= 1;
    memory.published.generations.swap(0, 1);
    swap(&mut memory.services);
    swap(&mut memory.pools);
    swap(&mut memory.service_index_v4);
    swap(&mut memory.service_index_v6);
    both.kernel.copy(&both.memory);
}

#[test]
fn what_is_not_of_the_same_packet_does_not_follow() {
    let mut world = world();
    let pool = world.services[0].pools[0];
    for side in Side::BOTH {
        world.service(side.other(), port::DSR, protocol::UDP, Mode::Dsr, &[pool]);
    }
    with_world(world, |both| {
        let mut id = 7;
        for flow in flows() {
            id += 10;
            let pieces = fragments(&flow.packet(240), 80, id);
            for piece in &pieces[1..] {
                assert_eq!(exit(both, piece), Exit::FragmentUnknown, "{flow:?}: none was seen");
            }
            forwarded(both, &flow, &pieces[0]);
            let last = &pieces[3];
            let mut others = vec![("identification", fragments(&flow.packet(240), 80, id + 1)[3].clone())];
            let mut client = last.clone();
            client.source = flow.side.router();
            others.push(("client", client));
            let mut vip = last.clone();
            vip.destination = flow.side.other();
            others.push(("VIP", vip));
            if flow.side == Side::V4 {
                let mut protocol = last.clone();
                protocol.protocol = Some(flow.protocol ^ protocol::TCP ^ protocol::UDP);
                others.push(("protocol", protocol));
            } else {
                let mut high = last.clone();
                high.extensions = vec![Extension::fragment(20, false, u32::from(id) | 1 << 24)];
                others.push(("high bits of the identification", high));
            }
            let mut nobody = last.clone();
            nobody.destination = flow.side.router();
            assert_eq!(exit(both, &nobody), Exit::NotOurs, "not for a VIP");
            for (what, packet) in others {
                assert_eq!(exit(both, &packet), Exit::FragmentUnknown, "{flow:?}: other {what}");
            }
            if flow.side == Side::V6 {
                // RFC 8200, section 4.5: only the first fragment's says what is in the packet.
                let Payload::Other(_, data) = &last.payload else { panic!("a piece of a packet") };
                let mut other = last.clone();
                other.payload = Payload::Other(protocol::SCTP, data.clone());
                forwarded(both, &flow, &other);
            }
            forwarded(both, &flow, last);
        }
    });
}

#[test]
fn a_first_fragment_is_forgotten_after_five_seconds() {
    let memory = world().memory();
    let way = |packet: &Ip| on_host(&memory, Program::Edge, &frame(packet), Arrival::by(1)).way;
    for flow in flows() {
        let pieces = fragments(&flow.packet(240), 80, 3);
        let started = 1 << 40;
        memory.clock_ns.set(started);
        assert_eq!(way(&pieces[0]), Way::Edge(flow.exit()));
        for (after, exit) in [
            (0, flow.exit()),
            (4_999_999_999, flow.exit()),
            (5_000_000_000, Exit::FragmentUnknown),
            (u64::MAX - started, Exit::FragmentUnknown),
        ] {
            memory.clock_ns.set(started + after);
            assert_eq!(way(&pieces[1]), Way::Edge(exit), "{flow:?}: {after} ns later");
        }
    }
}

#[test]
fn the_kernel_forgets_it_then_too() {
    with_both(|both| {
        let flows = flows();
        let pieces = |flow: &Flow| fragments(&flow.packet(240), 80, flow.port);
        for flow in &flows {
            forwarded(both, flow, &pieces(flow)[0]);
        }
        sleep(Duration::from_millis(4_500));
        both.memory.clock_ns.set(4_500_000_000);
        for flow in &flows {
            forwarded(both, flow, &pieces(flow)[1]);
        }
        sleep(Duration::from_millis(1_000));
        both.memory.clock_ns.set(5_500_000_000);
        for flow in &flows {
            assert_eq!(exit(both, &pieces(flow)[2]), Exit::FragmentUnknown);
        }
    });
}

#[test]
fn a_flood_of_first_fragments_takes_no_more_room_than_there_is() {
    in_namespace(|| {
        let world = world();
        let memory = world.memory();
        let kernel = Kernel::load_with_fragments(&memory, 64);
        let both = Both { world, memory, kernel };
        for flow in flows().iter().filter(|flow| flow.port == port::DSR) {
            for id in 0..2_000 {
                forwarded(&both, flow, &fragment(&flow.packet(100), flow.packet(100).payload, 0, true, id));
            }
            // Who comes after it is served.
            for id in 5_000..5_010 {
                for piece in fragments(&flow.packet(240), 80, id) {
                    forwarded(&both, flow, &piece);
                }
            }
        }
        for count in [both.kernel.fragments_v4().len(), both.kernel.fragments_v6().len()] {
            assert!((1..=64).contains(&count), "{count} packets remembered");
        }
    });
}

#[test]
fn the_tables_of_both_hold_the_same() {
    with_both(|both| {
        for flow in flows() {
            for piece in fragments(&flow.packet(240), 80, 3) {
                forwarded(both, &flow, &piece);
            }
        }
        let v4 = both.kernel.fragments_v4();
        let v6 = both.kernel.fragments_v6();
        let host = (both.memory.fragments_v4.borrow(), both.memory.fragments_v6.borrow());
        assert!(v4.keys().eq(host.0.keys()) && v6.keys().eq(host.1.keys()));
        for (kernel, host) in v4.values().chain(v6.values()).zip(host.0.values().chain(host.1.values())) {
            let mut kernel = *kernel;
            kernel.seen_ns = 0;
            assert_eq!(kernel, *host);
        }
        // Of IPv4 the protocol tells packets apart, too.
        assert_eq!((v4.len(), v6.len()), (2, 1));
    });
}

#[test]
fn first_fragments_too_short_for_what_they_start_are_malformed() {
    with_both(|both| {
        for flow in flows() {
            let bytes = flow.packet(100).bytes();
            let transport = bytes[header(flow.side)..].to_vec();
            let least = if flow.protocol == protocol::TCP { 20 } else { 8 };
            let first = |payload| fragment(&flow.packet(0), payload, 0, true, 1);
            for length in 0..least {
                let cut = first(Payload::Other(flow.protocol, transport[..length].to_vec()));
                assert_eq!(exit(both, &cut), Exit::Malformed, "{flow:?}: {length} bytes");
                let mut others = cut;
                others.destination = flow.side.other();
                assert_eq!(exit(both, &others), Exit::NotOurs, "not for a VIP");
            }
            forwarded(both, &flow, &first(Payload::Other(flow.protocol, transport[..least].to_vec())));
            let (source, destination) = (flow.source, flow.port);
            let broken = match flow.protocol {
                protocol::TCP => {
                    let tcp = |data_offset| Tcp { source, destination, data_offset, ..Tcp::default() };
                    [Payload::Tcp(tcp(Some(4))), Payload::Tcp(tcp(Some(15)))]
                }
                _ => {
                    let udp = |length| Udp { source, destination, length, ..Udp::default() };
                    [Payload::Udp(udp(Some(7))), Payload::Udp(udp(Some(0)))]
                }
            };
            for payload in broken {
                assert_eq!(exit(both, &first(payload)), Exit::Malformed, "{flow:?}");
            }
        }
        for kernel in [both.kernel.fragments_v4().len(), both.kernel.fragments_v6().len()] {
            assert!(kernel <= 2, "what is malformed is not remembered");
        }
    });
}

#[test]
fn what_is_too_long_or_expired_is_answered_only_for_a_first_fragment_of_ipv4() {
    with_both(|both| {
        for flow in flows() {
            let mut pieces = fragments(&flow.packet(240), 80, 3);
            forwarded(both, &flow, &pieces[0]);
            for piece in &mut pieces {
                piece.ttl = 1;
            }
            let first = if flow.side == Side::V4 { Exit::TtlExceeded } else { Exit::TtlExceededSilent };
            assert_eq!(exit(both, &pieces[0]), first);
            for piece in &pieces[1..] {
                assert_eq!(exit(both, piece), Exit::TtlExceededSilent);
            }
        }
        both.change(|world| world.backends.iter_mut().for_each(|backend| backend.mtu = 90));
        for flow in flows() {
            let pieces = fragments(&flow.packet(240), 80, 3);
            assert_eq!(exit(both, &pieces[0]), Exit::TooBigSilent, "{flow:?}");
            if flow.side == Side::V6 {
                assert_eq!(exit(both, &pieces[1]), Exit::TooBigSilent, "{flow:?}");
            }
        }
    });
}

#[test]
fn first_fragments_of_a_service_without_backends_are_not_remembered() {
    with_both(|both| {
        both.change(|world| {
            world.backends.iter_mut().for_each(|backend| backend.state = DOWN);
            for service in &mut world.services {
                service.when_exhausted = WhenExhausted::Reject;
            }
        });
        for flow in flows() {
            let pieces = fragments(&flow.packet(240), 80, 3);
            let expected = match (flow.protocol, flow.side) {
                (protocol::TCP, _) => Exit::RejectReset,
                (_, Side::V4) => Exit::RejectUnreachable,
                (_, Side::V6) => Exit::RejectSilent,
            };
            assert_eq!(exit(both, &pieces[0]), expected, "{flow:?}");
            assert_eq!(exit(both, &pieces[1]), Exit::FragmentUnknown);
        }
        assert_eq!(both.kernel.fragments_v4().len() + both.kernel.fragments_v6().len(), 0);
    });
}

#[test]
fn an_atomic_fragment_has_none_that_follow() {
    with_both(|both| {
        for flow in flows().into_iter().filter(|flow| flow.side == Side::V6) {
            let whole = fragment(&flow.packet(50), flow.packet(50).payload, 0, false, 3);
            let (backend, by) = forwarded(both, &flow, &whole);
            assert_eq!(backend, flow.owner(both));
            assert!(flow.tunnel() != Some(Side::V6) || by == flow.label());
            let later = fragment(&flow.packet(50), Payload::Other(flow.protocol, vec![0; 24]), 6, false, 3);
            assert_eq!(run(both, &later).way, Way::Edge(Exit::FragmentUnknown));
        }
    });
}
