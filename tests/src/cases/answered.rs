//! Cases of packets that the packet path answers itself.

use edge_common::abi::Exit;

use super::{
    Case, Scene,
    scene::{NARROW, from_client, ip, port, tcp, to_client, to_closed, transport, udp, with_ip},
    side_name,
};
use crate::packet::{ACK, Extension, FIN, Frame, Icmp, Ip, PSH, Payload, RST, SYN, Tag, Tcp, protocol};
use crate::world::{Side, VIRTUAL_MAC};

pub(super) fn add(cases: &mut Vec<Case>, scene: &Scene, side: Side) {
    let first = cases.len();
    echo(cases, side);
    reset(cases, side);
    unreachable(cases, side);
    time_exceeded(cases, side);
    too_big(cases, scene, side);
    vip_other(cases, side);
    let to_virtual = cases[first..].iter().map(to_virtual_router).collect::<Vec<_>>();
    cases.extend(to_virtual);
}

/// The case with a virtual router's MAC address as destination. The answer comes from the interface's own address.
fn to_virtual_router(case: &Case) -> Case {
    let mut case = Case { name: format!("{}, to a virtual router", case.name), ..case.clone() };
    case.frame[..6].copy_from_slice(&VIRTUAL_MAC);
    case
}

/// Packets to the VIP that is not an address of the host, which belong to no service.
fn vip_other(cases: &mut Vec<Case>, side: Side) {
    let from_closed = |frame: Frame| with_ip(frame, |ip| ip.source = side.closed());
    let data = u32::try_from(Tcp::default().data.len()).expect("a segment");
    for (name, flags, number, acknowledges, now) in
        [("SYN", SYN, 0, 0x0102_0304 + data + 1, RST | ACK), ("ACK", ACK, 0x0506_0708, 0, RST)]
    {
        let what = "As a host answers that has no such service.";
        let out = from_closed(to_client(side, answer(port::NOBODY, number, acknowledges, now)));
        let frame = to_closed(side, tcp(port::NOBODY, flags));
        cases.push(Case::answered(Exit::VipReset, &format!("{} {name}", side_name(side)), what, &frame, &out));
    }
    let types = types(side);
    let mut push = |exit, name: &str, what, frame: &Frame, kind, detail| {
        let out = from_closed(error(side, frame, kind, detail));
        cases.push(Case::answered(exit, &format!("{} {name}", side_name(side)), what, frame, &out));
    };
    let what = "As a host answers that has no such service.";
    let frame = to_closed(side, udp(port::NOBODY));
    push(Exit::VipUnreachable, "datagram", what, &frame, types.port_unreachable, 0);
    let frame = with_ip(to_closed(side, udp(port::NOBODY)), |ip| {
        (ip.dont_fragment, ip.more_fragments) = (false, true);
        if side == Side::V6 {
            ip.extensions = vec![Extension::fragment(0, true, 77)];
        }
    });
    push(Exit::VipUnreachable, "first fragment", "It has the ports.", &frame, types.port_unreachable, 0);
    let what = "As a host answers that has no such protocol; in IPv6, with the offset of the unknown header.";
    let (kind, at) = if side == Side::V4 { ((3, 2), 0) } else { ((4, 1), 6) };
    for (name, protocol) in
        [("SCTP", protocol::SCTP), ("the other family's ICMP", if side == Side::V4 { 58 } else { 1 })]
    {
        let frame = to_closed(side, Payload::Other(protocol, vec![0; 40]));
        push(Exit::VipProtocol, name, what, &frame, kind, at);
    }
}

/// A family's types of echo and echo reply; and types and codes of port unreachable, time exceeded and too big.
struct Types {
    echo: u8,
    reply: u8,
    port_unreachable: (u8, u8),
    time_exceeded: (u8, u8),
    too_big: (u8, u8),
}

fn types(side: Side) -> Types {
    match side {
        Side::V4 => Types { echo: 8, reply: 0, port_unreachable: (3, 3), time_exceeded: (11, 0), too_big: (3, 4) },
        Side::V6 => Types { echo: 128, reply: 129, port_unreachable: (1, 4), time_exceeded: (3, 0), too_big: (2, 0) },
    }
}

fn echo(cases: &mut Vec<Case>, side: Side) {
    let Types { echo, reply, .. } = types(side);
    let what = "A ping of the VIP: the edge itself answers.";
    for (name, data) in [("no data", 0), ("odd", 3), ("as ping sends it", 56), ("long", 1400)] {
        let data = vec![0x5a; data];
        for (tagging, tags) in [("untagged", vec![]), ("tagged", vec![Tag::new(9).with_priority(1, true); 2])] {
            let frame = from_client(side, Payload::Icmp(Icmp::echo(echo, 0xbeef, 7, &data))).tagged(&tags).padded();
            // The padding is not part of the packet, and is returned unchanged.
            let mut out = to_client(side, Payload::Icmp(Icmp::echo(reply, 0xbeef, 7, &data))).tagged(&tags);
            out.trailer.clone_from(&frame.trailer);
            let name = format!("{} {name}, {tagging}", side_name(side));
            cases.push(Case::answered(Exit::EchoReply, &name, what, &frame, &out));
        }
    }
    let broken = Payload::Icmp(Icmp { checksum: Some(0x1234), ..Icmp::echo(echo, 1, 1, &[]) });
    let frame = with_ip(from_client(side, broken), |ip| (ip.ttl, ip.tos) = (1, 0xb8));
    // The reply's checksum is the request's, updated for the changed type: a wrong checksum stays wrong.
    let by = u16::from(echo - reply.min(echo)) << 8;
    let checksum = if side == Side::V4 { 0x1234 + by } else { 0x1234 - 0x100 };
    let out = to_client(side, Payload::Icmp(Icmp { checksum: Some(checksum), ..Icmp::echo(reply, 1, 1, &[]) }));
    let what = "A broken checksum is not made good; TTL and DSCP of the request don't matter.";
    let name = format!("{} broken checksum", side_name(side));
    cases.push(Case::answered(Exit::EchoReply, &name, what, &frame, &out).unsound());
}

fn reset(cases: &mut Vec<Case>, side: Side) {
    let (sequence, acknowledgment) = (0xffff_fff0, 0x0a0b_0c0d);
    for (name, flags, data, what) in [
        ("SYN", SYN, 0, "The answer acknowledges the SYN."),
        ("SYN with data", SYN, 40, "The answer acknowledges SYN and data, past the end of the sequence space."),
        ("SYN and FIN", SYN | FIN, 0, "Both occupy a number."),
        ("FIN", FIN, 5, "FIN and data occupy numbers."),
        ("no flags", 0, 9, "Data without ACK is acknowledged."),
        ("ACK", ACK, 0, "The answer's number is what the segment acknowledges."),
        ("data", PSH | ACK, 1000, "The answer is shorter than the segment."),
        ("FIN+ACK", FIN | ACK, 1, "The answer's number is what the segment acknowledges."),
    ] {
        let segment = Tcp {
            destination: port::REJECT,
            flags,
            sequence,
            acknowledgment,
            data: vec![b'x'; data],
            options: vec![2, 4, 5, 0xb4],
            ..Tcp::default()
        };
        let marks = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let occupied = u32::try_from(data).expect("a segment") + marks;
        let (number, acknowledges, now) =
            if flags & ACK != 0 { (acknowledgment, 0, RST) } else { (0, sequence.wrapping_add(occupied), RST | ACK) };
        let out = to_client(side, answer(port::REJECT, number, acknowledges, now));
        let frame = from_client(side, Payload::Tcp(segment));
        let name = format!("{} {name}", side_name(side));
        cases.push(Case::answered(Exit::RejectReset, &name, what, &frame, &out));
        let tags = [Tag::new(9).with_priority(1, false)];
        let (frame, out) = (frame.tagged(&tags), out.tagged(&tags));
        cases.push(Case::answered(Exit::RejectReset, &format!("{name}, tagged"), what, &frame, &out));
    }
    let what = "All backends are disabled: open has nobody left, and the client learns it.";
    let out = to_client(side, answer(port::ALL_DISABLED, 0x0506_0708, 0, RST));
    let frame = from_client(side, tcp(port::ALL_DISABLED, ACK));
    cases.push(Case::answered(Exit::RejectReset, &format!("{} all disabled", side_name(side)), what, &frame, &out));

    let what = "The connection to a service that translates has no record.";
    let out = to_client(side, answer(port::NAT, 0x0506_0708, 0, RST));
    let frame = from_client(side, tcp(port::NAT, ACK));
    cases.push(Case::answered(Exit::NatNoFlow, side_name(side), what, &frame, &out));

    let what = "Options and extension headers of the segment are not repeated, and don't count as data.";
    let frame = with_ip(from_client(side, tcp(port::REJECT, SYN)), |ip| match side {
        Side::V4 => ip.options = vec![1; 12],
        Side::V6 => {
            ip.extensions =
                vec![Extension::filler(protocol::HOP_BY_HOP, 0), Extension::filler(protocol::DESTINATION, 40)];
        }
    });
    let data = u32::try_from(Tcp::default().data.len()).expect("a segment");
    let out = to_client(side, answer(port::REJECT, 0, 0x0102_0304 + data + 1, RST | ACK));
    cases.push(Case::answered(Exit::RejectReset, &format!("{} behind options", side_name(side)), what, &frame, &out));
}

fn answer(port: u16, sequence: u32, acknowledgment: u32, flags: u8) -> Payload {
    let (source, destination, window, data) = (port, Tcp::default().source, 0, Vec::new());
    Payload::Tcp(Tcp { source, destination, sequence, acknowledgment, flags, window, data, ..Tcp::default() })
}

/// The ICMP error about the packet of `frame`, with as much of the packet as fits.
fn error(side: Side, frame: &Frame, (kind, code): (u8, u8), mtu: u16) -> Frame {
    let mut quoted = ip(frame).bytes();
    // RFC 1812, section 4.3.2.3; RFC 4443, section 2.4 (c).
    quoted.truncate(if side == Side::V4 { 576 - 20 - 8 } else { 1280 - 40 - 8 });
    to_client(side, Payload::Icmp(Icmp::error(kind, code, mtu, &quoted))).tagged(&frame.tags)
}

fn unreachable(cases: &mut Vec<Case>, side: Side) {
    let types = types(side);
    let mut push = |name: &str, what, frame: &Frame| {
        let name = format!("{} {name}", side_name(side));
        let out = error(side, frame, types.port_unreachable, 0);
        cases.push(Case::answered(Exit::RejectUnreachable, &name, what, frame, &out));
    };
    push("short", "No backend is left for a datagram.", &from_client(side, udp(port::REJECT)));
    push("all disabled", "Open has nobody left.", &from_client(side, udp(port::ALL_DISABLED)));
    for data in [0, 1, 2, 3, 519, 520, 521, 1183, 1184, 1185, 1400] {
        let frame = from_client(side, transport(protocol::UDP, port::REJECT, data));
        push(&format!("{data} bytes"), "As much is quoted as the family allows.", &frame);
    }
    let tags = [Tag::service(1).with_priority(2, true), Tag::new(2)];
    push("tagged", "The answer goes back into the VLAN.", &from_client(side, udp(port::REJECT)).tagged(&tags));
    push("padded", "Padding is not quoted.", &from_client(side, udp(port::REJECT)).padded());
    let frame = with_ip(from_client(side, udp(port::REJECT)), |ip| match side {
        Side::V4 => (ip.options, ip.dont_fragment) = (vec![1; 8], false),
        Side::V6 => ip.extensions = vec![Extension::filler(protocol::DESTINATION, 1)],
    });
    push("behind options", "Options are quoted.", &frame);
}

fn time_exceeded(cases: &mut Vec<Case>, side: Side) {
    let types = types(side);
    for (ttl, payload, name) in [
        (1, tcp(port::DSR, SYN), "dsr"),
        (0, tcp(port::DSR, ACK), "dsr, TTL 0"),
        (1, udp(port::DSR_VLAN_AWAY), "dsr into a VLAN"),
        (1, tcp(port::IN4, ACK), "in IPv4"),
        (1, udp(port::IN6_AWAY), "in IPv6"),
        (1, tcp(port::UDP4, SYN), "in UDP over IPv4"),
        (0, udp(port::UDP6_AWAY), "in UDP over IPv6, TTL 0"),
        (1, transport(protocol::TCP, port::DSR, 1400), "long"),
    ] {
        let frame = with_ip(from_client(side, payload), |ip| ip.ttl = ttl);
        let out = error(side, &frame, types.time_exceeded, 0);
        let what = "A router, and a tunnel's entry, forwards nothing whose TTL ends here.";
        let name = format!("{} {name}", side_name(side));
        cases.push(Case::answered(Exit::TtlExceeded, &name, what, &frame, &out));
    }
}

fn too_big(cases: &mut Vec<Case>, scene: &Scene, side: Side) {
    let types = types(side);
    let own = if side == Side::V4 { 20 } else { 40 } + 8;
    for (port, mtu, name) in [
        (port::DSR_NARROW, NARROW, "dsr"),
        (port::IN4_NARROW, NARROW - 20, "in IPv4"),
        (port::IN6_NARROW, NARROW - 40, "in IPv6"),
        (port::UDP4_NARROW, NARROW - 20 - scene.udp_overhead(), "in UDP over IPv4"),
        (port::UDP6_NARROW, NARROW - 40 - scene.udp_overhead(), "in UDP over IPv6"),
    ] {
        let fits = usize::from(mtu) - own;
        for data in [fits + 1, 1460] {
            let frame = from_client(side, transport(protocol::UDP, port, data));
            let out = error(side, &frame, types.too_big, mtu);
            let what = "Longer than the MTU of the path to the backend: the client is sent the MTU that fits.";
            let name = format!("{} {name}, {data} bytes", side_name(side));
            cases.push(Case::answered(Exit::TooBig, &name, what, &frame, &out));
        }
    }
    let frame = from_client(side, transport(protocol::TCP, port::IN6_NARROW, 1400)).tagged(&[Tag::new(4)]);
    let out = error(side, &frame, types.too_big, NARROW - 40);
    let what = "Into the VLAN that it came from.";
    cases.push(Case::answered(Exit::TooBig, &format!("{} tagged", side_name(side)), what, &frame, &out));
}

/// Packets about which no ICMP error may be sent: their source is not a single host.
pub(super) fn from_nobody(side: Side, payload: &Payload) -> Vec<(&'static str, Ip)> {
    let sources: &[(&str, &str)] = match side {
        Side::V4 => &[
            ("from 0.0.0.0", "0.0.0.0"),
            ("from this network", "0.1.2.3"),
            ("from loopback", "127.0.0.1"),
            ("from multicast", "224.0.0.1"),
            ("from reserved", "240.0.0.1"),
            ("from broadcast", "255.255.255.255"),
            ("from the VIP", "192.0.2.10"),
        ],
        Side::V6 => &[
            ("from ::", "::"),
            ("from loopback", "::1"),
            ("from multicast", "ff02::1"),
            ("from IPv4 in disguise", "::ffff:198.51.100.7"),
            ("from the VIP", "2001:db8::10"),
        ],
    };
    let from = |source: &str| Ip::new(source.parse().expect("an address"), side.vip(), payload.clone());
    sources.iter().map(|(name, source)| (*name, from(source))).collect()
}
