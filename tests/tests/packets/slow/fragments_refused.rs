//! Fragments that are dropped, and first fragments that are not remembered.

use edge_common::abi::{Exit, Mode, WhenExhausted};
use edge_tests::{
    both::ProgramExit,
    packet::{Extension, Ip, Payload, Tcp, Udp, protocol, verify},
    world::{DOWN, Side},
};

use super::world::{exit, flows, forwarded, fragment, fragments, header, port, run, with_both, with_world, world};

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
            forwarded(both, flow, &pieces[0]);
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
                // RFC 8200, section 4.5: only the first fragment's header names the payload's protocol.
                let Payload::Other(_, data) = &last.payload else { panic!("a piece of a packet") };
                let mut other = last.clone();
                other.payload = Payload::Other(protocol::SCTP, data.clone());
                forwarded(both, flow, &other);
            }
            forwarded(both, flow, last);
        }
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
            forwarded(both, flow, &first(Payload::Other(flow.protocol, transport[..least].to_vec())));
            let (source, destination) = (flow.source, flow.port);
            let broken = if flow.protocol == protocol::TCP {
                let tcp = |data_offset| Tcp { source, destination, data_offset, ..Tcp::default() };
                [Payload::Tcp(tcp(Some(4))), Payload::Tcp(tcp(Some(15)))]
            } else {
                let udp = |length| Udp { source, destination, length, ..Udp::default() };
                [Payload::Udp(udp(Some(7))), Payload::Udp(udp(Some(0)))]
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
fn an_expired_fragment_is_answered_if_it_is_a_first_one() {
    with_both(|both| {
        for flow in flows() {
            let pieces = fragments(&flow.packet(240), 80, 3);
            let expired = |piece: &Ip| Ip { ttl: 1, ..piece.clone() };
            forwarded(both, flow, &pieces[0]);
            for piece in &pieces[1..] {
                assert_eq!(exit(both, &expired(piece)), Exit::TtlExceededSilent);
            }
            assert_eq!(exit(both, &expired(&pieces[0])), Exit::TtlExceeded);
            // Its later fragments do not follow an earlier packet's first one, which had the same identification.
            for piece in &pieces[1..] {
                assert_eq!(exit(both, piece), Exit::FragmentUnknown);
            }
        }
    });
}

#[test]
fn a_fragment_of_ipv6_that_is_too_long_is_answered_wherever_it_belongs() {
    with_both(|both| {
        both.change(|world| world.backends.iter_mut().for_each(|backend| backend.mtu = 1400));
        for flow in flows() {
            let long = Payload::Other(flow.protocol, vec![7; 1376]);
            let transport = flow.packet(1376).bytes()[header(flow.side)..].to_vec();
            let first = fragment(&flow.packet(0), Payload::Other(flow.protocol, transport), 0, true, 3);
            let expected = if flow.side == Side::V6 { Exit::TooBig } else { Exit::TooBigSilent };
            assert_eq!(exit(both, &first), expected, "{flow:?}: the first one");
            forwarded(both, flow, &fragments(&flow.packet(240), 80, 4)[0]);
            let mut later = fragment(&flow.packet(0), long, 20, true, 4);
            if flow.side == Side::V4 {
                later.options = vec![1; 40];
            }
            let seen = run(both, &later);
            assert_eq!(seen.exit, ProgramExit::Edge(expected), "{flow:?}: a later one");
            if flow.side == Side::V6 {
                verify::checksums(&seen.frame).expect("right checksums");
                assert_eq!(seen.frame[54..56], [2, 0]);
            }
        }
    });
}

#[test]
fn no_part_of_a_packet_goes_on_whose_first_part_did_not() {
    with_both(|both| {
        both.change(|world| world.backends.iter_mut().for_each(|backend| backend.mtu = 1400));
        for flow in flows() {
            let mut pieces = fragments(&flow.packet(1500), 1440, 3);
            assert!(matches!(exit(both, &pieces[0]), Exit::TooBig | Exit::TooBigSilent), "{flow:?}");
            assert_eq!(exit(both, &pieces[1]), Exit::FragmentUnknown, "{flow:?}: the first one was too long");
            pieces = fragments(&flow.packet(240), 80, 4);
            pieces[0].ttl = 1;
            assert_eq!(exit(both, &pieces[0]), Exit::TtlExceeded);
            assert_eq!(exit(both, &pieces[1]), Exit::FragmentUnknown, "{flow:?}: the first one had expired");
        }
        assert_eq!(both.kernel.fragments_v4().len() + both.kernel.fragments_v6().len(), 0);
    });
}

#[test]
fn a_later_fragment_does_not_begin_inside_a_tcp_header() {
    with_both(|both| {
        for flow in flows() {
            forwarded(both, flow, &fragments(&flow.packet(240), 80, 3)[0]);
            for offset in [1, 2, 3] {
                let later =
                    |protocol| fragment(&flow.packet(0), Payload::Other(protocol, vec![0; 24]), offset, true, 3);
                let mut nobody = later(flow.protocol);
                nobody.destination = flow.side.router();
                assert_eq!(exit(both, &nobody), Exit::NotOurs, "not for a VIP");
                if flow.protocol == protocol::TCP && offset < 3 {
                    assert_eq!(exit(both, &later(flow.protocol)), Exit::FragmentOverlap, "{flow:?}: {offset}");
                    if flow.side == Side::V6 {
                        // The first fragment's protocol counts, whatever this one contains.
                        assert_eq!(exit(both, &later(protocol::UDP)), Exit::FragmentOverlap, "{flow:?}: {offset}");
                    }
                } else {
                    forwarded(both, flow, &later(flow.protocol));
                }
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
            let expected = match flow.protocol {
                // No fragment shows whether its segment's checksum is right.
                protocol::TCP => Exit::RejectSilent,
                _ => Exit::RejectUnreachable,
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
            let (backend, by) = forwarded(both, flow, &whole);
            assert_eq!(backend, flow.owner(both));
            assert!(flow.tunnel() != Some(Side::V6) || by == flow.label());
            let later = fragment(&flow.packet(50), Payload::Other(flow.protocol, vec![0; 24]), 6, false, 3);
            assert_eq!(run(both, &later).exit, ProgramExit::Edge(Exit::FragmentUnknown));
        }
    });
}
