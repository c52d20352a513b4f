//! ICMP errors that nobody on the path of a packet can have sent: they reach no client.

use edge_common::abi::Exit;
use edge_tests::{
    both::{Both, Seen},
    namespace::{LO, in_namespace},
    packet::{ACK, Frame, Icmp, Ip, Payload, SYN, Tcp, verify},
    world::{EDGE_MAC, Side},
};

use super::{
    BACKEND_PORT, Client, TCP, UDP, address, exit,
    families::{answered, other, world as crossing},
    labelled, packet, run, segment, world,
};

/// A flow to backends of one IP version, as a router behind the edge sees it.
struct Flow {
    both: Both,
    client: Client,
    backends: Side,
}

impl Flow {
    fn open(side: Side, backends: Side, service: u32) -> Self {
        let both = Both::new(if backends == side { world(side, 64, 4, LO) } else { crossing(side, LO) });
        let client = Client { side, port: 40_000, service };
        run(&both, &client.sends(segment(SYN, 5, 0)));
        let answer = segment(SYN | ACK, 100, 6);
        let answer = if backends == side { client.answered(&both, answer) } else { answered(client, &both, answer) };
        run(&both, &answer);
        Self { both, client, backends }
    }

    /// A packet of the flow to its backend, with `bytes` of data.
    fn packet(&self, bytes: usize) -> Ip {
        let flow = self.client.translated(&self.both).expect("a flow");
        let says = Tcp { data: vec![3; bytes], ..segment(ACK, 6, 101) };
        let payload = packet(self.client.protocol(), (flow.port, BACKEND_PORT), says);
        Ip::new(self.backends.source(), address(self.backends, flow.translation.backend), payload)
    }

    /// The exit of a router's error about this packet.
    fn about(&self, quoted: &Ip, kind: (u8, u8), mtu: u32) -> Exit {
        exit(&self.error(quoted, kind, mtu))
    }

    fn error(&self, quoted: &Ip, (kind, code): (u8, u8), mtu: u32) -> Seen {
        let mut data = quoted.bytes();
        data.truncate(100);
        let error = Payload::Icmp(Icmp { kind, code, rest: mtu.to_be_bytes(), data, checksum: None });
        let came = Ip::new(self.backends.router(), self.backends.source(), error);
        let seen = self.both.run(&Frame::new(EDGE_MAC, [2; 6], came).bytes());
        verify::checksums(&seen.frame).expect("right checksums");
        seen
    }
}

/// Every IP version and protocol, and both of a flow's sides.
fn flows() -> impl Iterator<Item = (Side, Side, u32)> {
    let sides = |side: Side| [(side, side), (side, other(side))];
    Side::BOTH.into_iter().flat_map(sides).flat_map(|(side, backends)| [TCP, UDP].map(|what| (side, backends, what)))
}

const fn kinds(side: Side) -> [(u8, u8); 2] {
    match side {
        Side::V4 => [(3, 3), (3, 4)],
        Side::V6 => [(1, 4), (2, 0)],
    }
}

#[test]
fn an_error_about_a_packet_without_its_flows_label_is_nobodys() {
    for (side, backends, service) in flows() {
        in_namespace(|| {
            let flow = Flow::open(side, backends, service);
            let [unreachable, too_big] = kinds(backends);
            let label = flow.client.label(&flow.both);
            let quoted = labelled(flow.packet(1400), label);
            assert_eq!(flow.about(&quoted, unreachable, 0), Exit::NatReplyTx, "{side:?} {backends:?} {service}");
            assert_eq!(flow.about(&quoted, too_big, 1400), Exit::NatReplyTx);
            // Each single bit of the label that a header has room for.
            for bit in 0..if backends == Side::V4 { 16 } else { 20 } {
                let forged = labelled(quoted.clone(), label ^ 1 << bit);
                assert_eq!(flow.about(&forged, unreachable, 0), Exit::NotOurs, "{side:?} {backends:?} {bit}");
                assert_eq!(flow.about(&forged, too_big, 1400), Exit::NotOurs, "{side:?} {backends:?} {bit}");
            }
        });
    }
}

#[test]
fn a_packet_that_fits_is_not_too_big() {
    for (side, backends, service) in flows() {
        in_namespace(|| {
            let flow = Flow::open(side, backends, service);
            let [_, too_big] = kinds(backends);
            let quoted = labelled(flow.packet(1400), flow.client.label(&flow.both));
            let length = u32::try_from(quoted.bytes().len()).expect("a packet");
            assert_eq!(flow.about(&quoted, too_big, length - 1), Exit::NatReplyTx, "{side:?} {backends:?}");
            assert_eq!(flow.about(&quoted, too_big, length), Exit::NotOurs);
            // No link has a smaller MTU than 576 or 1,280, so a packet of this length was too long for none.
            let short = labelled(flow.packet(500), flow.client.label(&flow.both));
            let fits = short.bytes().len() <= if backends == Side::V4 { 576 } else { 1_280 };
            let expected = if fits { Exit::NotOurs } else { Exit::NatReplyTx };
            assert_eq!(flow.about(&short, too_big, 68), expected, "{side:?} {backends:?} {service}");
        });
    }
}

#[test]
fn no_client_of_ipv6_receives_an_mtu_below_1280() {
    for backends in Side::BOTH {
        in_namespace(|| {
            let flow = Flow::open(Side::V6, backends, TCP);
            let [_, too_big] = kinds(backends);
            let quoted = labelled(flow.packet(1400), flow.client.label(&flow.both));
            for (mtu, expected) in [(600, 1_280), (1_400, if backends == Side::V6 { 1_400 } else { 1_420 })] {
                let seen = flow.error(&quoted, too_big, mtu);
                assert_eq!(exit(&seen), Exit::NatReplyTx);
                assert_eq!(seen.frame[14 + 44..14 + 48], u32::to_be_bytes(expected), "{backends:?}: {mtu}");
            }
        });
    }
}

#[test]
fn a_packet_that_routers_may_fragment_is_never_too_big_and_needs_no_label_otherwise() {
    for side in Side::BOTH {
        in_namespace(|| {
            let flow = Flow::open(side, Side::V4, UDP);
            let quoted = Ip { dont_fragment: false, id: 4711, ..flow.packet(1000) };
            let [unreachable, too_big] = kinds(Side::V4);
            assert_eq!(flow.about(&quoted, unreachable, 0), Exit::NatReplyTx, "{side:?}");
            for mtu in [0, 600] {
                assert_eq!(flow.about(&quoted, too_big, mtu), Exit::NotOurs, "{side:?}: {mtu}");
            }
        });
    }
}
