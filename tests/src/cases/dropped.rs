//! Cases of packets that are dropped.

use edge_common::abi::Exit;

use super::{
    Case, Scene,
    answered::from_nobody,
    scene::{from_client, port, tcp, to_closed, transport, udp, with_ip},
    side_name,
};
use crate::packet::{ACK, Extension, Frame, Icmp, Ip, Payload, RST, SYN, Tcp, Udp, protocol};
use crate::world::{CLIENT_MAC, EDGE_MAC, Side};

pub(super) fn add(cases: &mut Vec<Case>, _scene: &Scene, side: Side) {
    exhausted(cases, side);
    silent(cases, side);
    fragments(cases, side);
    overlaps(cases, side);
    across(cases, side);
    vip_silent(cases, side);
    malformed(cases, side);
    if side == Side::V6 {
        extension_headers(cases, side);
    }
    faults(cases, side);
    no_room(cases, side);
}

fn push(cases: &mut Vec<Case>, side: Side, exit: Exit, name: &str, what: &'static str, frame: &Frame) {
    cases.push(Case::dropped(exit, &format!("{} {name}", side_name(side)), what, frame));
}

/// Packets to the VIP that is not an address of the host, which belong to no service and are not answered.
fn vip_silent(cases: &mut Vec<Case>, side: Side) {
    let mut push = |name: &str, what, frame: &Frame| push(cases, side, Exit::VipSilent, name, what, frame);
    push("RST", "No RST about a RST.", &to_closed(side, tcp(port::NOBODY, RST)));
    let damaged = Tcp { destination: port::NOBODY, checksum: Some(0x1234), ..Tcp::default() };
    push("damaged segment", "It may be from another connection.", &to_closed(side, Payload::Tcp(damaged)));
    let fragment = |payload| {
        with_ip(to_closed(side, payload), |ip| {
            (ip.dont_fragment, ip.more_fragments) = (false, true);
            if side == Side::V6 {
                ip.extensions = vec![Extension::fragment(0, true, 77)];
            }
        })
    };
    push("first fragment of TCP", "Its checksum is over more than there is.", &fragment(tcp(port::NOBODY, ACK)));
    let (reply, error) = if side == Side::V4 { (0, 3) } else { (129, 1) };
    let echo = |kind| Payload::Icmp(Icmp::echo(kind, 1, 2, b"ping"));
    push("fragmented echo", "No ICMP error about ICMP.", &fragment(echo(if side == Side::V4 { 8 } else { 128 })));
    push("echo reply", "There was no request for it.", &to_closed(side, echo(reply)));
    let quoted = Ip::new(side.closed(), side.client(), udp(40_000)).bytes();
    let error = Payload::Icmp(Icmp::error(error, 1, 0, &quoted));
    push("ICMP error", "It is about no flow, and no error is about an error.", &to_closed(side, error));
    if side == Side::V6 {
        push("no next header", "It has no payload.", &to_closed(side, Payload::Other(59, vec![])));
        let frame = with_ip(to_closed(side, Payload::Other(protocol::SCTP, vec![0; 40])), |ip| {
            ip.extensions = vec![Extension::filler(protocol::DESTINATION, 0)];
        });
        push("SCTP behind a header", "Where the packet names the protocol is not looked for.", &frame);
    }
}

fn exhausted(cases: &mut Vec<Case>, side: Side) {
    let what = "No backend is left, and the policy of the service is drop.";
    for (name, payload) in [("SYN", tcp(port::DROP, SYN)), ("ACK", tcp(port::DROP, ACK)), ("UDP", udp(port::DROP))] {
        push(cases, side, Exit::Exhausted, name, what, &from_client(side, payload));
    }
}

fn fragments(cases: &mut Vec<Case>, side: Side) {
    let what = "The first fragment was not seen, so the backend is unknown.";
    for (name, offset, more) in [("middle", 10, true), ("last", 185, false), ("far", 0x1fff, false)] {
        let frame = with_ip(to_closed(side, udp(port::DSR)), |ip| {
            (ip.id, ip.dont_fragment, ip.fragment_offset, ip.more_fragments) = (78, false, offset, more);
            if side == Side::V6 {
                ip.extensions = vec![Extension::fragment(offset, more, 78)];
            }
        });
        push(cases, side, Exit::FragmentUnknown, name, what, &frame);
    }
}

/// Later fragments that begin inside a TCP header.
fn overlaps(cases: &mut Vec<Case>, side: Side) {
    let what = "It could put other ports or flags in the place of those that were looked at.";
    for (name, offset, more) in [("at 8", 1, false), ("at 8, not the last", 1, true), ("at 16", 2, false)] {
        let frame = with_ip(from_client(side, tcp(port::DSR, SYN)), |ip| {
            (ip.id, ip.dont_fragment, ip.fragment_offset, ip.more_fragments) = (79, false, offset, more);
            if side == Side::V6 {
                ip.extensions = vec![Extension::fragment(offset, more, 79)];
            }
        });
        push(cases, side, Exit::FragmentOverlap, name, what, &frame);
    }
}

/// Packets with features that the other IP version lacks.
fn across(cases: &mut Vec<Case>, side: Side) {
    let what = "Its source route has no equivalent in the other IP version.";
    let mut route = Extension::filler(protocol::ROUTING, 2);
    route.rest[2] = 1;
    let frame = with_ip(from_client(side, udp(port::NAT_ACROSS)), |ip| {
        (ip.options, ip.extensions) = (vec![131, 7, 4, 192, 0, 2, 1, 0], vec![route.clone()]);
    });
    push(cases, side, Exit::NatSourceRoute, "UDP", what, &frame);
    if side == Side::V4 {
        let what = "IPv6 wants a checksum, which takes all of the datagram.";
        let plain = Udp { destination: port::NAT_ACROSS, checksum: Some(0), ..Udp::default() };
        let frame = with_ip(from_client(side, Payload::Udp(plain)), |ip| {
            (ip.id, ip.dont_fragment, ip.more_fragments) = (80, false, true);
        });
        push(cases, side, Exit::NatNoChecksum, "first fragment", what, &frame);
    }
}

/// Packets that must not be answered.
fn silent(cases: &mut Vec<Case>, side: Side) {
    let what = "No RST answers a RST.";
    push(cases, side, Exit::RejectSilent, "RST", what, &from_client(side, tcp(port::REJECT, RST)));
    push(cases, side, Exit::NatSilent, "RST", what, &from_client(side, tcp(port::NAT, RST)));
    push(cases, side, Exit::RejectSilent, "RST+ACK", what, &from_client(side, tcp(port::REJECT, RST | ACK)));
    let long = transport(protocol::UDP, port::IN6_NARROW, 1400);
    for (exit, name, payload, ttl) in [
        (Exit::RejectSilent, "SYN", tcp(port::REJECT, SYN), 64),
        (Exit::RejectSilent, "UDP", udp(port::REJECT), 64),
        (Exit::TtlExceededSilent, "TTL 1", udp(port::DSR), 1),
        (Exit::TooBigSilent, "too long", long, 64),
    ] {
        for (nobody, mut ip) in from_nobody(side, &payload) {
            let what = "Nothing answers what came from no single host.";
            ip.ttl = ttl;
            push(cases, side, exit, &format!("{name} {nobody}"), what, &Frame::new(EDGE_MAC, CLIENT_MAC, ip));
        }
    }
    if side == Side::V4 {
        let what = "Routers may fragment it, but an XDP program can't.";
        let frame = from_client(side, transport(protocol::UDP, port::IN4_NARROW, 1400));
        let frame = with_ip(frame, |ip| ip.dont_fragment = false);
        push(cases, side, Exit::TooBigSilent, "without DF", what, &frame);
    }
}

fn malformed(cases: &mut Vec<Case>, side: Side) {
    let mut push = |name: &str, what, frame: &Frame| push(cases, side, Exit::Malformed, name, what, frame);
    let of = |change: fn(&mut Ip)| with_ip(from_client(side, udp(port::DSR)), change);
    let what = "The IP header contradicts the frame or itself.";
    push("length of 65,535", what, &of(|ip| ip.length = Some(65_535)));
    push(
        "one byte longer than the frame",
        what,
        &of(|ip| {
            let length = ip.bytes().len() - if ip.source.is_ipv4() { 0 } else { 40 };
            ip.length = Some(u16::try_from(length + 1).expect("short"));
        }),
    );
    push("version", what, &of(|ip| ip.version = Some(5)));
    match side {
        Side::V4 => {
            push("header of 16 bytes", what, &of(|ip| ip.header_words = Some(4)));
            push("no header", what, &of(|ip| ip.header_words = Some(0)));
            push("header longer than the packet", what, &of(|ip| (ip.length, ip.header_words) = (Some(24), Some(15))));
            push("shorter than a header", what, &of(|ip| ip.length = Some(19)));
            push("length of 0", what, &of(|ip| ip.length = Some(0)));
            push("header up to the end", what, &of(|ip| (ip.length, ip.payload) = (None, cut(protocol::UDP, 0))));
        }
        Side::V6 => {
            let what = "An extension header that ends behind the packet.";
            let past = vec![Extension { kind: protocol::DESTINATION, rest: vec![200, 0, 0, 0, 0, 0, 0] }];
            push(
                "extension past the end",
                what,
                &with_ip(from_client(side, udp(port::DSR)), |ip| ip.extensions = past),
            );
            push("extension cut off", what, &of(|ip| ip.payload = cut(protocol::DESTINATION, 1)));
            push("no payload", what, &of(|ip| ip.length = Some(0)));
        }
    }
    let what = "The transport header is cut off or contradicts the packet.";
    for (name, payload) in [
        ("three bytes of ports", cut(protocol::TCP, 3)),
        ("ports alone, TCP", with_ports(protocol::TCP, 4)),
        ("19 bytes of TCP", with_ports(protocol::TCP, 19)),
        ("ports alone, UDP", with_ports(protocol::UDP, 4)),
        ("7 bytes of UDP", with_ports(protocol::UDP, 7)),
        ("8 bytes of UDP with length 0", with_ports(protocol::UDP, 8)),
        ("ICMP type alone", cut(icmp(side), 1)),
        ("7 bytes of ICMP", cut(icmp(side), 7)),
        ("TCP header too short", Payload::Tcp(Tcp { data_offset: Some(4), ..Tcp::default() })),
        ("TCP header past the end", Payload::Tcp(Tcp { data_offset: Some(15), ..Tcp::default() })),
        ("UDP length too short", Payload::Udp(Udp { destination: port::DSR, length: Some(7), ..Udp::default() })),
        ("UDP length past the end", Payload::Udp(Udp { destination: port::DSR, length: Some(19), ..Udp::default() })),
    ] {
        push(name, what, &from_client(side, payload));
    }
    let what = "What stands behind the packet in the frame is not its header.";
    let mut frame = from_client(side, with_ports(protocol::UDP, 4));
    frame.trailer = vec![0, 8, 0, 0];
    push("UDP header in the padding", what, &frame);
    let mut frame = from_client(side, with_ports(protocol::TCP, 4));
    frame.trailer = [vec![0; 8], vec![0x50, 2], vec![0; 30]].concat();
    push("TCP header in the padding", what, &frame);
    let echo = Icmp::echo(if side == Side::V4 { 8 } else { 128 }, 1, 1, &[]);
    let bytes = Ip::new(side.client(), side.vip(), Payload::Icmp(echo)).bytes();
    let mut frame = from_client(side, cut(icmp(side), 0));
    frame.trailer = bytes[bytes.len() - 8..].to_vec();
    push("ICMP header in the padding", what, &frame);
}

/// A payload of `length` zero bytes, with this protocol number.
fn cut(protocol: u8, length: usize) -> Payload {
    Payload::Other(protocol, vec![0; length])
}

/// The first `length` bytes of a transport header, with the port that is forwarded.
fn with_ports(protocol: u8, length: usize) -> Payload {
    let mut bytes = vec![0; length];
    bytes[2..4].copy_from_slice(&port::DSR.to_be_bytes());
    Payload::Other(protocol, bytes)
}

const fn icmp(side: Side) -> u8 {
    match side {
        Side::V4 => protocol::ICMP,
        Side::V6 => protocol::ICMPV6,
    }
}

fn extension_headers(cases: &mut Vec<Case>, side: Side) {
    let mut push = |name: &str, what, extensions: &[Extension]| {
        let frame = with_ip(to_closed(side, udp(port::DSR)), |ip| ip.extensions = extensions.to_vec());
        push(cases, side, Exit::ExtensionHeaders, name, what, &frame);
    };
    let what = "One more than is looked through.";
    push("five", what, &vec![Extension::filler(protocol::DESTINATION, 0); 5]);
    let what = "A header behind which no transport header can be found.";
    for kind in [protocol::ENCRYPTED, protocol::AUTHENTICATED, 135, 139, 140] {
        let hidden = Extension { kind, rest: vec![0; 23] };
        push(&format!("type {kind}"), what, std::slice::from_ref(&hidden));
        push(&format!("type {kind} behind another"), what, &[Extension::filler(protocol::HOP_BY_HOP, 0), hidden]);
    }
}

fn faults(cases: &mut Vec<Case>, side: Side) {
    for (exit, name, port, what) in [
        (Exit::NoNextHop, "lost", port::LOST, "There is no known next hop for the backend."),
        (Exit::DsrOffLink, "behind a router", port::DSR_BEHIND, "The router would send it to an edge again."),
        (Exit::BadTables, "no such service", port::BAD_SERVICE, "The index names a service that is not there."),
        (Exit::BadTables, "no such family", port::BAD_FAMILY, "The backend of a tunnel has no family."),
    ] {
        for (transport, payload) in [("SYN", tcp(port, SYN)), ("TCP", tcp(port, ACK)), ("UDP", udp(port))] {
            push(cases, side, exit, &format!("{name}, {transport}"), what, &from_client(side, payload));
        }
    }
}

/// Packets with metadata, which takes the room before the frame: the kernel keeps 216 bytes, and allows up to 200 of
/// metadata and more.
fn no_room(cases: &mut Vec<Case>, side: Side) {
    let what = "Nothing can be put before the frame.";
    let expired = with_ip(from_client(side, udp(port::DSR)), |ip| ip.ttl = 1);
    for (name, frame) in [
        ("in IPv4", from_client(side, udp(port::IN4))),
        ("in IPv6", from_client(side, udp(port::IN6_AWAY))),
        ("port unreachable", from_client(side, udp(port::REJECT))),
        ("time exceeded", expired),
        ("too big", from_client(side, transport(protocol::UDP, port::DSR_NARROW, 1400))),
    ] {
        push(cases, side, Exit::NoRoom, name, what, &frame);
        let case = cases.last_mut().expect("just pushed");
        case.arrival.metadata = 200;
    }
}
