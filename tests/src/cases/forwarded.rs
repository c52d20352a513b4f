//! Cases of packets that are forwarded, in every mode.

use edge_common::abi::{Exit, Verdict};

use super::{
    Case, Forwarded, Scene, protocol_name,
    scene::{AWAY, from_client, ip, port, tcp, transport, udp, with_ip},
    side_name,
};
use crate::{
    both::ProgramExit,
    namespace::{EDGE0, LO},
    packet::{ACK, Extension, FIN, Frame, Icmp, Ip, PSH, Payload, RST, SYN, Tag, Tcp, Udp, protocol},
    world::{Side, VIRTUAL_MAC, World},
};

/// A service's treatment of its packets: port, exit, egress, family of the tunnel, name.
struct Mode(u16, Exit, u32, Option<Side>, &'static str);

const MODES: [Mode; 23] = [
    Mode(port::DSR, Exit::DsrTx, LO, None, "to a backend on the L2 network that it came from"),
    Mode(port::DSR_AWAY, Exit::DsrRedirect, AWAY, None, "to a backend on another L2 network"),
    Mode(port::DSR_VLAN, Exit::DsrTx, LO, None, "to a backend in a VLAN"),
    Mode(port::DSR_VLAN_AWAY, Exit::DsrRedirect, AWAY, None, "to a backend in a VLAN behind another interface"),
    Mode(port::IN4, Exit::IpipTx, LO, Some(Side::V4), "in IPv4, back out"),
    Mode(port::IN6, Exit::IpipTx, LO, Some(Side::V6), "in IPv6, back out"),
    Mode(port::IN4_AWAY, Exit::IpipRedirect, AWAY, Some(Side::V4), "in IPv4, by another interface"),
    Mode(port::IN6_AWAY, Exit::IpipRedirect, AWAY, Some(Side::V6), "in IPv6, by another interface"),
    Mode(port::IN4_VLAN, Exit::IpipTx, LO, Some(Side::V4), "in IPv4, in a VLAN"),
    Mode(port::IN6_VLAN, Exit::IpipTx, LO, Some(Side::V6), "in IPv6, in a VLAN"),
    Mode(port::UDP4, Exit::GueTx, LO, Some(Side::V4), "in UDP over IPv4, back out"),
    Mode(port::UDP6, Exit::GueTx, LO, Some(Side::V6), "in UDP over IPv6, back out"),
    Mode(port::UDP4_AWAY, Exit::GueRedirect, AWAY, Some(Side::V4), "in UDP over IPv4, by another interface"),
    Mode(port::UDP6_AWAY, Exit::GueRedirect, AWAY, Some(Side::V6), "in UDP over IPv6, by another interface"),
    Mode(port::UDP4_VLAN, Exit::GueTx, LO, Some(Side::V4), "in UDP over IPv4, in a VLAN"),
    Mode(port::UDP6_VLAN, Exit::GueTx, LO, Some(Side::V6), "in UDP over IPv6, in a VLAN"),
    Mode(
        port::UDP4_ROUTED,
        Exit::GueRedirect,
        EDGE0,
        Some(Side::V4),
        "in UDP over IPv4, by a route that only the kernel has",
    ),
    Mode(
        port::UDP6_ROUTED,
        Exit::GueRedirect,
        EDGE0,
        Some(Side::V6),
        "in UDP over IPv6, by a route that only the kernel has",
    ),
    Mode(port::DSR_ROUTED, Exit::DsrRedirect, EDGE0, None, "to a neighbour that only the kernel has"),
    Mode(port::IN4_ROUTED, Exit::IpipRedirect, EDGE0, Some(Side::V4), "in IPv4, by a route that only the kernel has"),
    Mode(port::IN6_ROUTED, Exit::IpipRedirect, EDGE0, Some(Side::V6), "in IPv6, by a route that only the kernel has"),
    Mode(port::IN4_BEHIND, Exit::IpipRedirect, EDGE0, Some(Side::V4), "in IPv4, by a router that only the kernel has"),
    Mode(port::IN6_BEHIND, Exit::IpipRedirect, EDGE0, Some(Side::V6), "in IPv6, by a router that only the kernel has"),
];

/// Stacks of tags that a frame can have.
fn tags() -> [(&'static str, Vec<Tag>); 4] {
    let priority = Tag::new(5).with_priority(6, true);
    [
        ("untagged", vec![]),
        ("one tag", vec![Tag::new(100)]),
        ("a tag with priority", vec![priority]),
        ("two tags", vec![Tag::service(7).with_priority(3, false), Tag::new(200)]),
    ]
}

pub(super) fn add(cases: &mut Vec<Case>, scene: &Scene, side: Side) {
    for mode in &MODES {
        for protocol in [protocol::TCP, protocol::UDP] {
            for (tagging, tags) in tags() {
                let frame = from_client(side, transport(protocol, mode.0, 33)).tagged(&tags);
                cases.push(forwarded(scene, side, protocol, mode, tagging, mode.4, &frame));
            }
        }
        special(cases, scene, side, mode);
        fragments(cases, scene, side, mode);
        errors(cases, scene, side, mode);
    }
    let open = Mode(port::OPEN, Exit::DsrTx, LO, None, "");
    let what = "All backends are down, but none is disabled: open serves as if they were up.";
    for payload in [tcp(open.0, SYN), tcp(open.0, ACK), udp(open.0)] {
        let name = match &payload {
            Payload::Tcp(tcp) if tcp.flags == SYN => "SYN, all down",
            Payload::Tcp(_) => "ACK, all down",
            Payload::Udp(_) | Payload::Icmp(_) | Payload::Ip(_) | Payload::Other(..) => "all down",
        };
        let protocol = if matches!(payload, Payload::Udp(_)) { protocol::UDP } else { protocol::TCP };
        cases.push(forwarded(scene, side, protocol, &open, name, what, &from_client(side, payload)));
    }
}

/// Packets of unusual shape through one mode.
fn special(cases: &mut Vec<Case>, scene: &Scene, side: Side, mode: &Mode) {
    let port = mode.0;
    let mut push = |protocol, name: &str, what, frame: &Frame| {
        cases.push(forwarded(scene, side, protocol, mode, name, what, frame));
    };
    for (name, flags) in
        [("SYN", SYN), ("SYN with data bits", SYN | PSH), ("SYN+ACK", SYN | ACK), ("FIN", FIN | ACK), ("RST", RST)]
    {
        let what = "TCP flags decide whether a flow starts, not where its packet goes while the owner lives.";
        push(protocol::TCP, name, what, &from_client(side, tcp(port, flags)));
    }
    let what = "To the address of a virtual router, which the edge has, too.";
    let to_virtual = Frame { destination: VIRTUAL_MAC, ..from_client(side, tcp(port, ACK)) };
    push(protocol::TCP, "to a virtual router", what, &to_virtual);
    let what = "The last hop that a TTL allows.";
    push(protocol::UDP, "TTL 2", what, &with_ip(from_client(side, udp(port)), |ip| ip.ttl = 2));
    let what = "The largest TTL, which no sum may overflow.";
    push(protocol::UDP, "TTL 255", what, &with_ip(from_client(side, udp(port)), |ip| ip.ttl = 255));
    let what = "Padding behind the packet stays there: it is not the packet's.";
    push(protocol::UDP, "padded", what, &from_client(side, udp(port)).padded());
    let what = "DSCP and ECN are the client's, and copied to a tunnel's header.";
    push(protocol::TCP, "DSCP and ECN", what, &with_ip(from_client(side, tcp(port, ACK)), |ip| ip.tos = 0xbb));
    let longest = 1500 - length_of_headers(scene, side, mode);
    push(protocol::UDP, "as long as the MTU", "Exactly the MTU of the path.", &{
        from_client(side, transport(protocol::UDP, port, longest))
    });
    push(protocol::UDP, "without data", "A datagram with nothing in it.", &{
        from_client(side, transport(protocol::UDP, port, 0))
    });
    let no_checksum = Payload::Udp(Udp { destination: port, checksum: Some(0), ..Udp::default() });
    let mut case = forwarded(scene, side, protocol::UDP, mode, "without checksum", "Not ours to judge.", &{
        from_client(side, no_checksum)
    });
    case.sound = false;
    cases.push(case);

    let mut push = |protocol, name: &str, what, frame: &Frame| {
        cases.push(forwarded(scene, side, protocol, mode, name, what, frame));
    };
    match side {
        Side::V4 => {
            let what = "IP options are the backend's business.";
            push(protocol::TCP, "IP options", what, &{
                with_ip(from_client(side, tcp(port, ACK)), |ip| ip.options = vec![0x94, 4, 0, 0, 1, 1, 1, 0])
            });
            push(protocol::UDP, "all IP options", what, &{
                with_ip(from_client(side, udp(port)), |ip| ip.options = vec![1; 40])
            });
            let what = "Routers may fragment it, and the tunnel's header allows it, too.";
            push(protocol::UDP, "without DF", what, &{
                with_ip(from_client(side, udp(port)), |ip| (ip.dont_fragment, ip.id) = (false, 0x1234))
            });
        }
        Side::V6 => {
            let what = "Up to four extension headers are looked through.";
            let chain = [
                Extension::filler(protocol::HOP_BY_HOP, 0),
                Extension::filler(protocol::DESTINATION, 2),
                Extension::filler(protocol::ROUTING, 1),
                Extension::filler(protocol::DESTINATION, 33),
            ];
            for count in 1..=chain.len() {
                let name = format!("{count} extension headers");
                let frame = with_ip(from_client(side, tcp(port, ACK)), |ip| ip.extensions = chain[..count].to_vec());
                push(protocol::TCP, &name, what, &frame);
            }
            push(protocol::UDP, "flow label", "A client's own flow label stays.", &{
                with_ip(from_client(side, udp(port)), |ip| ip.flow_label = 0xa_bcde)
            });
        }
    }
}

/// First fragments, which take the path of the whole packet.
fn fragments(cases: &mut Vec<Case>, scene: &Scene, side: Side, mode: &Mode) {
    let port = mode.0;
    let first = |payload| {
        with_ip(from_client(side, payload), |ip| match side {
            Side::V4 => (ip.id, ip.dont_fragment, ip.more_fragments) = (77, false, true),
            Side::V6 => ip.extensions = vec![Extension::fragment(0, true, 77)],
        })
    };
    let long = Payload::Udp(Udp { destination: port, data: vec![9; 64], length: Some(4_000), ..Udp::default() });
    let segment = |flags| Payload::Tcp(Tcp { destination: port, flags, data: vec![9; 64], ..Tcp::default() });
    for (protocol, name, what, payload) in [
        (protocol::UDP, "first fragment", "It has only a part of the datagram of the length in its header.", long),
        (protocol::TCP, "first fragment", "A segment in parts, against all advice.", segment(ACK)),
        (protocol::TCP, "first fragment, SYN", "A flow may start with it, too.", segment(SYN)),
    ] {
        let mut case = forwarded(scene, side, protocol, mode, name, what, &first(payload));
        case.sound = false;
        cases.push(case);
    }
    if side == Side::V6 {
        let what = "A fragment header, but all of the packet behind it (RFC 6946).";
        let frame = with_ip(from_client(side, udp(port)), |ip| ip.extensions = vec![Extension::fragment(0, false, 77)]);
        cases.push(forwarded(scene, side, protocol::UDP, mode, "atomic fragment", what, &frame));
    }
}

/// ICMP errors about packets of a backend, which go to the backend of that flow.
fn errors(cases: &mut Vec<Case>, scene: &Scene, side: Side, mode: &Mode) {
    let what = "It quotes an answer to the client, whose flow is a backend's.";
    let (kinds, header): (&[(u8, u8)], usize) = match side {
        Side::V4 => (&[(3, 4), (3, 1), (11, 0), (12, 0)], 20),
        Side::V6 => (&[(1, 0), (2, 0), (3, 0), (4, 1)], 40),
    };
    for protocol in [protocol::TCP, protocol::UDP] {
        let (source, destination) = (mode.0, Tcp::default().source);
        let answer = match protocol {
            protocol::TCP => Payload::Tcp(Tcp { source, destination, ..Tcp::default() }),
            _ => Payload::Udp(Udp { source, destination, ..Udp::default() }),
        };
        let answer = Ip::new(side.vip(), side.client(), answer).bytes();
        for (kind, code) in kinds {
            for (quoted, length) in [("all", answer.len()), ("eight bytes", header + 8), ("the ports", header + 4)] {
                let error = Payload::Icmp(Icmp::error(*kind, *code, 1400, &answer[..length]));
                let name = format!("error {kind}, {code}, {quoted} quoted");
                cases.push(forwarded(scene, side, protocol, mode, &name, what, &from_client(side, error)));
            }
        }
    }
}

/// Total length of the IP and UDP headers that a mode adds.
fn length_of_headers(scene: &Scene, side: Side, mode: &Mode) -> usize {
    let of = |side| if side == Side::V4 { 20 } else { 40 };
    let udp = if is_in_udp(mode) { usize::from(scene.udp_overhead()) } else { 0 };
    8 + of(side) + mode.3.map_or(0, of) + udp
}

fn is_in_udp(mode: &Mode) -> bool {
    matches!(mode.1, Exit::GueTx | Exit::GueRedirect)
}

fn forwarded(
    scene: &Scene,
    side: Side,
    protocol: u8,
    mode: &Mode,
    name: &str,
    what: &'static str,
    frame: &Frame,
) -> Case {
    let &Mode(port, exit, egress, tunnel, _) = mode;
    let mut inner = ip(frame).clone();
    let bytes = inner.bytes().len() as u64;
    inner.ttl -= 1;
    let sent = match tunnel {
        None => inner,
        Some(tunnel) => {
            let label = World::flow(side.client(), source_port(&inner), port).flow_label();
            let (source, payload) = if is_in_udp(mode) {
                (tunnel.tunnel(), Payload::Udp(scene.world.in_udp(label, &inner)))
            } else {
                (scene.world.ipip_source(tunnel, label), Payload::Ip(Box::new(inner.clone())))
            };
            let mut outer = Ip::new(source, scene.backend_address(side, protocol, port), payload);
            outer.tos = inner.tos;
            if tunnel == Side::V4 {
                outer.dont_fragment = side == Side::V6 || inner.dont_fragment;
                // Differs for each packet, as RFC 6864 requires where fragmentation is allowed.
                let id = if outer.dont_fragment { 0 } else { inner.id };
                outer.id = id ^ World::fingerprint(label);
            } else {
                outer.flow_label = label;
            }
            outer
        }
    };
    let out = scene.towards(side, protocol, port, frame, sent);
    let (service, backend) = scene.behind(side, protocol, port);
    let starts = matches!(&ip(frame).payload, Payload::Tcp(tcp) if tcp.flags & (SYN | ACK) == SYN);
    let name = format!("{} {} port {port}: {name}", side_name(side), protocol_name(protocol));
    let verdict = if egress == LO { Verdict::Tx } else { Verdict::Redirect };
    let mut case = Case::new(ProgramExit::Edge(exit), verdict, &name, what, frame, Some(&out));
    case.forwarded = Some(Forwarded { egress, service, backend, bytes, starts });
    case
}

fn source_port(ip: &Ip) -> u16 {
    match &ip.payload {
        Payload::Tcp(tcp) => tcp.source,
        Payload::Udp(udp) => udp.source,
        // The quoted packet's destination.
        Payload::Icmp(_) => Tcp::default().source,
        Payload::Ip(_) | Payload::Other(..) => panic!("a packet with ports"),
    }
}
