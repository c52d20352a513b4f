//! Packets that need a longer look: with options or extension headers, fragments, ICMP, broken ones.

use network_types::icmp::Icmpv4Hdr;

use crate::{
    exit::Exit,
    frame::{self, Link},
    ip::{Payload, Transport, V4, V6, protocol},
    packet::Packet,
    pipeline::{self, Chosen, Decision, Detours, Found, Place},
    reply::Reply,
    tables::{Tables, View},
    transport,
};

/// Finds out where the packet behind `link` goes, in the half of the maps that it has seen published.
#[inline(always)]
pub fn find<P: Packet, T: Tables>(packet: &P, tables: &T, detours: &impl Detours<P>, link: Link, half: u32) -> Found {
    let Some((published, _)) = tables.published() else { return Err(Exit::NotOurs.into()).into() };
    let view = View { half, generation: &published.generations[half as usize & 1] };
    match link.ether_type {
        frame::IPV4 => network::<V4, P, T>(packet, tables, detours, view, link).into(),
        _ => network::<V6, P, T>(packet, tables, detours, view, link).into(),
    }
}

#[inline(always)]
fn network<F: Reply, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    detours: &impl Detours<P>,
    view: View<'_>,
    link: Link,
) -> Result<Chosen, Decision> {
    let header: &F::Header = packet.view(link.l3).ok_or(Exit::NotOurs)?;
    let at = match F::payload(packet, link.l3, header) {
        Payload::Transport(at) => at,
        Payload::Fragment => return Err(for_a_vip::<F, T>(tables, view, header, Exit::Fragment)),
        Payload::Hidden => return Err(for_a_vip::<F, T>(tables, view, header, Exit::ExtensionHeaders)),
        Payload::Malformed => return Err(for_a_vip::<F, T>(tables, view, header, Exit::Malformed)),
    };
    match at.protocol {
        protocol::TCP | protocol::UDP => service::<F, P, T>(packet, tables, detours, view, link, at),
        icmp if icmp == F::ICMP => Err(control::<F, P, T>(packet, tables, view, link, at)),
        _ => Err(Exit::NotOurs.into()),
    }
}

/// A TCP or UDP packet behind options or extension headers, or a broken one.
#[inline(always)]
fn service<F: Reply, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    detours: &impl Detours<P>,
    view: View<'_>,
    link: Link,
    at: Transport,
) -> Result<Chosen, Decision> {
    let header: &F::Header = packet.view(link.l3).ok_or(Exit::NotOurs)?;
    let Some(head) = transport::Head::read(packet, at.protocol, at.offset) else {
        return Err(for_a_vip::<F, T>(tables, view, header, Exit::Malformed));
    };
    let target = F::find(tables, view, header, head.destination(), at.protocol).ok_or(Exit::NotOurs)?;
    let service = tables.service(view.half, target.service).ok_or(Exit::BadTables)?;
    let Ok(syn) = head.check(at.protocol, at.offset, link.l3 + F::length(header)) else {
        return Err(Exit::Malformed.into());
    };
    let place = Place {
        l3: link.l3,
        protocol: at.protocol,
        ports: head.ports,
        half: view.half,
        starts: syn || at.protocol == protocol::UDP && pipeline::starts_quic(packet, service, at),
        v6: F::ETHER_TYPE == frame::IPV6,
        quoted: false,
    };
    let flow = pipeline::flow_of::<F>(view, target, service, header, head.ports);
    let found = detours.choose(packet, target, flow, place).split();
    found.map_err(|decided| pipeline::exhausted(service, decided, at))
}

/// An ICMP or ICMPv6 packet.
#[inline(always)]
fn control<F: Reply, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    view: View<'_>,
    link: Link,
    at: Transport,
) -> Decision {
    let Some(header) = packet.view::<F::Header>(link.l3) else { return Exit::NotOurs.into() };
    if !F::is_vip(tables, view, header) {
        return Exit::NotOurs.into();
    }
    let Some([kind, code]) = packet.load(at.offset) else { return Exit::Malformed.into() };
    if at.offset + Icmpv4Hdr::LEN > link.l3 + F::length(header) {
        return Exit::Malformed.into();
    }
    let exit = if kind == F::ECHO_REQUEST && code == 0 {
        Exit::EchoReply
    } else if F::is_error(kind) {
        Exit::IcmpError
    } else {
        Exit::IcmpOther
    };
    Decision::new(exit, at.offset as u32)
}

/// `exit` if the packet is for one of our VIPs, whatever its port; else it is not ours.
#[inline(always)]
fn for_a_vip<F: Reply, T: Tables>(tables: &T, view: View<'_>, header: &F::Header, exit: Exit) -> Decision {
    if F::is_vip(tables, view, header) { exit.into() } else { Exit::NotOurs.into() }
}
