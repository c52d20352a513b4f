//! Cases of packets that are passed to the host's stack unchanged.

use edge_common::abi::Exit;

use super::{
    Case, Scene,
    answered::from_nobody,
    protocol_name,
    scene::{from_client, labelled, port, tcp, to_closed, to_other, to_tunnel, tunnelled_to, udp, with_ip},
    side_name,
};
use crate::packet::{ACK, Extension, Frame, Icmp, Ip, Network, Payload, SYN, Tag, Tcp, Udp, protocol};
use crate::world::{CLIENT_MAC, EDGE_MAC, Side, World};

pub(super) fn add(cases: &mut Vec<Case>, scene: &Scene, side: Side) {
    not_ours(cases, side);
    fragments(cases, side);
    control(cases, side);
    path_mtu(cases, scene, side);
}

fn push(cases: &mut Vec<Case>, side: Side, exit: Exit, name: &str, what: &'static str, frame: &Frame) {
    cases.push(Case::untouched(exit, &format!("{} {name}", side_name(side)), what, frame));
}

fn not_ours(cases: &mut Vec<Case>, side: Side) {
    let mut push = |name: &str, what, frame: &Frame| push(cases, side, Exit::NotOurs, name, what, frame);
    push("other address", "A port of ours, but not our address.", &to_other(side, tcp(port::DSR, SYN)));
    push("other port", "Our address, but no service there.", &from_client(side, tcp(port::NOBODY, SYN)));
    push("other port, UDP", "Our address, but no service there.", &from_client(side, udp(port::NOBODY)));
    let what = "A protocol that services don't have.";
    push("SCTP", what, &from_client(side, Payload::Other(protocol::SCTP, vec![0; 40])));
    push("no next header", what, &from_client(side, Payload::Other(59, vec![])));
    let inner = Ip::new(side.client(), side.vip(), tcp(port::DSR, SYN));
    push("tunnel to a VIP", "Tunnels don't end here.", &from_client(side, Payload::Ip(Box::new(inner))));
    let foreign = if side == Side::V4 { protocol::ICMPV6 } else { protocol::ICMP };
    let echo = [if side == Side::V4 { 128 } else { 8 }, 0, 0, 0, 0, 1, 0, 1].to_vec();
    push("the other family's ICMP", "It means nothing here.", &from_client(side, Payload::Other(foreign, echo)));
    let what = "What is not for a VIP is left alone, whatever it is.";
    let kind = if side == Side::V4 { 8 } else { 128 };
    push("echo to others", what, &to_other(side, Payload::Icmp(Icmp::echo(kind, 1, 1, b"x"))));
    push("TTL 1 to others", what, &with_ip(to_other(side, tcp(port::DSR, SYN)), |ip| ip.ttl = 1));
    push("wrong length to others", what, &with_ip(to_other(side, udp(port::DSR)), |ip| ip.length = Some(65_535)));
    push("cut off ports to others", what, &to_other(side, Payload::Other(protocol::TCP, vec![0, 1])));
    let segment = Tcp { destination: port::NOBODY, data_offset: Some(2), ..Tcp::default() };
    push("broken TCP to no service", what, &from_client(side, Payload::Tcp(segment)));
    let datagram = Udp { destination: port::NOBODY, length: Some(3), ..Udp::default() };
    push("broken UDP to no service", what, &from_client(side, Payload::Udp(datagram)));
    match side {
        Side::V4 => {
            let options = with_ip(to_other(side, udp(port::DSR)), |ip| ip.options = vec![7, 7, 4, 0, 0, 0, 0, 0]);
            push("options to others", what, &options);
            let fragment = with_ip(to_other(side, udp(port::DSR)), |ip| {
                (ip.dont_fragment, ip.more_fragments) = (false, true);
            });
            push("fragment to others", what, &fragment);
        }
        Side::V6 => {
            for extension in [
                Extension::fragment(0, true, 1),
                Extension { kind: protocol::ENCRYPTED, rest: vec![0; 23] },
                Extension::filler(protocol::HOP_BY_HOP, 0),
            ] {
                let name = format!("extension {} to others", extension.kind);
                push(&name, what, &with_ip(to_other(side, udp(port::DSR)), |ip| ip.extensions = vec![extension]));
            }
        }
    }
    let triple = [Tag::service(1), Tag::new(2), Tag::new(3)];
    let what = "More than two VLAN tags are not looked through.";
    push("three tags", what, &from_client(side, tcp(port::DSR, SYN)).tagged(&triple));
}

fn fragments(cases: &mut Vec<Case>, side: Side) {
    let what = "Of a packet to the VIP, which is an address of the host: the first part may have been the host's.";
    for (name, offset, more) in [("middle", 10, true), ("last", 185, false)] {
        let frame = with_ip(from_client(side, udp(port::NOBODY)), |ip| {
            (ip.id, ip.dont_fragment, ip.fragment_offset, ip.more_fragments) = (79, false, offset, more);
            if side == Side::V6 {
                ip.extensions = vec![Extension::fragment(offset, more, 79)];
            }
        });
        push(cases, side, Exit::NotOurs, name, what, &frame);
    }
    if side == Side::V6 {
        let what = "What the host, whose address the VIP is, may have behind a header that hides it.";
        for kind in [protocol::ENCRYPTED, protocol::AUTHENTICATED] {
            let frame = with_ip(from_client(side, udp(port::NOBODY)), |ip| {
                ip.extensions = vec![Extension { kind, rest: vec![0; 23] }];
            });
            push(cases, side, Exit::NotOurs, &format!("type {kind}"), what, &frame);
        }
    }
    let what = "A packet that is neither TCP nor UDP is the host's, and so is its first fragment.";
    let other = Payload::Other(protocol::ENCRYPTED, vec![7; 24]);
    let frame = with_ip(from_client(side, other), |ip| {
        (ip.dont_fragment, ip.more_fragments) = (false, true);
        if side == Side::V6 {
            ip.extensions = vec![Extension::fragment(0, true, 77)];
        }
    });
    push(cases, side, Exit::FragmentOther, "first", what, &frame);
}

fn control(cases: &mut Vec<Case>, side: Side) {
    let (errors, others, echo): (&[u8], &[u8], u8) = match side {
        Side::V4 => (&[3, 4, 5, 11, 12], &[0, 9, 10, 13, 14, 17, 30, 255], 8),
        Side::V6 => (&[0, 1, 2, 3, 4, 100, 127], &[129, 130, 133, 134, 135, 136, 137, 143, 255], 128),
    };
    let mut quoted = Ip::new(side.vip(), side.client(), udp(40_000)).bytes();
    quoted.truncate(if side == Side::V4 { 28 } else { 48 });
    let what = "Errors about packets that no service of ours sent are the host's.";
    for kind in errors {
        let frame = from_client(side, Payload::Icmp(Icmp::error(*kind, 4, 1400, &quoted)));
        push(cases, side, Exit::IcmpError, &format!("type {kind}"), what, &frame);
    }
    if side == Side::V6 {
        let what = "Neighbour discovery from the same link is the host's, at whatever address.";
        for kind in 133..=137 {
            let message = Payload::Icmp(Icmp { kind, data: vec![1; 16], ..Icmp::default() });
            let name = format!("discovery {kind} at no address of the host");
            let frame = with_ip(to_closed(side, message), |ip| ip.ttl = 255);
            push(cases, side, Exit::IcmpOther, &name, what, &frame);
        }
    }
    let what = "What is neither an error nor an echo request is the host's: neighbour discovery, for example.";
    for kind in others {
        let frame = from_client(side, Payload::Icmp(Icmp { kind: *kind, data: vec![1; 16], ..Icmp::default() }));
        push(cases, side, Exit::IcmpOther, &format!("type {kind}"), what, &frame);
    }
    let mut push = |name: &str, what, frame: &Frame| push(cases, side, Exit::IcmpOther, name, what, frame);
    let request = Payload::Icmp(Icmp::echo(echo, 5, 6, b"ping"));
    let code = Payload::Icmp(Icmp { code: 1, ..Icmp::echo(echo, 5, 6, b"ping") });
    push("echo with a code", "No echo request has a code.", &from_client(side, code));
    let what = "Nobody answers a ping that came from nobody.";
    for (name, ip) in from_nobody(side, &request) {
        push(&format!("echo {name}"), what, &Frame::new(EDGE_MAC, CLIENT_MAC, ip));
    }
    let what = "An echo request with options or extension headers is the host's.";
    let frame = with_ip(from_client(side, request), |ip| match side {
        Side::V4 => ip.options = vec![1; 4],
        Side::V6 => ip.extensions = vec![Extension::filler(protocol::DESTINATION, 0)],
    });
    push("echo with options", what, &frame);
}

/// A router's error about an outer packet on the path to a backend; `side` is the tunnel's family.
fn path_mtu(cases: &mut Vec<Case>, scene: &Scene, side: Side) {
    let port = if side == Side::V4 { port::IN4 } else { port::IN6 };
    let (kind, code, name) = if side == Side::V4 { (3, 4, "fragmentation needed") } else { (2, 0, "packet too big") };
    let what = "The path to the backend has a smaller MTU than the tunnel packet; the host receives the error, too.";
    for inside in Side::BOTH {
        for (protocol, payload) in [(protocol::TCP, tcp(port, ACK)), (protocol::UDP, udp(port))] {
            let source = if protocol == protocol::TCP { Tcp::default().source } else { Udp::default().source };
            let label = World::flow(inside.client(), source, port).flow_label();
            let inner = Ip::new(inside.client(), inside.vip(), payload);
            let outer = tunnelled_to(side, scene.backend_address(inside, protocol, port), inner.clone());
            let outer = labelled(outer, label, 1500).bytes();
            let header = if side == Side::V4 { 20 } else { 40 };
            let inner_header = if inside == Side::V4 { 20 } else { 40 };
            for (quoted, length) in [("all", outer.len()), ("eight bytes", header + inner_header + 8)] {
                let error = Payload::Icmp(Icmp::error(kind, code, 1400, &outer[..length]));
                let frame = to_tunnel(side, error);
                let name = format!(
                    "{name} of {} {} in {}, {quoted} quoted",
                    protocol_name(protocol),
                    side_name(inside),
                    side_name(side)
                );
                cases.push(Case::untouched(Exit::PathMtu, &name, what, &frame));
            }
        }
    }
}

/// Frames that carry no IP.
pub(super) fn add_other(cases: &mut Vec<Case>) {
    let what = "No IP, nothing of ours.";
    for (name, ether_type, payload) in [
        ("ARP", 0x0806, vec![0, 1, 8, 0, 6, 4, 0, 1]),
        ("LLDP", 0x88cc, vec![2, 7, 4]),
        ("802.3 length", 0x0026, vec![0x42, 0x42, 3]),
        ("nothing", 0x0800, vec![]),
        ("a tag, then nothing", 0x8100, vec![]),
        ("half an IPv4 header", 0x0800, vec![0x45; 19]),
        ("half an IPv6 header", 0x86dd, vec![0x60; 39]),
    ] {
        let mut frame = from_client(Side::V4, tcp(port::DSR, ACK));
        frame.network = Network::Other(ether_type, payload);
        cases.push(Case::untouched(Exit::NotOurs, name, what, &frame));
    }
}
