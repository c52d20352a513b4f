//! Clients of one IP version and backends of the other: each translated packet is compared with one that is built
//! independently.

use edge_common::{abi::Exit, flow_table::Stage};
use edge_tests::{
    both::{Both, Seen},
    namespace::{LO, in_namespace},
    packet::{ACK, Extension, FIN, Frame, Ip, Network, Payload, RST, SYN, Tag, Tcp, protocol, verify},
    world::{CLIENT_MAC, EDGE_MAC, Side, World},
};

use super::{BACKEND_PORT, Client, PORT, TCP, UDP, address, exit, labelled, packet, run, segment, world_of};

const AWAY: u32 = 77;

pub(super) const fn other(side: Side) -> Side {
    match side {
        Side::V4 => Side::V6,
        Side::V6 => Side::V4,
    }
}

/// A world with clients of this side, and backends of the other.
pub(super) fn world(clients: Side, egress: u32) -> World {
    world_of(clients, other(clients), 64, 4, egress)
}

pub(super) fn ip(frame: &mut Frame) -> &mut Ip {
    match &mut frame.network {
        Network::Ip(ip) => ip,
        Network::Other(..) => panic!("IP"),
    }
}

/// A packet from the backend to the source that the backend saw.
pub(super) fn answered(client: Client, both: &Both, segment: Tcp) -> Frame {
    let flow = client.translated(both).expect("a flow");
    let backends = other(client.side);
    let payload = packet(client.protocol(), (BACKEND_PORT, flow.port), segment);
    let mac = [0x02, 0, 0, 0xbb, 0, u8::try_from(flow.translation.backend).expect("a few")];
    Frame::new(EDGE_MAC, mac, Ip::new(address(backends, flow.translation.backend), backends.source(), payload))
}

/// A packet of the client, as its backend must receive it.
pub(super) fn at_backend(client: Client, both: &Both, segment: Tcp) -> Ip {
    let flow = client.translated(both).expect("a flow");
    let backends = other(client.side);
    let payload = packet(client.protocol(), (flow.port, BACKEND_PORT), segment);
    let ip = Ip { ttl: 63, ..Ip::new(backends.source(), address(backends, flow.translation.backend), payload) };
    labelled(ip, client.label(both))
}

/// A packet of the backend, as the client must receive it.
pub(super) fn at_client(client: Client, segment: Tcp) -> Ip {
    let payload = packet(client.protocol(), (PORT, client.port), segment);
    Ip { ttl: 63, id: 0, ..Ip::new(client.side.vip(), client.side.client(), payload) }
}

/// Compares a packet that left with the expected one. Packets of up to 1,260 bytes, which an IPv6 sender would not make
/// shorter, may be fragmented, and the identification of such a packet may differ.
pub(super) fn same(seen: &[u8], expected: &Ip) {
    let mut expected = expected.clone();
    if expected.source.is_ipv4() && expected.extensions.is_empty() {
        expected.dont_fragment = expected.bytes().len() > 1260;
        if !expected.dont_fragment {
            expected.id = u16::from_be_bytes([seen[4], seen[5]]);
        }
    }
    assert_eq!(seen, expected.bytes(), "{expected:?}");
}

/// Plays the whole life of a TCP connection, and checks its stages; `forth` is the exit of the client's packets.
fn connect(client: Client, both: &Both, forth: Exit) {
    let went = |sent: Tcp, stage: Stage| {
        let seen = run(both, &client.sends(sent.clone()));
        assert_eq!(exit(&seen), forth, "{sent:?}");
        same(&seen.frame[14..], &at_backend(client, both, sent));
        assert_eq!(client.translated(both).expect("a flow").stage, stage);
    };
    let came = |sent: Tcp, stage: Stage| {
        let seen = run(both, &answered(client, both, sent.clone()));
        assert_eq!(exit(&seen), Exit::NatReplyTx, "{sent:?}");
        same(&seen.frame[14..], &at_client(client, sent));
        assert_eq!(seen.frame[..12], Frame::new(CLIENT_MAC, EDGE_MAC, at_client(client, Tcp::default())).bytes()[..12]);
        assert_eq!(client.translated(both).expect("a flow").stage, stage);
    };
    went(segment(SYN, 1000, 0), Stage::HalfOpen);
    came(segment(SYN | ACK, 70_000, 1001), Stage::Answered);
    went(segment(ACK, 1001, 70_001), Stage::Established);
    came(segment(ACK, 70_001, 1012), Stage::Established);
    let long = Tcp { data: vec![7; 1400], ..segment(ACK, 1012, 70_012) };
    went(long.clone(), Stage::Established);
    came(long, Stage::Established);
    came(segment(FIN | ACK, 71_412, 2412), Stage::BackendClosed);
    went(segment(FIN | ACK, 2412, 71_413), Stage::Closed);
    went(segment(SYN, 91_000, 0), Stage::HalfOpen);
    // A refusal ends nothing that has not begun.
    came(segment(RST, 5, 0), Stage::HalfOpen);
}

#[test]
fn a_connection_goes_to_a_backend_of_the_other_ip_version_and_back() {
    for (side, egress, forth) in [
        (Side::V4, LO, Exit::NatTx),
        (Side::V6, LO, Exit::NatTx),
        (Side::V4, AWAY, Exit::NatRedirect),
        (Side::V6, AWAY, Exit::NatRedirect),
    ] {
        in_namespace(|| {
            let both = Both::new(world(side, egress));
            connect(Client { side, port: 40_000, service: TCP }, &both, forth);
            let counts = both.memory.service_traffic(TCP);
            assert_eq!((counts.packets, counts.flows), (5, 1));
        });
    }
}

#[test]
fn datagrams_do_and_dscp_ecn_and_what_pads_a_frame_stay() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, LO));
            let client = Client { side, port: 40_000, service: UDP };
            for length in [0, 1, 3, 18, 1200, 1201, 1400] {
                let data = Tcp { data: (0..=u8::MAX).cycle().take(length).collect(), ..Tcp::default() };
                let mut frame = client.sends(data.clone());
                ip(&mut frame).tos = 0xb9;
                frame.trailer = vec![0xee; 6];
                let seen = run(&both, &frame);
                assert_eq!(exit(&seen), Exit::NatTx, "{side:?} {length}");
                let expected = Ip { tos: 0xb9, ..at_backend(client, &both, data.clone()) };
                same(&seen.frame[14..seen.frame.len() - 6], &expected);
                let mut frame = answered(client, &both, data.clone());
                ip(&mut frame).tos = 0x03;
                let seen = run(&both, &frame);
                assert_eq!(exit(&seen), Exit::NatReplyTx);
                same(&seen.frame[14..], &Ip { tos: 0x03, ..at_client(client, data) });
            }
        });
    }
}

#[test]
fn tags_are_put_on_and_taken_off_whatever_header_follows() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut world = world(side, LO);
            world.backends.iter_mut().for_each(|backend| backend.vlan = 300);
            let both = Both::new(world);
            let client = Client { side, port: 40_000, service: UDP };
            let came = client.sends(Tcp::default()).tagged(&[Tag::new(7).with_priority(5, false)]);
            let seen = run(&both, &came);
            assert_eq!(exit(&seen), Exit::NatTx);
            assert_eq!(seen.frame[12..16], [0x81, 0, 0xa1, 0x2c]);
            same(&seen.frame[18..], &at_backend(client, &both, Tcp::default()));
            let seen = run(&both, &answered(client, &both, Tcp::default()).tagged(&[Tag::new(300)]));
            assert_eq!(exit(&seen), Exit::NatReplyTx);
            assert_eq!(seen.frame[12..16], [0x81, 0, 0, 7]);
            same(&seen.frame[18..], &at_client(client, Tcp::default()));
        });
    }
}

#[test]
fn options_and_extension_headers_are_left_out_but_a_source_route_is_not() {
    let with = |mut frame: Frame, options: &[u8], extensions: &[Extension]| {
        let ip = ip(&mut frame);
        (ip.options, ip.extensions) = (options.to_vec(), extensions.to_vec());
        frame
    };
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, LO));
            let client = Client { side, port: 40_000, service: TCP };
            let hop_by_hop = Extension::filler(protocol::HOP_BY_HOP, 0);
            let fillers = [hop_by_hop, Extension::filler(protocol::DESTINATION, 2)];
            let seen = run(&both, &with(client.sends(segment(SYN, 5, 0)), &[7, 7, 4, 0, 0, 0, 0, 0], &fillers));
            assert_eq!(exit(&seen), Exit::NatTx);
            same(&seen.frame[14..], &at_backend(client, &both, segment(SYN, 5, 0)));
            let answer = with(answered(client, &both, segment(SYN | ACK, 9, 6)), &[1; 40], &fillers);
            let seen = run(&both, &answer);
            assert_eq!(exit(&seen), Exit::NatReplyTx);
            same(&seen.frame[14..], &at_client(client, segment(SYN | ACK, 9, 6)));
            // A used-up routing header of IPv6 is ignored. A source route of IPv4 counts in any case.
            let used_up = Extension::filler(protocol::ROUTING, 0);
            let mut left = used_up.clone();
            left.rest[2] = 1;
            let atomic = Extension::fragment(0, false, 7);
            let routes: &[(&[u8], &[Extension], bool)] = &[
                (&[131, 7, 4, 1, 2, 3, 4, 0], &[left.clone()], true),
                (&[1, 137, 7, 4, 1, 2, 3, 4], &[Extension::filler(protocol::DESTINATION, 0), left.clone()], true),
                (&[131, 7, 4, 1, 2, 3, 4, 0], &[atomic, left], true),
                (&[68, 4, 131, 137], &[used_up], false),
                (&[0, 131, 7, 4], &[], false),
            ];
            for (options, extensions, is_route) in routes {
                let ack = segment(ACK, 6, 10);
                for (frame, went) in
                    [(client.sends(ack.clone()), Exit::NatTx), (answered(client, &both, ack.clone()), Exit::NatReplyTx)]
                {
                    let seen = run(&both, &with(frame, options, extensions));
                    assert_eq!(exit(&seen), if *is_route { Exit::NatSourceRoute } else { went }, "{options:?}");
                }
            }
        });
    }
}

#[test]
fn a_datagram_without_a_checksum_gets_one_where_ipv6_wants_it() {
    let plain = |mut frame: Frame| {
        let Payload::Udp(udp) = &mut ip(&mut frame).payload else { panic!("UDP") };
        udp.checksum = Some(0);
        frame
    };
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, LO));
            let client = Client { side, port: 40_000, service: UDP };
            run(&both, &client.sends(Tcp::default()));
            for length in [0, 1, 2, 3, 1001, 1440] {
                let data = Tcp { data: (0..=u8::MAX).cycle().take(length).collect(), ..Tcp::default() };
                // From the side that uses IPv4.
                let (frame, went, expected) = match side {
                    Side::V4 => (client.sends(data.clone()), Exit::NatTx, at_backend(client, &both, data)),
                    Side::V6 => (answered(client, &both, data.clone()), Exit::NatReplyTx, at_client(client, data)),
                };
                let seen = both.run(&plain(frame).bytes());
                assert_eq!(exit(&seen), went, "{length}");
                same(&seen.frame[14..], &expected);
                verify::checksums(&seen.frame).unwrap();
            }
        });
    }
    in_namespace(|| {
        let mut world = world(Side::V4, LO);
        world.backends.iter_mut().for_each(|backend| backend.mtu = 9000);
        let both = Both::new(world);
        let client = Client { side: Side::V4, port: 40_000, service: UDP };
        run(&both, &client.sends(Tcp::default()));
        let longest = Tcp { data: vec![1; 1492], ..Tcp::default() };
        assert_eq!(exit(&both.run(&plain(client.sends(longest)).bytes())), Exit::NatTx);
        let longer = Tcp { data: vec![1; 1493], ..Tcp::default() };
        assert_eq!(exit(&both.run(&plain(client.sends(longer.clone())).bytes())), Exit::NatNoChecksum);
        assert_eq!(exit(&both.run(&client.sends(longer).bytes())), Exit::NatTx);
        let data = Tcp { data: vec![1; 400], ..Tcp::default() };
        let [first, _] = parts(&plain(client.sends(data)), 56, 9);
        assert_eq!(exit(&both.run(&first.bytes())), Exit::NatNoChecksum);
    });
}

/// A datagram in two fragments, with `first` bytes of data in the first one.
fn parts(frame: &Frame, first: usize, id: u32) -> [Frame; 2] {
    let Network::Ip(whole) = &frame.network else { panic!("IP") };
    let payload = whole.bytes()[if whole.source.is_ipv4() { 20 } else { 40 }..].to_vec();
    let cut = 8 + first;
    assert_eq!(cut % 8, 0);
    let part = |bytes: &[u8], offset: usize, more: bool| {
        let ip = Ip { payload: Payload::Other(protocol::UDP, bytes.to_vec()), ..whole.clone() };
        Frame {
            network: Network::Ip(fragment(ip, u16::try_from(offset / 8).expect("sixteen bits"), more, id)),
            ..frame.clone()
        }
    };
    [part(&payload[..cut], 0, true), part(&payload[cut..], cut, false)]
}

/// A packet as a fragment.
fn fragment(mut ip: Ip, offset: u16, more: bool, id: u32) -> Ip {
    if ip.source.is_ipv4() {
        ip.id = u16::try_from(id & 0xffff).expect("sixteen bits");
        (ip.dont_fragment, ip.more_fragments, ip.fragment_offset) = (false, more, offset);
    } else {
        ip.extensions = vec![Extension::fragment(offset, more, id)];
    }
    ip
}

#[test]
fn fragments_become_fragments_of_the_other_ip_version() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, LO));
            let client = Client { side, port: 40_000, service: UDP };
            let data = Tcp { data: (0..200).collect(), ..Tcp::default() };
            // A later fragment that comes first is unknown.
            let id = if side == Side::V4 { 0xbeef } else { 0x1234_beef };
            let forth = parts(&client.sends(data.clone()), 56, id);
            assert_eq!(exit(&both.run(&forth[1].bytes())), Exit::FragmentUnknown);
            let check = |seen: [Seen; 2], whole: Ip| {
                let whole = Frame::new([0; 6], [0; 6], whole);
                for (seen, mut expected) in seen.iter().zip(parts(&whole, 56, 0xbeef)) {
                    assert_eq!(&seen.frame[14..], ip(&mut expected).bytes());
                }
            };
            let seen = forth.map(|part| {
                let seen = both.run(&part.bytes());
                assert_eq!(exit(&seen), Exit::NatTx);
                seen
            });
            check(seen, at_backend(client, &both, data.clone()));
            let id = if side == Side::V6 { 0xbeef } else { 0x4321_beef };
            let back = parts(&answered(client, &both, data.clone()), 56, id);
            let seen = back.map(|part| {
                let seen = both.run(&part.bytes());
                assert_eq!(exit(&seen), Exit::NatReplyTx);
                seen
            });
            check(seen, at_client(client, data.clone()));
            // A fragment of no translated packet is passed to the host unchanged.
            let [_, stray] = parts(&answered(client, &both, data), 56, 79);
            let seen = both.run(&stray.bytes());
            assert_eq!((exit(&seen), seen.frame), (Exit::NotOurs, stray.bytes()));
            both.compare_state().unwrap();
        });
    }
}

#[test]
fn a_packet_that_is_the_whole_of_itself_is_no_fragment() {
    in_namespace(|| {
        let both = Both::new(world(Side::V6, LO));
        let client = Client { side: Side::V6, port: 40_000, service: UDP };
        let mut atomic = client.sends(Tcp::default());
        ip(&mut atomic).extensions = vec![Extension::fragment(0, false, 77)];
        let seen = both.run(&atomic.bytes());
        assert_eq!(exit(&seen), Exit::NatTx);
        same(&seen.frame[14..], &at_backend(client, &both, Tcp::default()));
    });
}

#[test]
fn the_last_hop_of_a_packet_ends_here_and_two_of_one_flow_have_two_identifications() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, LO));
            let client = Client { side, port: 40_000, service: UDP };
            let last = |mut frame: Frame| {
                ip(&mut frame).ttl = 1;
                frame
            };
            assert_eq!(exit(&run(&both, &last(client.sends(Tcp::default())))), Exit::TtlExceeded);
            run(&both, &client.sends(Tcp::default()));
            assert_eq!(exit(&run(&both, &last(answered(client, &both, Tcp::default())))), Exit::TtlExceeded);
            let identification = |byte: u8| {
                let data = Tcp { data: vec![byte; 40], ..Tcp::default() };
                let frame = if side == Side::V6 { client.sends(data) } else { answered(client, &both, data) };
                run(&both, &frame).frame[18..20].to_vec()
            };
            assert_ne!(identification(1), identification(2));
        });
    }
}
