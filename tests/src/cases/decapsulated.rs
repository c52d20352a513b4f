//! Cases of tunnel packets at the decapsulating end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edge_common::abi::DecapExit;

use super::{
    Case,
    scene::{bare, port, tcp, tunnelled, udp, with_ip},
    side_name,
};
use crate::packet::{ACK, Extension, Frame, Icmp, Ip, Network, Payload, SYN, Tag, protocol};
use crate::world::{CLIENT_MAC, EDGE_MAC, Side};

pub(super) fn add(cases: &mut Vec<Case>, side: Side) {
    for inner in Side::BOTH {
        let packet = Ip::new(inner.client(), inner.vip(), tcp(port::DSR, ACK));
        let name = format!("{} in {}", side_name(inner), side_name(side));
        good(cases, side, &name, &packet);
        bad(cases, side, &name, &packet);
        from_nobody(cases, side, inner, &name);
        for_nobody(cases, side, inner, &name);
        nested(cases, side, inner, &name);
        if inner == Side::V6 {
            discovery(cases, side, &name);
        }
    }
    endpoints(cases, side);
    others(cases, side);
}

fn good(cases: &mut Vec<Case>, side: Side, name: &str, packet: &Ip) {
    let mut push = |name: &str, what, frame: &Frame, out: &Frame| {
        cases.push(Case::decapsulated(DecapExit::Decapsulated, name, what, frame, Some(out)));
    };
    let what = "From a configured edge: the outer header is removed.";
    for (tagging, tags) in
        [("untagged", vec![]), ("tagged", vec![Tag::new(3)]), ("two tags", vec![Tag::service(3), Tag::new(4)])]
    {
        let (frame, out) = (tunnelled(side, packet.clone()).tagged(&tags), bare(packet.clone()).tagged(&tags));
        push(&format!("{name}, {tagging}"), what, &frame, &out);
    }
    let outer = with_ip(tunnelled(side, packet.clone()), |ip| match side {
        Side::V4 => ip.options = vec![1; 40],
        Side::V6 => ip.extensions = vec![Extension::filler(protocol::DESTINATION, 0)],
    });
    push(&format!("{name}, outer options"), "They go with the outer header.", &outer, &bare(packet.clone()));
    let mut padded = tunnelled(side, packet.clone());
    padded.trailer = vec![0; 9];
    let mut out = bare(packet.clone());
    out.trailer = vec![0; 9];
    push(&format!("{name}, padded"), "Padding is the host's to cut off.", &padded, &out);
    let mut marked = packet.clone();
    marked.tos = 0xb9;
    let outer = with_ip(tunnelled(side, marked.clone()), |ip| ip.tos = 0x03);
    marked.tos = 0xbb;
    let what = "Congestion on the path is marked in the inner packet, too; DSCP stays the inner one.";
    push(&format!("{name}, congestion"), what, &outer, &bare(marked));
}

fn bad(cases: &mut Vec<Case>, side: Side, name: &str, packet: &Ip) {
    let mut push = |exit, case: &str, what, frame: &Frame| {
        cases.push(Case::decapsulated(exit, &format!("{name}, {case}"), what, frame, None));
    };
    let what = "The inner packet is cut off or contradicts the outer one.";
    let of = |change: &dyn Fn(&mut Ip)| {
        let mut inner = packet.clone();
        change(&mut inner);
        tunnelled(side, inner)
    };
    push(DecapExit::BadInner, "length of 65,535", what, &of(&|inner| inner.length = Some(65_535)));
    push(DecapExit::BadInner, "version", what, &of(&|inner| inner.version = Some(0)));
    let mut padded = tunnelled(side, packet.clone());
    if let Network::Ip(outer) = &mut padded.network
        && let Payload::Ip(inner) = &mut outer.payload
    {
        let length = inner.bytes().len() - if inner.source.is_ipv4() { 0 } else { 40 };
        inner.length = Some(u16::try_from(length + 4).expect("short"));
    }
    padded.trailer = vec![0; 4];
    push(DecapExit::BadInner, "reaches into the padding", what, &padded);
    let number = if packet.source.is_ipv4() { protocol::IPV4 } else { protocol::IPV6 };
    let short = Ip::new(side.tunnel(), side.backend(1), Payload::Other(number, vec![0x45; 19]));
    push(DecapExit::BadInner, "cut off", what, &Frame::new(EDGE_MAC, CLIENT_MAC, short));
    let what = "RFC 6040: a sender without ECN learns of congestion only by a loss.";
    push(DecapExit::Congested, "no ECN", what, &with_ip(tunnelled(side, packet.clone()), |ip| ip.tos = 0x03));
}

/// Inner packets from addresses that no client can have.
fn from_nobody(cases: &mut Vec<Case>, side: Side, inner: Side, name: &str) {
    let mut push = |exit, source: IpAddr, what| {
        let packet = Ip::new(source, inner.vip(), tcp(port::DSR, ACK));
        cases.push(Case::decapsulated(exit, &format!("{name} from {source}"), what, &tunnelled(side, packet), None));
    };
    let martians: &[&str] = match inner {
        Side::V4 => &["0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"],
        Side::V6 => &["::", "::1", "::ffff:198.51.100.7", "::198.51.100.7", "fe80::1", "ff02::1"],
    };
    let what = "No router forwards it, and the host would take it for its own or its neighbours'.";
    for source in martians {
        push(DecapExit::MartianSource, source.parse().expect("an address"), what);
    }
    let what = "Whoever has this address would not send by the edge: it is forged.";
    for source in [inner.backend(1), inner.vip(), in_anycast(inner)] {
        push(DecapExit::OwnSource, source, what);
    }
}

/// Inner packets that are not for a VIP, and for one VIP of a prefix.
fn for_nobody(cases: &mut Vec<Case>, side: Side, inner: Side, name: &str) {
    let packet = |to: IpAddr| Ip::new(inner.client(), to, tcp(port::DSR, ACK));
    let mut push = |exit, to: IpAddr, what| {
        let name = format!("{name} for {to}");
        cases.push(Case::decapsulated(exit, &name, what, &tunnelled(side, packet(to)), None));
    };
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let (strangers, many): (&[&str], &[&str]) = match inner {
        Side::V4 => (&["8.8.8.8", "127.0.0.1", "192.0.4.0"], &["224.0.0.1", "255.255.255.255"]),
        Side::V6 => (&["2001:4860:4860::8888", "::1", "::ffff:192.0.2.10", "2001:db8::a100"], &["ff02::1", "ff0e::1"]),
    };
    let what = "With forwarding on, this host would be an open relay.";
    for to in strangers.iter().map(|text| address(text)).chain([inner.other(), inner.backend(1)]) {
        push(DecapExit::UnknownVip, to, what);
    }
    for to in many {
        push(DecapExit::InnerMulticast, address(to), "A VIP is the address of one host.");
    }
    let what = "Each address of a configured prefix is a VIP.";
    for to in [inner.anycast(), in_anycast(inner)] {
        let (frame, out) = (tunnelled(side, packet(to)), bare(packet(to)));
        cases.push(Case::decapsulated(DecapExit::Decapsulated, &format!("{name} for {to}"), what, &frame, Some(&out)));
    }
}

/// The last address of a prefix of VIPs.
fn in_anycast(side: Side) -> IpAddr {
    match side.anycast() {
        IpAddr::V4(first) => (first | Ipv4Addr::new(0, 0, 0, 255)).into(),
        IpAddr::V6(first) => (first | Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 255)).into(),
    }
}

/// Inner packets that are themselves tunnel packets.
fn nested(cases: &mut Vec<Case>, side: Side, inner: Side, name: &str) {
    let mut push = |case: &str, payload, change: &dyn Fn(&mut Ip)| {
        let mut packet = Ip::new(inner.client(), inner.vip(), payload);
        change(&mut packet);
        let what = "The host's kernel may open it, and nobody has looked at what is in it.";
        let name = format!("{name}, {case}");
        cases.push(Case::decapsulated(DecapExit::NestedTunnel, &name, what, &tunnelled(side, packet), None));
    };
    for within in Side::BOTH {
        let innermost = Ip::new(within.client(), within.vip(), tcp(port::DSR, SYN));
        push(&format!("{} in it", side_name(within)), Payload::Ip(Box::new(innermost)), &|_| ());
    }
    for (case, number) in [("GRE", 47), ("L2TP", 115), ("MPLS", 137)] {
        push(case, Payload::Other(number, vec![0; 24]), &|_| ());
    }
    let tunnel = || Payload::Other(protocol::IPV6, vec![0x60; 64]);
    match inner {
        Side::V4 => push("in fragments", tunnel(), &|ip| (ip.dont_fragment, ip.more_fragments) = (false, true)),
        Side::V6 => {
            push("in fragments", tunnel(), &|ip| ip.extensions = vec![Extension::fragment(0, true, 7)]);
            let options = || Extension::filler(protocol::DESTINATION, 0);
            push("behind options", tunnel(), &|ip| ip.extensions = vec![options()]);
            push("behind many options", tunnel(), &|ip| ip.extensions = vec![options(); 5]);
            push("behind options in fragments", tunnel(), &|ip| {
                ip.extensions = vec![Extension::fragment(0, true, 7), options()];
            });
        }
    }
}

/// Inner packets of neighbour discovery: a router's address that an attacker tells the backend.
fn discovery(cases: &mut Vec<Case>, side: Side, name: &str) {
    let advertisement = Icmp { kind: 136, rest: [0x20, 0, 0, 0], data: vec![0; 16], ..Icmp::default() };
    let packet = Ip { ttl: 255, ..Ip::new(Side::V6.client(), Side::V6.vip(), Payload::Icmp(advertisement)) };
    let what = "The host takes the hop limit as proof that the sender is on its link.";
    let name = format!("{name}, neighbour discovery");
    cases.push(Case::decapsulated(DecapExit::InnerDiscovery, &name, what, &tunnelled(side, packet), None));
}

/// Tunnel packets of an edge to wrong destinations.
fn endpoints(cases: &mut Vec<Case>, side: Side) {
    let what = "Whoever sends by our edge's address to another host than this is not our edge, or is mistaken.";
    let inner = Ip::new(side.client(), side.vip(), tcp(port::DSR, ACK));
    for (case, to) in [("another host", side.router()), ("a VIP", side.vip()), ("the edge", side.tunnel())] {
        let frame = with_ip(tunnelled(side, inner.clone()), |ip| ip.destination = to);
        let name = format!("{} to {case}", side_name(side));
        cases.push(Case::decapsulated(DecapExit::WrongEndpoint, &name, what, &frame, None));
    }
}

fn others(cases: &mut Vec<Case>, side: Side) {
    let name = side_name(side);
    let mut push = |exit, case: &str, what, frame: &Frame| {
        let case = Case::decapsulated(exit, &format!("{name} {case}"), what, frame, Some(frame));
        cases.push(case.unsound());
    };
    let inner = Ip::new(side.client(), side.vip(), tcp(port::DSR, SYN));
    let what = "A stranger's tunnel is the host's, untouched.";
    let stranger = Ip::new(side.other(), side.backend(1), Payload::Ip(Box::new(inner.clone())));
    push(DecapExit::UnknownSource, "stranger", what, &Frame::new(EDGE_MAC, CLIENT_MAC, stranger));

    let what = "The host reassembles fragments.";
    for (case, offset, more) in [("first", 0, true), ("last", 100, false)] {
        let frame = with_ip(tunnelled(side, inner.clone()), |ip| {
            (ip.dont_fragment, ip.fragment_offset, ip.more_fragments) = (false, offset, more);
            if side == Side::V6 {
                ip.extensions = vec![Extension::fragment(offset, more, 7)];
            }
        });
        push(DecapExit::TunnelFragment, case, what, &frame);
        let frame = with_ip(frame, |ip| ip.source = side.other());
        push(DecapExit::NotTunnel, &format!("{case} fragment of a stranger"), "Not ours to look at.", &frame);
    }
    let what = "No tunnel packet.";
    push(DecapExit::NotTunnel, "bare", what, &bare(inner.clone()));
    push(DecapExit::NotTunnel, "UDP from the edge", what, &{
        bare(Ip::new(side.tunnel(), side.backend(1), udp(port::DSR)))
    });
    push(DecapExit::NotTunnel, "wrong length", what, &{
        with_ip(tunnelled(side, inner), |ip| ip.length = Some(65_535))
    });
    let mut arp = bare(Ip::new(side.client(), side.vip(), tcp(port::DSR, SYN)));
    arp.network = Network::Other(0x0806, vec![0; 28]);
    push(DecapExit::NotTunnel, "ARP", what, &arp);
}
