//! Translated packets of the slow path: with options and extension headers, fragments, and ICMP errors.

use std::net::IpAddr;

use edge_common::{abi::Exit, flow_table::Stage};
use edge_tests::{
    both::{Both, Seen},
    namespace::{LO, in_namespace},
    packet::{ACK, Extension, Frame, Icmp, Ip, Network, Payload, SYN, Tcp, Udp, protocol},
    world::{CLIENT_MAC, EDGE_MAC, Side},
};

use super::{BACKEND_PORT, Client, PORT, TCP, UDP, address, exit, labelled, run, segment, world};

fn ip(frame: &Frame) -> Ip {
    match &frame.network {
        Network::Ip(ip) => ip.clone(),
        Network::Other(..) => panic!("{frame:?}"),
    }
}

fn with_options(mut frame: Frame) -> Frame {
    let Network::Ip(ip) = &mut frame.network else { panic!("IP") };
    if ip.source.is_ipv4() {
        ip.options = vec![1; 8];
    } else {
        ip.extensions = vec![Extension::filler(protocol::DESTINATION, 1)];
    }
    frame
}

#[test]
fn options_and_extension_headers_are_no_obstacle_either_way() {
    for (side, service) in [(Side::V4, TCP), (Side::V6, TCP), (Side::V4, UDP), (Side::V6, UDP)] {
        in_namespace(|| {
            let both = Both::new(world(side, 64, 4, LO));
            let client = Client { side, port: 40_000, service };
            let seen = run(&both, &with_options(client.sends(segment(SYN, 5, 0))));
            assert_eq!(exit(&seen), Exit::NatTx, "{side:?} {service}");
            let flow = client.translated(&both).expect("a flow");
            let to = address(side, flow.translation.backend);
            let payload = match service {
                TCP => Payload::Tcp(Tcp { source: flow.port, destination: BACKEND_PORT, ..segment(SYN, 5, 0) }),
                _ => Payload::Udp(Udp {
                    source: flow.port,
                    destination: BACKEND_PORT,
                    data: Vec::new(),
                    ..Udp::default()
                }),
            };
            let sent = labelled(Ip { ttl: 63, ..Ip::new(side.source(), to, payload) }, client.label(&both));
            let expected = ip(&with_options(Frame::new([0; 6], [0; 6], sent)));
            assert_eq!(seen.frame[14..], expected.bytes());
            let answer = with_options(client.answered(&both, segment(SYN | ACK, 100, 6)));
            assert_eq!(exit(&run(&both, &answer)), Exit::NatReplyTx);
            let stage = client.translated(&both).expect("a flow").stage;
            assert_eq!(stage, if service == TCP { Stage::Answered } else { Stage::Established });
        });
    }
}

/// A packet in two fragments, with `first` bytes behind the first eight of its payload in the first one.
fn parts(frame: &Frame, first: usize, id: u16, protocol: u8) -> [Frame; 2] {
    let payload = {
        let whole = ip(frame);
        let header = if whole.source.is_ipv4() { 20 } else { 40 };
        whole.bytes()[header..].to_vec()
    };
    let cut = 8 + first;
    [part(frame, &payload[..cut], (0, true), id, protocol), part(frame, &payload[cut..], (cut, false), id, protocol)]
}

/// A fragment of a packet: `bytes` at this offset, and whether more follow.
pub(super) fn part(of: &Frame, bytes: &[u8], (offset, more): (usize, bool), id: u16, protocol: u8) -> Frame {
    let mut ip = Ip { payload: Payload::Other(protocol, bytes.to_vec()), ..ip(of) };
    assert_eq!(offset % 8, 0);
    let offset = u16::try_from(offset / 8).expect("a short packet");
    if ip.source.is_ipv4() {
        (ip.id, ip.dont_fragment, ip.more_fragments, ip.fragment_offset) = (id, false, more, offset);
    } else {
        ip.extensions = vec![Extension::fragment(offset, more, id.into())];
    }
    Frame { network: Network::Ip(ip), ..of.clone() }
}

#[test]
fn the_fragments_of_a_datagram_are_translated_as_it_would_be_whole() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, 64, 4, LO));
            let client = Client { side, port: 40_000, service: UDP };
            let data = Tcp { data: (0..200).collect(), ..Tcp::default() };
            let forth = parts(&client.sends(data.clone()), 56, 77, protocol::UDP);
            let header = if side == Side::V4 { 34 } else { 62 };
            let put_together = |seen: [Seen; 2]| {
                let [first, second] = seen.map(|seen| seen.frame[header..].to_vec());
                [first, second].concat()
            };
            let addresses = |seen: &Seen| match side {
                Side::V4 => seen.frame[26..34].to_vec(),
                Side::V6 => seen.frame[22..54].to_vec(),
            };
            let bytes_of = |from: IpAddr, to: IpAddr, payload: Payload| {
                let length = if side == Side::V4 { 20 } else { 40 };
                Ip::new(from, to, payload).bytes()[length..].to_vec()
            };
            // The later fragment comes first, and is unknown.
            assert_eq!(exit(&both.run(&forth[1].bytes())), Exit::FragmentUnknown);
            let seen = forth.map(|part| {
                let seen = both.run(&part.bytes());
                assert_eq!(exit(&seen), Exit::NatTx);
                seen
            });
            let flow = client.translated(&both).expect("a flow");
            let backend = address(side, flow.translation.backend);
            assert_eq!(addresses(&seen[0]), addresses(&seen[1]));
            let whole = Udp { source: flow.port, destination: BACKEND_PORT, data: data.data.clone(), ..Udp::default() };
            assert_eq!(put_together(seen), bytes_of(side.source(), backend, Payload::Udp(whole)));

            let back = parts(&client.answered(&both, data.clone()), 56, 78, protocol::UDP);
            let seen = back.map(|part| {
                let seen = both.run(&part.bytes());
                assert_eq!(exit(&seen), Exit::NatReplyTx);
                seen
            });
            assert_eq!(addresses(&seen[0]), addresses(&seen[1]));
            let whole = Udp { source: PORT, destination: client.port, data: data.data.clone(), ..Udp::default() };
            assert_eq!(put_together(seen), bytes_of(side.vip(), side.client(), Payload::Udp(whole)));

            // A fragment of no translated packet is passed to the host unchanged.
            let [_, stray] = parts(&client.answered(&both, data), 56, 79, protocol::UDP);
            let seen = both.run(&stray.bytes());
            assert_eq!((exit(&seen), seen.frame), (Exit::NotOurs, stray.bytes()));
            both.compare_state().unwrap();
        });
    }
}

#[test]
fn a_later_fragment_of_a_translated_flow_does_not_begin_inside_a_tcp_header() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, 64, 4, LO));
            let client = Client { side, port: 40_000, service: TCP };
            run(&both, &client.sends(segment(SYN, 5, 0)));
            run(&both, &client.answered(&both, segment(SYN | ACK, 100, 6)));
            let data = Tcp { data: (0..200).collect(), ..segment(ACK, 6, 101) };
            for (whole, forwarded, refused) in [
                (client.sends(data.clone()), Exit::NatTx, Exit::FragmentOverlap),
                // No address of a VIP: the host gets it, and has no first fragment to it.
                (client.answered(&both, data.clone()), Exit::NatReplyTx, Exit::NotOurs),
            ] {
                let [first, _] = parts(&whole, 80, 77, protocol::TCP);
                assert_eq!(exit(&both.run(&first.bytes())), forwarded, "{side:?}");
                for (offset, expected) in [(1, refused), (2, refused), (3, forwarded)] {
                    // In IPv6 the first fragment's protocol counts, whatever a later one names.
                    let protocols: &[u8] = match side {
                        Side::V4 => &[protocol::TCP],
                        Side::V6 => &[protocol::TCP, protocol::UDP],
                    };
                    for protocol in protocols {
                        let later = part(&whole, &[7; 24], (8 * offset, false), 77, *protocol);
                        assert_eq!(exit(&both.run(&later.bytes())), expected, "{side:?}: {offset}, {protocol}");
                    }
                }
            }
            both.compare_state().unwrap();
        });
    }
}

/// A port unreachable error that quotes the first `length` bytes of a packet.
fn error(side: Side, quoted: &Ip, length: usize) -> Payload {
    let mut bytes = quoted.bytes();
    bytes.truncate(length);
    let (kind, code) = if side == Side::V4 { (3, 3) } else { (1, 4) };
    Payload::Icmp(Icmp::error(kind, code, 0, &bytes))
}

#[test]
fn an_error_goes_to_the_sender_of_the_packet_in_it_and_quotes_that_packet_as_sent() {
    for (side, service) in [(Side::V4, TCP), (Side::V6, TCP), (Side::V4, UDP), (Side::V6, UDP)] {
        in_namespace(|| {
            let both = Both::new(world(side, 64, 4, LO));
            let client = Client { side, port: 40_000, service };
            run(&both, &client.sends(segment(SYN, 5, 0)));
            run(&both, &client.answered(&both, segment(SYN | ACK, 100, 6)));
            let flow = client.translated(&both).expect("a flow");
            let backend = address(side, flow.translation.backend);
            let packet = |(source, destination): (u16, u16), tcp: Tcp| match service {
                TCP => Payload::Tcp(Tcp { source, destination, ..tcp }),
                _ => Payload::Udp(Udp { source, destination, data: tcp.data, ..Udp::default() }),
            };
            let header = if side == Side::V4 { 20 } else { 40 };
            for length in [header + 4, header + 8, header + 28, 200] {
                // From a router on the path to the backend, and from the backend itself.
                let label = client.label(&both);
                let outside = Ip::new(side.source(), backend, packet((flow.port, BACKEND_PORT), segment(ACK, 6, 101)));
                let outside = labelled(outside, label);
                // The sender's own identification is not known any more.
                let inside = Ip::new(side.client(), side.vip(), packet((client.port, PORT), segment(ACK, 6, 101)));
                let inside = labelled(inside, label);
                for (from, seen_from) in [(side.router(), side.router()), (backend, side.vip())] {
                    let came =
                        Frame::new(EDGE_MAC, [2; 6], Ip::new(from, side.source(), error(side, &outside, length)));
                    let seen = run(&both, &came);
                    let left = Ip { ttl: 63, ..Ip::new(seen_from, side.client(), error(side, &inside, length)) };
                    let expected = Frame::new(CLIENT_MAC, EDGE_MAC, left);
                    assert_eq!(exit(&seen), Exit::NatReplyTx, "{side:?} {service} {length}");
                    same_but_for_tcps_checksum(&seen.frame, &expected.bytes(), header, service, length);
                }
                // From a router on the path to the client.
                let outside = Ip::new(side.vip(), side.client(), packet((PORT, client.port), segment(ACK, 101, 6)));
                let inside = Ip::new(backend, side.source(), packet((BACKEND_PORT, flow.port), segment(ACK, 101, 6)));
                let came =
                    Frame::new(EDGE_MAC, CLIENT_MAC, Ip::new(side.router(), side.vip(), error(side, &outside, length)));
                let seen = run(&both, &came);
                let left = Ip { ttl: 63, ..Ip::new(side.source(), backend, error(side, &inside, length)) };
                let left = labelled(left, label);
                assert_eq!(exit(&seen), Exit::NatTx, "{side:?} {service} {length}");
                same_but_for_tcps_checksum(
                    &seen.frame[12..],
                    &Frame::new([0; 6], [0; 6], left).bytes()[12..],
                    header,
                    service,
                    length,
                );
            }
            // About a packet of no flow: passed to the host, or counted as to no service.
            let stranger = Ip::new(side.source(), backend, packet((flow.port ^ 1, BACKEND_PORT), segment(ACK, 6, 101)));
            let came = Frame::new(EDGE_MAC, [2; 6], Ip::new(side.router(), side.source(), error(side, &stranger, 200)));
            let seen = run(&both, &came);
            assert_eq!((exit(&seen), seen.frame), (Exit::NotOurs, came.bytes()));
        });
    }
}

/// Compares two errors except for the checksum of the quoted TCP segment: it stays unchanged, since nobody can verify
/// it and few routers quote it. The sum of the ICMP message, which was verified before, differs as well.
fn same_but_for_tcps_checksum(seen: &[u8], expected: &[u8], header: usize, service: u32, quoted: usize) {
    assert_eq!(seen.len(), expected.len());
    if service == UDP && quoted >= header + 8 || quoted < header + 18 && service == TCP {
        assert_eq!(seen, expected);
        return;
    }
    let end = seen.len();
    let differ = (0..end).filter(|at| seen[*at] != expected[*at]).count();
    assert!(differ <= 4, "{differ} bytes differ: {seen:02x?} {expected:02x?}");
}
