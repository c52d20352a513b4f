//! Cases of tunnel packets in UDP at the decapsulating end.

use edge_common::abi::DecapExit;

use super::{
    Case,
    scene::{bare, port, tcp, transport, with_ip},
    side_name,
};
use crate::{
    packet::{ACK, Extension, Frame, Ip, Payload, SYN, Tag, Udp, protocol},
    world::{CLIENT_MAC, EDGE_MAC, GUE_PORT, Side},
};

pub(super) fn add(cases: &mut Vec<Case>, side: Side) {
    for inner in Side::BOTH {
        let packet = Ip::new(inner.client(), inner.vip(), tcp(port::DSR, ACK));
        let name = format!("{} in UDP over {}", side_name(inner), side_name(side));
        good(cases, side, &name, &packet);
        headers(cases, side, &name, &packet);
        checksums(cases, side, &name, inner, &packet);
        insides(cases, side, &name, inner);
        ends(cases, side, &name, &packet);
    }
}

/// The bytes before a packet, in either variant.
fn variants(packet: &Ip) -> [(&'static str, Vec<u8>); 2] {
    let protocol = if packet.source.is_ipv4() { protocol::IPV4 } else { protocol::IPV6 };
    [("with a header", vec![0, protocol, 0, 0]), ("directly", Vec::new())]
}

fn datagram(header: &[u8], packet: &Ip) -> Udp {
    Udp {
        source: 51_234,
        destination: GUE_PORT,
        data: [header, &packet.bytes()].concat(),
        checksum: Some(0),
        ..Udp::default()
    }
}

fn sent(side: Side, datagram: Udp) -> Frame {
    let outer = Ip::new(side.tunnel(), side.backend(1), Payload::Udp(datagram));
    Frame::new(EDGE_MAC, CLIENT_MAC, outer)
}

fn good(cases: &mut Vec<Case>, side: Side, name: &str, packet: &Ip) {
    for (variant, header) in variants(packet) {
        let mut push = |case: &str, what, frame: &Frame, out: &Frame| {
            let name = format!("{name}, {variant}, {case}");
            cases.push(Case::decapsulated(DecapExit::Decapsulated, &name, what, frame, Some(out)));
        };
        let what = "From a configured edge: all headers before the packet are removed.";
        for (tagging, tags) in
            [("untagged", vec![]), ("tagged", vec![Tag::new(3)]), ("two tags", vec![Tag::service(3), Tag::new(4)])]
        {
            let frame = sent(side, datagram(&header, packet)).tagged(&tags);
            push(tagging, what, &frame, &bare(packet.clone()).tagged(&tags));
        }
        let summed = Udp { checksum: None, ..datagram(&header, packet) };
        push("with a checksum", "Another edge may compute one.", &sent(side, summed), &bare(packet.clone()));
        for last in [0, 255] {
            let frame = with_ip(sent(side, datagram(&header, packet)), |ip| ip.source = in_range(side, last));
            push(&format!("from .{last}"), "An edge may have a whole prefix.", &frame, &bare(packet.clone()));
        }
        let frame = with_ip(sent(side, datagram(&header, packet)), |ip| match side {
            Side::V4 => ip.options = vec![1; 40],
            Side::V6 => ip.extensions = vec![Extension::filler(protocol::DESTINATION, 0)],
        });
        push("outer options", "They go with the outer header.", &frame, &bare(packet.clone()));
        let mut marked = packet.clone();
        marked.tos = 0xb9;
        let frame = with_ip(sent(side, datagram(&header, &marked)), |ip| ip.tos = 0x03);
        marked.tos = 0xbb;
        push("congestion", "Congestion on the path is marked in the inner packet, too.", &frame, &bare(marked));
        let mut padded = sent(side, datagram(&header, packet));
        padded.trailer = vec![0; 9];
        let mut out = bare(packet.clone());
        out.trailer = vec![0; 9];
        push("padded", "Padding is the host's to cut off.", &padded, &out);
    }
}

fn in_range(side: Side, last: u8) -> std::net::IpAddr {
    match side.range() {
        std::net::IpAddr::V4(first) => std::net::Ipv4Addr::from_bits(first.to_bits() | u32::from(last)).into(),
        std::net::IpAddr::V6(first) => std::net::Ipv6Addr::from_bits(first.to_bits() | u128::from(last)).into(),
    }
}

/// Headers that are not accepted.
fn headers(cases: &mut Vec<Case>, side: Side, name: &str, packet: &Ip) {
    let mut push = |exit, case: &str, what, frame: &Frame| {
        cases.push(Case::decapsulated(exit, &format!("{name}, {case}"), what, frame, None));
    };
    let [(_, whole), _] = variants(packet);
    let with = |at: usize, byte: u8| {
        let mut header = whole.clone();
        header[at] = byte;
        sent(side, datagram(&header, packet))
    };
    let what = "Its meaning is not defined.";
    for (case, at, byte) in [
        ("version 2", 0, 0x80),
        ("version 3", 0, 0xc0),
        ("version 1, no IP", 0, 0x50),
        ("an extension", 0, 1),
        ("a flag", 2, 0x01),
        ("a private flag", 3, 0x01),
    ] {
        push(DecapExit::GueHeader, case, what, &with(at, byte));
    }
    push(DecapExit::GueControl, "control", "What is between tunnels' ends is no packet.", &with(0, 0x20));
    for byte in [0, protocol::TCP, protocol::UDP, 47, 59] {
        let what = "Only an IP packet has a VIP to be for.";
        push(DecapExit::GueProtocol, &format!("protocol {byte}"), what, &with(1, byte));
    }
    let what = "Its length is not that of the packet around it.";
    let right = u16::try_from(8 + 4 + packet.bytes().len()).expect("short");
    for length in [0, 7, 8, right - 1, right + 1, u16::MAX] {
        let wrong = Udp { length: Some(length), ..datagram(&whole, packet) };
        push(DecapExit::GueHeader, &format!("length {length}"), what, &sent(side, wrong));
    }
    for bytes in 0..=4 {
        let short = Udp { data: whole[..bytes].to_vec(), ..datagram(&[], packet) };
        push(DecapExit::GueHeader, &format!("{bytes} bytes in it"), "There is nothing in it.", &sent(side, short));
    }
}

fn checksums(cases: &mut Vec<Case>, side: Side, name: &str, inner: Side, packet: &Ip) {
    for (variant, header) in variants(packet) {
        let wrong = Udp { checksum: Some(0x1234), ..datagram(&header, packet) };
        let what = "The packet was changed on the path, or sent with a wrong checksum.";
        let name = format!("{name}, {variant}");
        let frame = sent(side, wrong);
        cases.push(Case::decapsulated(DecapExit::GueChecksum, &format!("{name}, wrong"), what, &frame, None));
        for odd in [0, 1] {
            let long = Ip::new(inner.client(), inner.vip(), transport(protocol::TCP, port::DSR, 1_400 + odd));
            let frame = sent(side, Udp { checksum: None, ..datagram(&header, &long) });
            let (what, name) = ("As long as Ethernet has them.", format!("{name}, {odd} odd, long"));
            cases.push(Case::decapsulated(DecapExit::Decapsulated, &name, what, &frame, Some(&bare(long))));
        }
        let longest = Ip::new(inner.client(), inner.vip(), transport(protocol::TCP, port::DSR, 2_100));
        let frame = sent(side, Udp { checksum: None, ..datagram(&header, &longest) });
        let (what, case) = ("Nobody looks through so much.", format!("{name}, too long for a sum"));
        cases.push(Case::decapsulated(DecapExit::GueChecksum, &case, what, &frame, None));
        let frame = sent(side, datagram(&header, &longest));
        let (what, case) = ("Without a checksum any length will do.", format!("{name}, long without a sum"));
        cases.push(Case::decapsulated(DecapExit::Decapsulated, &case, what, &frame, Some(&bare(longest))));
    }
}

/// Inner packets that no tunnel may carry.
fn insides(cases: &mut Vec<Case>, side: Side, name: &str, inner: Side) {
    let of = |to, payload| Ip::new(inner.client(), to, payload);
    let innermost = Ip::new(inner.client(), inner.vip(), tcp(port::DSR, SYN));
    let nested = Payload::Udp(datagram(&[], &innermost));
    let mut fragment = of(inner.vip(), nested.clone());
    match inner {
        Side::V4 => (fragment.dont_fragment, fragment.more_fragments) = (false, true),
        Side::V6 => fragment.extensions = vec![Extension::fragment(0, true, 7)],
    }
    let mut long = of(inner.vip(), tcp(port::DSR, ACK));
    long.length = Some(u16::MAX);
    let own = Ip::new(inner.backend(1), inner.vip(), tcp(port::DSR, ACK));
    for (exit, case, packet) in [
        (DecapExit::UnknownVip, "for no VIP", of(inner.other(), tcp(port::DSR, ACK))),
        (DecapExit::OwnSource, "from this host", own),
        (DecapExit::NestedTunnel, "in it again", of(inner.vip(), nested)),
        (DecapExit::NestedTunnel, "in it again, in fragments", fragment),
        (DecapExit::NestedTunnel, "IP in it", of(inner.vip(), Payload::Ip(Box::new(innermost)))),
        (DecapExit::BadInner, "length of 65,535", long),
    ] {
        for (variant, header) in variants(&packet) {
            let frame = sent(side, datagram(&header, &packet));
            let what = "In UDP as in any other tunnel.";
            cases.push(Case::decapsulated(exit, &format!("{name}, {variant}, {case}"), what, &frame, None));
        }
    }
}

/// Combinations of source and destination.
fn ends(cases: &mut Vec<Case>, side: Side, name: &str, packet: &Ip) {
    for (variant, header) in variants(packet) {
        let frame = sent(side, datagram(&header, packet));
        let mut push = |exit, case: &str, what, frame: &Frame, drops: bool| {
            let name = format!("{name}, {variant}, {case}");
            let out = if drops { None } else { Some(frame) };
            cases.push(Case::decapsulated(exit, &name, what, frame, out).unsound());
        };
        let to = |to| with_ip(frame.clone(), |ip| ip.destination = to);
        let what = "Whoever sends by our edge's address to another host than this is not our edge, or is mistaken.";
        for (case, to) in [("to another host", to(side.router())), ("to a VIP", to(side.vip()))] {
            push(DecapExit::WrongEndpoint, case, what, &to, true);
        }
        let stranger = with_ip(frame.clone(), |ip| ip.source = side.other());
        push(DecapExit::UnknownSource, "from a stranger", "It is the host's, untouched.", &stranger, false);
        let beside = match side {
            Side::V4 => std::net::IpAddr::from([203, 0, 115, 0]),
            Side::V6 => std::net::IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xb100]),
        };
        let stranger = with_ip(frame.clone(), |ip| ip.source = beside);
        push(DecapExit::UnknownSource, "from beside the prefix", "It is the host's, untouched.", &stranger, false);
        let other = sent(side, Udp { destination: GUE_PORT + 1, ..datagram(&header, packet) });
        push(DecapExit::NotTunnel, "to another port", "A datagram like any other.", &other, false);
        let swapped = Udp { source: GUE_PORT, destination: 51_234, ..datagram(&header, packet) };
        push(DecapExit::NotTunnel, "from the port", "A datagram like any other.", &sent(side, swapped), false);
        let fragment = with_ip(frame.clone(), |ip| {
            (ip.dont_fragment, ip.more_fragments) = (false, true);
            if side == Side::V6 {
                ip.extensions = vec![Extension::fragment(0, true, 7)];
            }
        });
        push(DecapExit::TunnelFragment, "first fragment", "The host reassembles fragments.", &fragment, false);
    }
}
