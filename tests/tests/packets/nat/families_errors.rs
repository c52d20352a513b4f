//! ICMP errors between clients of one IP version and backends of the other, and packets that fit only one of the two
//! paths.

use edge_common::abi::Exit;
use edge_tests::{
    both::{Both, Seen},
    namespace::{LO, in_namespace, sh},
    packet::{ACK, Extension, Frame, Icmp, Ip, Payload, SYN, Tcp, protocol, verify},
    world::{CLIENT_MAC, EDGE_MAC, Side},
};

use super::{
    BACKEND_PORT, Client, PORT, TCP, UDP, address, exit,
    families::{answered, at_backend, at_client, ip, other, same, world},
    labelled, long, packet, run, segment,
};

/// An error: type, code, and the four bytes behind its checksum.
type Kind = (u8, u8, [u8; 4]);

/// Pairs of corresponding IPv4 and IPv6 errors; all others are tested without packets.
const THERE_AND_BACK: [(Kind, Kind); 5] = [
    ((3, 3, [0; 4]), (1, 4, [0; 4])),
    ((3, 10, [0; 4]), (1, 1, [0; 4])),
    ((3, 4, [0, 0, 5, 100]), (2, 0, [0, 0, 5, 120])),
    ((11, 0, [0; 4]), (3, 0, [0; 4])),
    ((12, 0, [8, 0, 0, 0]), (4, 0, [0, 0, 0, 7])),
];

fn error((kind, code, rest): Kind, quoted: &Ip, length: usize) -> Payload {
    let mut data = quoted.bytes();
    data.truncate(length);
    Payload::Icmp(Icmp { kind, code, rest, data, checksum: None })
}

/// A flow's packets as each side sees them.
struct Flow {
    client: Client,
    backends: Side,
    backend: u16,
    /// Source port of the flow at the backend.
    port: u16,
    /// The label of its packets to the backend.
    label: u32,
}

impl Flow {
    fn open(both: &Both, side: Side, service: u32) -> Self {
        let client = Client { side, port: 40_000, service };
        run(both, &client.sends(segment(SYN, 5, 0)));
        run(both, &answered(client, both, segment(SYN | ACK, 100, 6)));
        let flow = client.translated(both).expect("a flow");
        Self {
            client,
            backends: other(side),
            backend: flow.translation.backend,
            port: flow.port,
            label: client.label(both),
        }
    }

    /// A packet of the client, as a router behind the edge sees it, and as the client sent it.
    fn forth(&self, segment_sent: &Tcp) -> [Ip; 2] {
        let Self { client, backends, .. } = *self;
        let outside = packet(client.protocol(), (self.port, BACKEND_PORT), segment_sent.clone());
        let inside = packet(client.protocol(), (client.port, PORT), segment_sent.clone());
        [
            labelled(Ip::new(backends.source(), address(backends, self.backend), outside), self.label),
            Ip::new(client.side.client(), client.side.vip(), inside),
        ]
    }

    /// A packet of the backend, as a router before the edge sees it, and as the backend sent it.
    fn back(&self, segment_sent: &Tcp) -> [Ip; 2] {
        let Self { client, backends, .. } = *self;
        let outside = packet(client.protocol(), (PORT, client.port), segment_sent.clone());
        let inside = packet(client.protocol(), (BACKEND_PORT, self.port), segment_sent.clone());
        [
            Ip::new(client.side.vip(), client.side.client(), outside),
            Ip::new(address(backends, self.backend), backends.source(), inside),
        ]
    }
}

/// Compares an error that left with the expected one. The identification of an IPv4 header, and with it the checksum,
/// may differ. A quoted TCP segment keeps its checksum, which nobody can verify, so the message's checksum differs.
fn same_error(seen: &Seen, side: Side, kind: Kind, expected: [Ip; 2], length: usize) {
    let [mut outer, mut quoted] = expected;
    let frame = &seen.frame[14..];
    verify::checksums(&seen.frame).expect("right checksums");
    let header = if side == Side::V4 { 20 } else { 40 };
    let at = header + 8;
    if side == Side::V4 {
        (outer.id, outer.dont_fragment) = (u16::from_be_bytes([frame[4], frame[5]]), false);
        quoted.id = u16::from_be_bytes([frame[at + 4], frame[at + 5]]);
        quoted.dont_fragment = quoted.bytes().len() > 1260;
    }
    outer.payload = error(kind, &quoted, length);
    let expected = outer.bytes();
    assert_eq!(frame.len(), expected.len());
    let is_checksum = |place: usize| {
        (header + 2..header + 4).contains(&place) || (at + header + 16..at + header + 18).contains(&place)
    };
    for (place, (seen, expected)) in frame.iter().zip(&expected).enumerate() {
        let is_tcps = matches!(quoted.payload, Payload::Tcp(_)) && is_checksum(place);
        assert!(seen == expected || is_tcps, "byte {place}: {frame:02x?}, expected {expected:02x?}");
    }
}

#[test]
fn an_error_is_translated_to_the_ip_version_of_its_receiver() {
    for (side, service) in [(Side::V4, TCP), (Side::V6, TCP), (Side::V4, UDP), (Side::V6, UDP)] {
        in_namespace(|| {
            let both = Both::new(world(side, LO));
            let flow = Flow::open(&both, side, service);
            let backends = flow.backends;
            let header = |side: Side| if side == Side::V4 { 20 } else { 40 };
            for (of_v4, of_v6) in THERE_AND_BACK {
                let (of_backends, of_clients) = if side == Side::V4 { (of_v6, of_v4) } else { (of_v4, of_v6) };
                // With several lengths of the quotation from the transport header on.
                for rest in [4, 8, 28, 300] {
                    let segment_sent = Tcp { data: vec![3; 1400], ..segment(ACK, 6, 101) };
                    let [outside, inside] = flow.forth(&segment_sent);
                    // From a router on the path to the backend, and from the backend itself: a router has no address in
                    // the client's IP version.
                    for from in [backends.router(), address(backends, flow.backend)] {
                        let came = Ip {
                            tos: 0xc0,
                            ..Ip::new(from, backends.source(), error(of_backends, &outside, header(backends) + rest))
                        };
                        let seen = both.run(&Frame::new(EDGE_MAC, [2; 6], came).bytes());
                        assert_eq!(exit(&seen), Exit::NatReplyTx, "{side:?} {of_backends:?} {rest}");
                        assert_eq!(seen.frame[..6], CLIENT_MAC);
                        let outer = Payload::Other(0, Vec::new());
                        let outer = Ip { ttl: 63, tos: 0xc0, ..Ip::new(side.vip(), side.client(), outer) };
                        same_error(&seen, side, of_clients, [outer, inside.clone()], header(side) + rest);
                    }
                    // From a router on the path to the client.
                    let [outside, inside] = flow.back(&segment_sent);
                    let came = Ip::new(side.router(), side.vip(), error(of_clients, &outside, header(side) + rest));
                    let seen = both.run(&Frame::new(EDGE_MAC, CLIENT_MAC, came).bytes());
                    assert_eq!(exit(&seen), Exit::NatTx, "{side:?} {of_clients:?} {rest}");
                    let outer = Payload::Other(0, Vec::new());
                    let outer = Ip { ttl: 63, ..Ip::new(backends.source(), inside.source, outer) };
                    same_error(&seen, backends, of_backends, [outer, inside], header(backends) + rest);
                }
            }
            both.compare_state().unwrap();
        });
    }
}

#[test]
fn what_a_quotation_has_before_its_transport_header_is_left_out() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, LO));
            let flow = Flow::open(&both, side, UDP);
            let [mut outside, inside] = flow.forth(&Tcp { data: vec![3; 40], ..Tcp::default() });
            (outside.options, outside.extensions) = (vec![1; 40], vec![Extension::filler(protocol::DESTINATION, 2)]);
            let kind = if side == Side::V4 { (1, 4, [0; 4]) } else { (3, 3, [0; 4]) };
            let other_kind = if side == Side::V4 { (3, 3, [0; 4]) } else { (1, 4, [0; 4]) };
            let came = |outside: &Ip| {
                let ip = Ip::new(flow.backends.router(), flow.backends.source(), error(kind, outside, 500));
                Frame::new(EDGE_MAC, [2; 6], ip).bytes()
            };
            let seen = both.run(&came(&outside));
            assert_eq!(exit(&seen), Exit::NatReplyTx);
            let outer = Ip { ttl: 63, ..Ip::new(side.vip(), side.client(), Payload::Other(0, Vec::new())) };
            same_error(&seen, side, other_kind, [outer, inside], 500);
            if side == Side::V4 {
                outside.extensions = vec![Extension::filler(protocol::DESTINATION, 3)];
                assert_eq!(exit(&both.run(&came(&outside))), Exit::NatNoError, "more than is looked through");
            }
        });
    }
}

#[test]
fn an_error_that_the_other_ip_version_does_not_have_goes_nowhere_nor_one_about_nobodys_packet() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, LO));
            let flow = Flow::open(&both, side, UDP);
            let [outside, _] = flow.forth(&Tcp { data: vec![3; 1400], ..Tcp::default() });
            let came = |kind: Kind, quoted: &Ip, length: usize| {
                let ip = Ip::new(flow.backends.router(), flow.backends.source(), error(kind, quoted, length));
                both.run(&Frame::new(EDGE_MAC, [2; 6], ip).bytes())
            };
            let (nothing, unreachable) = match flow.backends {
                Side::V4 => ((3, 14, [0; 4]), (3, 3, [0; 4])),
                Side::V6 => ((4, 2, [0; 4]), (1, 4, [0; 4])),
            };
            assert_eq!(exit(&came(nothing, &outside, 500)), Exit::NatNoError);
            if side == Side::V6 {
                assert_eq!(exit(&came(unreachable, &outside, 1212)), Exit::NatReplyTx, "1,280 bytes");
                assert_eq!(exit(&came(unreachable, &outside, 1213)), Exit::NatNoError, "one more");
            }
            let mut stranger = outside;
            let Payload::Udp(udp) = &mut stranger.payload else { panic!("UDP") };
            udp.source ^= 1;
            assert_eq!(exit(&came(unreachable, &stranger, 500)), Exit::NotOurs);
            both.compare_state().unwrap();
        });
    }
}

/// The MTU that an error reports to the sender of a packet.
fn reported_mtu(seen: &Seen, to: Side) -> u32 {
    assert!([Exit::TooBig, Exit::NatTooBig].contains(&exit(seen)), "{seen:?}");
    verify::checksums(&seen.frame).expect("right checksums");
    let at = if to == Side::V4 { 34 } else { 54 };
    let error = if to == Side::V4 { [3, 4] } else { [2, 0] };
    assert_eq!(seen.frame[at..at + 2], error);
    let [a, b, c, d] = seen.frame[at + 4..at + 8] else { panic!("an error") };
    u32::from_be_bytes([a, b, c, d])
}

#[test]
fn the_sender_of_a_packet_that_is_too_long_receives_the_mtu_for_its_own_packets() {
    for (side, mtu, fits) in [(Side::V4, 1500, 1480), (Side::V6, 1400, 1420), (Side::V6, 1300, 1320)] {
        in_namespace(|| {
            let mut world = world(side, 77);
            world.backends.iter_mut().for_each(|backend| backend.mtu = mtu);
            let both = Both::new(world);
            let flow = Flow::open(&both, side, TCP);
            assert_eq!(
                exit(&run(&both, &flow.client.sends(long(side, fits, segment(ACK, 6, 101))))),
                Exit::NatRedirect
            );
            let seen = run(&both, &flow.client.sends(long(side, fits + 1, segment(ACK, 6, 101))));
            assert_eq!(reported_mtu(&seen, side) as usize, fits);
        });
    }
    // The same for the link that packets came in by, for which they are not shortened.
    in_namespace(|| {
        let mut world = world(Side::V4, LO);
        world.backends.iter_mut().for_each(|backend| backend.own_mtu = 1);
        let both = Both::new(world);
        let flow = Flow::open(&both, Side::V4, TCP);
        assert_eq!(
            reported_mtu(&run(&both, &flow.client.sends(long(Side::V4, 1481, segment(ACK, 6, 101)))), Side::V4),
            1480
        );
    });
}

#[test]
fn a_datagram_that_is_too_long_is_to_come_in_parts_that_fit_with_the_header_of_each() {
    in_namespace(|| {
        let both = Both::new(world(Side::V4, 77));
        let client = Client { side: Side::V4, port: 40_000, service: UDP };
        let datagram = |bytes: usize, whole: bool, part: Option<u16>| {
            let mut frame = client.sends(Tcp { data: vec![5; bytes - 28], ..Tcp::default() });
            let ip = ip(&mut frame);
            ip.dont_fragment = whole;
            (ip.more_fragments, ip.fragment_offset) = (part.is_some(), part.unwrap_or_default());
            both.run(&frame.bytes())
        };
        assert_eq!(exit(&datagram(1480, true, None)), Exit::NatRedirect);
        assert_eq!((exit(&datagram(1472, false, Some(0)))), Exit::NatRedirect);
        for (whole, part, answered) in
            [(true, None, Exit::TooBig), (false, None, Exit::NatTooBig), (false, Some(0), Exit::NatTooBig)]
        {
            let seen = datagram(1481, whole, part);
            assert_eq!((exit(&seen), reported_mtu(&seen, Side::V4)), (answered, 1472));
        }
        assert_eq!(exit(&datagram(1473, false, Some(0))), Exit::NatTooBig);
        assert_eq!(exit(&datagram(1473, false, Some(100))), Exit::FragmentUnknown, "the first one was not sent");
        assert_eq!((exit(&datagram(1472, false, Some(0)))), Exit::NatRedirect);
        assert_eq!(exit(&datagram(1473, false, Some(100))), Exit::TooBigSilent, "no error about a later one");
    });
}

#[test]
fn an_ipv6_sender_receives_no_mtu_below_the_minimum() {
    in_namespace(|| {
        let mut world = world(Side::V6, 77);
        world.backends.iter_mut().for_each(|backend| backend.mtu = 1000);
        let both = Both::new(world);
        let flow = Flow::open(&both, Side::V6, TCP);
        assert_eq!(
            reported_mtu(&run(&both, &flow.client.sends(long(Side::V6, 1281, segment(ACK, 6, 101)))), Side::V6),
            1280
        );
        assert_eq!(
            exit(&run(&both, &flow.client.sends(long(Side::V6, 1280, segment(ACK, 6, 101))))),
            Exit::TooBigSilent
        );
        assert_eq!(
            exit(&run(&both, &flow.client.sends(long(Side::V6, 1020, segment(ACK, 6, 101))))),
            Exit::NatRedirect
        );
    });
}

#[test]
fn a_backend_receives_the_mtu_of_the_clients_link() {
    for (side, fits) in [(Side::V6, 1380), (Side::V4, 1420)] {
        in_namespace(|| {
            sh("ip link set lo mtu 1400");
            let mut both = Both::new(world(side, LO));
            both.memory.mtus = [(LO, 1400)].into();
            let flow = Flow::open(&both, side, TCP);
            let backends = flow.backends;
            let seen = run(&both, &answered(flow.client, &both, long(backends, fits, segment(ACK, 6, 101))));
            assert_eq!(exit(&seen), Exit::NatReplyTx);
            let seen = run(&both, &answered(flow.client, &both, long(backends, fits + 1, segment(ACK, 6, 101))));
            assert_eq!(reported_mtu(&seen, backends) as usize, fits);
        });
    }
}

#[test]
fn a_connection_agrees_on_segments_that_fit_ipv6_with_its_longer_header() {
    for (mss, expected) in [(9000u16, 1340), (1341, 1340), (1340, 1340), (1200, 1200)] {
        let options = |value: u16, odd: bool| {
            let [high, low] = value.to_be_bytes();
            if odd { vec![1, 2, 4, high, low, 1, 1, 0] } else { vec![2, 4, high, low] }
        };
        for odd in [false, true] {
            let syn = |flags: u8, mss: u16| Tcp { options: options(mss, odd), ..segment(flags, 5, 6) };
            // A client's SYN leaves IPv6 over its ingress link, a backend's over the backend's link.
            in_namespace(|| {
                sh("ip link set lo mtu 1400");
                let mut both = Both::new(world(Side::V6, LO));
                both.memory.mtus = [(LO, 1400)].into();
                let client = Client { side: Side::V6, port: 40_000, service: TCP };
                let seen = run(&both, &client.sends(syn(SYN, mss)));
                same(&seen.frame[14..], &at_backend(client, &both, syn(SYN, expected)));
                let seen = run(&both, &answered(client, &both, syn(SYN | ACK, mss)));
                same(&seen.frame[14..], &at_client(client, syn(SYN | ACK, mss)));
            });
            in_namespace(|| {
                let mut world = world(Side::V4, LO);
                world.backends.iter_mut().for_each(|backend| backend.mtu = 1400);
                let both = Both::new(world);
                let client = Client { side: Side::V4, port: 40_000, service: TCP };
                let seen = run(&both, &client.sends(syn(SYN, mss)));
                same(&seen.frame[14..], &at_backend(client, &both, syn(SYN, mss)));
                let mut answer = answered(client, &both, syn(SYN | ACK, mss));
                ip(&mut answer).ttl = 64;
                let seen = run(&both, &answer);
                same(&seen.frame[14..], &at_client(client, syn(SYN | ACK, expected)));
            });
        }
    }
}
