//! The path MTU of a tunnel is learnt from errors about the tunnel's packets, and from no others.

use std::net::IpAddr;

use edge_common::abi::{Backend, BackendNumber, Exit};
use edge_tests::{
    both::{Both, ProgramExit},
    cases::scene::{labelled, to_tunnel, tunnelled_to},
    packet::{Extension, Frame, Icmp, Ip, Network, Payload, SYN, Udp, protocol},
    world::Side,
};

use super::world::{Flow, exit, flows, for_each_flow, forwarded, fragment, fragments, header, traffic};

/// Flows in tunnels, with the tunnels' families.
pub(crate) fn tunnelled() -> Vec<(Flow, Side)> {
    flows().into_iter().filter_map(|flow| Some((flow, flow.tunnel()?))).collect()
}

/// Runs `test` for each of [`tunnelled`].
pub(crate) fn for_each_tunnel(mut test: impl FnMut(&mut Both, Flow, Side) + Send) {
    for_each_flow(|both, flow| {
        if let Some(tunnel) = flow.tunnel() {
            test(both, flow, tunnel);
        }
    });
    assert_eq!(tunnelled().len(), 16);
}

fn address(both: &Both, backend: BackendNumber) -> IpAddr {
    let Backend { family, address, .. } = both.world.backends[usize::from(backend)];
    if family == 4 { IpAddr::from([address[0], address[1], address[2], address[3]]) } else { IpAddr::from(address) }
}

/// A router's error that quotes `outer`.
pub(crate) fn too_big(tunnel: Side, mtu: u32, outer: &[u8]) -> Frame {
    let (kind, code) = if tunnel == Side::V4 { (3, 4) } else { (2, 0) };
    let icmp = Icmp { kind, code, rest: mtu.to_be_bytes(), data: outer.to_vec(), ..Icmp::default() };
    to_tunnel(tunnel, Payload::Icmp(icmp))
}

/// The flow's outer packet to `backend`, one of the longest.
pub(crate) fn outer(both: &Both, flow: Flow, backend: BackendNumber) -> Ip {
    within(both, flow, backend, &flow.packet(100))
}

/// `inner` as the flow's packet in the tunnel to `backend`.
fn within(both: &Both, flow: Flow, backend: BackendNumber, inner: &Ip) -> Ip {
    let mut outer = tunnelled_to(flow.tunnel().expect("a tunnel"), address(both, backend), inner.clone());
    if flow.is_in_udp() {
        outer.payload = Payload::Udp(both.world.in_udp(flow.label(), inner));
    }
    labelled(outer, flow.label(), u16::MAX)
}

/// Sends an error with `mtu` about a packet of the flow to `backend`; returns whether the MTU was learnt.
pub(crate) fn learns(both: &Both, flow: Flow, backend: BackendNumber, mtu: u32) -> bool {
    let tunnel = flow.tunnel().expect("a tunnel");
    is_learnt(both, &too_big(tunnel, mtu, &outer(both, flow, backend).bytes()))
}

fn is_learnt(both: &Both, frame: &Frame) -> bool {
    let bytes = frame.bytes();
    let seen = both.run(&bytes);
    assert_eq!(seen.frame, bytes, "the host gets it as it came");
    match seen.exit {
        ProgramExit::Edge(Exit::PathMtu) => true,
        ProgramExit::Edge(Exit::NotOurs) => false,
        other @ (ProgramExit::Edge(_) | ProgramExit::Decap(_)) => panic!("{other:?}"),
    }
}

pub(crate) fn learnt(both: &Both, backend: BackendNumber) -> Option<u16> {
    both.memory.path_mtus.borrow().get(&backend).copied()
}

fn others(both: &Both, backend: BackendNumber) -> Vec<BackendNumber> {
    (0..).zip(&both.world.backends).map(|(number, _)| number).filter(|number| *number != backend).collect()
}

#[test]
fn it_is_learnt_for_the_backend_of_the_flow_and_not_less_than_anybody_can_carry() {
    for_each_tunnel(|both, flow, tunnel| {
        let owner = flow.owner(both);
        let before = traffic(both, flow, owner);
        let floor = if tunnel == Side::V4 { 576 } else { 1280 };
        for (reported, learnt_mtu) in
            [(1_400, 1_400), (1_450, 1_450), (floor, floor), (floor - 1, floor), (1, floor), (65_534, 65_534)]
        {
            both.memory.path_mtus.borrow_mut().clear();
            assert!(learns(both, flow, owner, reported), "{flow:?}: {reported}");
            assert_eq!(learnt(both, owner).map(u32::from), Some(learnt_mtu), "{flow:?}: {reported}");
        }
        both.memory.path_mtus.borrow_mut().clear();
        // Routers older than RFC 1191 report 0; no IPv6 MTU exceeds the length field.
        if tunnel == Side::V4 {
            assert!(!learns(both, flow, owner, 0));
        } else {
            assert!(!learns(both, flow, owner, 65_536) && !learns(both, flow, owner, 1 << 31 | 1_400));
        }
        assert_eq!(learnt(both, owner), None);
        assert_eq!(traffic(both, flow, owner), before, "none of it is the flow's traffic");
    });
}

#[test]
fn only_lower_values_are_learnt() {
    for_each_tunnel(|both, flow, _| {
        let owner = flow.owner(both);
        for (reported, learnt_mtu) in [(1_450, 1_450), (1_400, 1_400), (1_460, 1_400), (1_300, 1_300), (1_301, 1_300)] {
            // On both sides, since `run` compares the kernel's map with the expected one.
            let known = learnt(both, owner).unwrap_or_default();
            both.change(|world| world.backends[usize::from(owner)].path_mtu = known);
            assert!(learns(both, flow, owner, reported));
            assert_eq!(learnt(both, owner), Some(learnt_mtu), "{flow:?}: {reported}");
        }
    });
}

#[test]
fn an_error_without_a_known_flow_changes_no_path_mtu() {
    for_each_tunnel(|both, flow, tunnel| {
        let owner = flow.owner(both);
        for other in others(both, owner) {
            let same_family =
                both.world.backends[usize::from(other)].family == both.world.backends[usize::from(owner)].family;
            if same_family {
                assert!(!learns(both, flow, other, 1_300), "{flow:?}: {other} is not the flow's");
            }
        }
        let inner = flow.packet(100);
        let to = address(both, owner);
        let of = |inner: &Ip| within(both, flow, owner, inner);
        let mut source = of(&inner);
        source.source = tunnel.other();
        let mut sctp = inner.clone();
        sctp.protocol = Some(protocol::SCTP);
        let mut vip = inner.clone();
        vip.destination = flow.side.other();
        let mut version = inner.clone();
        version.version = Some(7);
        let mut port = flow;
        port.port = 999;
        let echo = if flow.side == Side::V4 { 8 } else { 128 };
        let icmp = Ip { payload: Payload::Icmp(Icmp::echo(echo, 1, 1, b"ping")), ..inner.clone() };
        let quotes = [
            ("another tunnel's packet", source),
            ("SCTP in the tunnel", of(&sctp)),
            ("another VIP", of(&vip)),
            ("no IP in the tunnel", of(&version)),
            ("no service", of(&port.packet(10))),
            ("ICMP in the tunnel", of(&icmp)),
            ("no tunnel", Ip::new(tunnel.tunnel(), to, flow.packet(10).payload)),
            ("a later fragment like a first one", of(&fragment(&inner, inner.payload.clone(), 5, true, 3))),
            ("a later fragment", of(&fragments(&inner, 24, 3).remove(1))),
            ("a later fragment of the outer packet", fragments(&of(&inner), 64, 3).remove(1)),
        ];
        for (what, quoted) in quotes {
            assert!(!is_learnt(both, &too_big(tunnel, 1_300, &quoted.bytes())), "{flow:?}: quotes {what}");
        }
        let quoted = outer(both, flow, owner).bytes();
        for (kind, code) in [(3, 3), (3, 0), (11, 0), (2, 4), (1, 0), (4, 4), (3, 5), (8, 0), (128, 0)] {
            let learns = tunnel == Side::V6 && kind == 2;
            let frame = to_tunnel(tunnel, Payload::Icmp(Icmp::error(kind, code, 1_300, &quoted)));
            assert_eq!(is_learnt(both, &frame), learns, "{flow:?}: type {kind}, code {code}");
        }
        both.memory.path_mtus.borrow_mut().clear();
        if tunnel == Side::V6 {
            // The backend's address starts with the same bytes as this IPv4 address.
            let alike = tunnelled_to(Side::V4, IpAddr::from([0x20, 0x01, 0x0d, 0xb8]), inner);
            let alike = labelled(alike, flow.label(), u16::MAX);
            assert!(!is_learnt(both, &too_big(Side::V4, 1_300, &alike.bytes())), "{flow:?}");
        }
        // To an address that is neither a tunnel's source nor a VIP; and to a VIP, where the error is not about an
        // answer.
        let mut packet = Ip::new(tunnel.router(), tunnel.other(), Payload::Icmp(Icmp::error(3, 4, 1_300, &quoted)));
        assert_eq!(exit(both, &packet), Exit::NotOurs);
        packet.destination = tunnel.vip();
        assert_eq!(exit(both, &packet), Exit::IcmpError);
        assert_eq!(learnt(both, owner), None);
    });
}

#[test]
fn a_quote_cut_off_before_the_ports_teaches_nothing() {
    for_each_tunnel(|both, flow, tunnel| {
        let owner = flow.owner(both);
        let quoted = outer(both, flow, owner).bytes();
        let least = usize::from(flow.overhead(&both.world)) + header(flow.side) + 4;
        for length in 0..=quoted.len() {
            assert_eq!(
                is_learnt(both, &too_big(tunnel, 1_300, &quoted[..length])),
                length >= least,
                "{flow:?}: {length}"
            );
        }
        let mut cut = too_big(tunnel, 1_300, &quoted);
        let Network::Ip(ip) = &mut cut.network else { panic!("an IP packet") };
        for length in 0..8 {
            ip.payload =
                Payload::Other(if tunnel == Side::V4 { protocol::ICMP } else { protocol::ICMPV6 }, vec![3; length]);
            assert_eq!(exit(both, ip), Exit::NotOurs, "{length} bytes of ICMP");
        }
    });
}

#[test]
fn options_in_the_error_and_in_what_it_quotes_are_no_obstacle() {
    for_each_tunnel(|both, flow, tunnel| {
        let owner = flow.owner(both);
        let mut inner = flow.packet(10);
        match flow.side {
            Side::V4 => inner.options = vec![1; 8],
            Side::V6 => {
                let filler = Extension::filler(protocol::HOP_BY_HOP, 1);
                inner.extensions = vec![filler, Extension::fragment(0, true, 5)];
            }
        }
        let quoted = within(both, flow, owner, &inner).bytes();
        let mut frame = too_big(tunnel, 1_300, &quoted);
        let Network::Ip(ip) = &mut frame.network else { panic!("an IP packet") };
        match tunnel {
            Side::V4 => ip.options = vec![1; 40],
            Side::V6 => ip.extensions = vec![Extension::filler(protocol::DESTINATION, 1)],
        }
        assert!(is_learnt(both, &frame), "{flow:?}");
        if tunnel == Side::V6 {
            let Network::Ip(ip) = &mut frame.network else { panic!("an IP packet") };
            ip.extensions = vec![Extension::filler(protocol::DESTINATION, 30)];
            assert!(!is_learnt(both, &frame), "{flow:?}: what it quotes stands too far behind");
            // Also if a similar header stands 256 bytes before.
            let mut extension = Extension::filler(protocol::DESTINATION, 31);
            let inside = usize::from(flow.overhead(&both.world));
            extension.rest[47..][..header(flow.side)].copy_from_slice(&quoted[inside..][..header(flow.side)]);
            let Network::Ip(ip) = &mut frame.network else { panic!("an IP packet") };
            ip.extensions = vec![extension];
            assert!(!is_learnt(both, &frame), "{flow:?}: that is not what it quotes");
        }
    });
}

#[test]
fn it_is_learnt_for_the_backend_that_the_flows_record_names() {
    for_each_tunnel(|both, flow, _| {
        if flow.protocol == protocol::UDP {
            return;
        }
        let owner = flow.drain_owner(both);
        let (pick, _) = forwarded(both, flow, &flow.with_flags(SYN, 0));
        assert!(!learns(both, flow, owner, 1_300), "{flow:?}: it is not the owner's");
        assert!(learns(both, flow, pick, 1_300));
        assert_eq!((learnt(both, pick), learnt(both, owner)), (Some(1_300), None));
        assert_eq!(
            both.memory.slots.borrow().iter().flat_map(|cell| cell.0).filter(|slot| slot.unrecorded != 0).count(),
            0
        );
    });
}

/// The sender of a forged error who sees no packets on the path knows addresses and ports only.
#[test]
fn an_error_that_is_made_up_teaches_nothing() {
    for_each_tunnel(|both, flow, tunnel| {
        let owner = flow.owner(both);
        let real = outer(both, flow, owner);
        let quotes = |outer: &Ip| is_learnt(both, &too_big(tunnel, 1_300, &outer.bytes()));
        for bit in 0..if tunnel == Side::V4 { 16 } else { 20 } {
            let mut forged = real.clone();
            match tunnel {
                Side::V4 => forged.id ^= 1 << bit,
                Side::V6 => forged.flow_label ^= 1 << bit,
            }
            assert!(!quotes(&forged), "{flow:?}: bit {bit} of what identifies the flow");
        }
        let of = |change: &dyn Fn(&mut Udp)| {
            let mut forged = real.clone();
            let Payload::Udp(udp) = &mut forged.payload else { panic!("a datagram") };
            change(udp);
            forged
        };
        if flow.is_in_udp() {
            for bit in 0..14 {
                assert!(!quotes(&of(&|udp| udp.source ^= 1 << bit)), "{flow:?}: bit {bit} of its port");
            }
            assert!(!quotes(&of(&|udp| udp.destination += 1)), "{flow:?}: to another port");
            for (at, byte) in [(0, 1), (0, 0x20), (0, 0x80), (1, 6), (2, 1), (3, 1)] {
                assert!(!quotes(&of(&|udp| udp.data[at] = byte)), "{flow:?}: {byte} in its header");
            }
        }
        if tunnel == Side::V4 {
            let without = Ip { dont_fragment: false, ..real.clone() };
            assert!(!quotes(&without), "{flow:?}: no router may be too narrow for what it may fragment");
        }
        for (length, is) in [(1_299, false), (1_300, false), (1_301, true)] {
            let outer = labelled(real.clone(), flow.label(), length);
            assert_eq!(quotes(&outer), is, "{flow:?}: {length} bytes are too long for 1,300");
        }
        let mut damaged = too_big(tunnel, 1_300, &real.bytes()).bytes();
        *damaged.last_mut().expect("a byte") ^= 1;
        both.memory.path_mtus.borrow_mut().clear();
        assert_eq!(both.run(&damaged).exit, ProgramExit::Edge(Exit::NotOurs), "{flow:?}: a checksum that is wrong");
        assert_eq!(learnt(both, owner), None);
        assert!(quotes(&real));
    });
}

#[test]
fn what_follows_udp_directly_is_found_in_a_quotation_too() {
    for_each_tunnel(|both, flow, _| {
        both.change(|world| world.gue_variant = 1);
        let owner = flow.owner(both);
        assert!(learns(both, flow, owner, 1_400), "{flow:?}");
    });
}

/// In `ipip` with a range of sources, errors come to the flow's own source.
#[test]
fn an_error_to_any_source_of_a_range_is_read_as_one_to_the_tunnels() {
    for_each_tunnel(|both, flow, tunnel| {
        both.change(|world| world.ranges = true);
        let owner = flow.owner(both);
        let mut quoted = outer(both, flow, owner);
        if !flow.is_in_udp() {
            assert!(!learns(both, flow, owner, 1_400), "{flow:?}: no packet of a flow comes from the one address");
            quoted.source = both.world.ipip_source(tunnel, flow.label());
        }
        let mut error = too_big(tunnel, 1_400, &quoted.bytes());
        let Network::Ip(ip) = &mut error.network else { panic!("an IP packet") };
        ip.destination = quoted.source;
        assert!(is_learnt(both, &error), "{flow:?}");
        if !flow.is_in_udp() {
            both.memory.path_mtus.borrow_mut().clear();
            quoted.source = both.world.ipip_source(tunnel, flow.label() ^ 1);
            let mut error = too_big(tunnel, 1_400, &quoted.bytes());
            let Network::Ip(ip) = &mut error.network else { panic!("an IP packet") };
            ip.destination = quoted.source;
            assert!(!is_learnt(both, &error), "{flow:?}: another flow's source");
        }
    });
}
