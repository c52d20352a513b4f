//! Cases of frames to another host or to a group: the host gets them unchanged, whatever their content.

use edge_common::abi::Exit;

use super::{
    Case, Scene,
    scene::{from_client, port, tcp, to_tunnel, transport, tunnelled_to, udp, with_ip},
    side_name,
};
use crate::{
    packet::{ACK, Extension, Frame, Icmp, Ip, Payload, SYN, Tag, protocol},
    world::{CLIENT_MAC, EDGE_MAC, Side},
};

/// MAC addresses that the edge does not accept.
const OTHERS: [([u8; 6], &str); 6] = [
    ([0xff; 6], "broadcast"),
    ([0x01, 0x00, 0x5e, 0, 0, 1], "IPv4 multicast"),
    ([0x33, 0x33, 0, 0, 0, 1], "IPv6 multicast"),
    (CLIENT_MAC, "another station"),
    // One bit differs from the edge's address, at either end.
    ([EDGE_MAC[0] ^ 0x80, 0, 0, 0xed, 0, 1], "first bit differs"),
    ([0x02, 0, 0, 0xed, 0, EDGE_MAC[5] ^ 1], "last bit differs"),
];

pub(super) fn add(cases: &mut Vec<Case>, scene: &Scene, side: Side) {
    let what = "A switch floods, and a bridge hands on what is for others: taken by each, one packet would be many.";
    let mut push = |name: &str, frame: &Frame| {
        for (address, to) in OTHERS {
            let frame = Frame { destination: address, ..frame.clone() };
            let name = format!("{} {name} to {to}", side_name(side));
            cases.push(Case::untouched(Exit::OtherStation, &name, what, &frame));
        }
    };
    let echo = if side == Side::V4 { 8 } else { 128 };
    push("segment", &from_client(side, tcp(port::DSR, ACK)));
    push("tagged SYN", &from_client(side, tcp(port::IN4, SYN)).tagged(&[Tag::new(7)]));
    push("datagram", &from_client(side, udp(port::IN6)));
    push("segment without a backend", &from_client(side, tcp(port::REJECT, SYN)));
    push("datagram without a backend", &from_client(side, udp(port::REJECT)));
    push("datagram that is too long", &from_client(side, transport(protocol::UDP, port::IN6_NARROW, 1400)));
    push("echo request", &from_client(side, Payload::Icmp(Icmp::echo(echo, 5, 6, b"ping"))));
    push("TTL 1", &with_ip(from_client(side, tcp(port::DSR, ACK)), |ip| ip.ttl = 1));
    let slow = with_ip(from_client(side, tcp(port::DSR, ACK)), |ip| match side {
        Side::V4 => ip.options = vec![1; 4],
        Side::V6 => ip.extensions = vec![Extension::filler(protocol::DESTINATION, 0)],
    });
    push("segment on the slow path", &slow);
    push("path MTU", &path_mtu(scene, side));
}

/// A router's error to the tunnel's source, which would teach a path's MTU.
fn path_mtu(scene: &Scene, side: Side) -> Frame {
    let (port, kind, code) = if side == Side::V4 { (port::IN4, 3, 4) } else { (port::IN6, 2, 0) };
    let inner = Ip::new(side.client(), side.vip(), tcp(port, ACK));
    let outer = tunnelled_to(side, scene.backend_address(side, protocol::TCP, port), inner).bytes();
    to_tunnel(side, Payload::Icmp(Icmp::error(kind, code, 1400, &outer)))
}
