//! ICMP errors about translated packets: an error goes to the sender of the packet that it quotes, and quotes the
//! packet as it was sent.
//!
//! An error about a packet to a backend counts only if the quoted packet carries the label of its flow, and one that
//! reports an MTU only if the quoted packet is longer: a sender off the path can guess neither. A wrong checksum stays
//! wrong, so the receiver of the error drops it.

use network_types::icmp::Icmpv4Hdr;

use super::{
    read::Read,
    rewrite::{Ends, Translated, address_change, transport},
    table::{Outside, Translation, port_of, source, table},
};
use crate::{
    abi::{Exit, Family, Sign},
    flow_table::words_of,
    maps::Maps,
    step::{FlowLocation, StepResult, Translate},
    wire::{
        checksum::Sum,
        icmp::{Icmp, Message},
        ip::{Payload, Transport},
        ipv4::V4,
        ipv6::V6,
        link::Link,
        packet::{OFFSETS, Packet, Places, after},
        protocol,
    },
};

/// Offset of the checksum in an ICMP header.
const CHECKSUM: usize = 2;
/// Offset of the MTU in the header of "packet too big".
const MTU: usize = 4;

/// Finds the entry of the flow of the packet that is quoted at `location`, from either side; [`Exit::NotOurs`] if there
/// is none. The error goes to the side that sent the quoted packet.
#[inline(always)]
pub fn quoted<P: Packet, M: Maps>(packet: &P, maps: &M, location: FlowLocation) -> StepResult {
    found(packet, maps, location).map_or_else(StepResult::from, StepResult::from)
}

#[inline(always)]
fn found<P: Packet, M: Maps>(packet: &P, maps: &M, location: FlowLocation) -> Result<Translate, Exit> {
    let head = maps.nat_head().ok_or(Exit::NotOurs)?;
    let read = Read::quoted(packet, location).ok_or(Exit::NotOurs)?;
    let table = table(maps, head);
    let outside = Outside {
        backend: read.destination,
        backend_port: (read.ports >> 16) as u16,
        source: read.source,
        source_port: read.ports as u16,
        protocol: read.protocol,
        v6: read.v6,
    };
    if let Some((found, _, flow)) = outside.entry(maps, head, &table) {
        let label = flow.hash(&head.hash_key).flow_label();
        if !is_credible(packet, location, Some(label)) {
            return Err(Exit::NotOurs);
        }
        let crosses = flow.is_v6() != read.v6;
        let served = Translation::of(found.served);
        maps.concerns(served.service.into(), served.backend);
        if is_unreachable(packet, location) {
            maps.add_sign(served.backend, Sign::Unreachable);
        }
        return Ok(Translate { entry: found.number, back: true, starts: false, crosses, tells: false });
    }
    // A packet from a VIP to a client: its flow has the ends reversed.
    if !is_credible(packet, location, None) {
        return Err(Exit::NotOurs);
    }
    let flow = read.reversed();
    let found = table.find(&flow, flow.hash(&head.hash_key)).ok_or(Exit::NotOurs)?;
    let served = Translation::of(found.served);
    maps.concerns(served.service.into(), served.backend);
    let backend = maps.backend(served.backend).ok_or(Exit::BadTables)?;
    let crosses = (backend.family == Family::V6 as u8) != read.v6;
    Ok(Translate { entry: found.number, back: false, starts: false, crosses, tells: false })
}

/// Whether the error that quotes the packet at `location` can come from a router or host that has received the packet.
/// `label` is that of a packet to the backend, which nobody else knows; packets to clients have none.
#[inline(always)]
fn is_credible<P: Packet>(packet: &P, location: FlowLocation, label: Option<u32>) -> bool {
    if location.v6 { credible::<V6, P>(packet, location, label) } else { credible::<V4, P>(packet, location, label) }
        .is_some()
}

/// Whether the error reports the quoted packet's destination as unreachable, and not the packet as too long.
#[inline(always)]
fn is_unreachable<P: Packet>(packet: &P, location: FlowLocation) -> bool {
    let place = packet.merge_paths(location.l3.wrapping_sub(Icmpv4Hdr::LEN), 0xff);
    let Some([kind, code]) = packet.load(place) else { return false };
    let too_big = V4::message(Message::TooBig);
    if location.v6 {
        kind == V6::message(Message::PortUnreachable)[0]
    } else {
        kind == too_big[0] && code != too_big[1]
    }
}

#[inline(always)]
fn credible<F: Icmp, P: Packet>(packet: &P, location: FlowLocation, label: Option<u32>) -> Option<()> {
    let message: [u8; Icmpv4Hdr::LEN] =
        packet.load(packet.merge_paths(location.l3.wrapping_sub(Icmpv4Hdr::LEN), 0xff))?;
    let header: &F::Header = packet.view(location.l3)?;
    // A packet that routers may fragment is never too long for them, and has no label.
    let is_too_big = [message[0], message[1]] == F::message(Message::TooBig);
    let has_no_label = !F::dont_fragment(header) && !is_too_big;
    let has_label = label.is_none_or(|label| has_no_label || F::is_labelled(header, label));
    let is_longer = F::path_mtu(message).is_none_or(|mtu| F::length(header) > usize::from(mtu));
    (has_label && is_longer).then_some(())
}

/// Rewrites the packet that the error at `location` quotes to the packet that the error's receiver has sent; the error
/// itself is yet to be sent.
#[inline(always)]
pub fn requote<P: Places, M: Maps>(packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
    let requoted = if location.v6 {
        of::<V6, P, M>(packet, maps, location, how)
    } else {
        of::<V4, P, M>(packet, maps, location, how)
    };
    requoted.map_or_else(StepResult::from, |()| how.into())
}

#[inline(always)]
fn of<F: Translated + Icmp, P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    location: FlowLocation,
    Translate { entry, back, .. }: Translate,
) -> Result<(), Exit> {
    let head = maps.nat_head().ok_or(Exit::BadTables)?;
    let (found, _, flow) = table(maps, head).at(entry).ok_or(Exit::NatRaced)?;
    let served = Translation::of(found.served);
    let backend = maps.backend(served.backend).ok_or(Exit::BadTables)?;
    let v6 = backend.family == Family::V6 as u8;
    let (own, peer) = (words_of(source(head, served.source).address, v6), words_of(backend.address, v6));
    let port = port_of(head, found.number).to_be();
    let outside = Ends { source: own, destination: peer, ports: u32::from(port) | u32::from(served.port) << 16 };
    let inside = Ends { source: flow.client, destination: flow.vip, ports: flow.ports() };
    // The quoted packet went to the backend, or to the client with the ends reversed.
    let (was, now) = if back { (outside, inside) } else { (inside.reversed(), outside.reversed()) };
    let l3 = Link::parse(packet).ok_or(Exit::Malformed)?.l3;
    let header: &F::Header = packet.view(l3).ok_or(Exit::Malformed)?;
    if F::ttl(header) <= 1 {
        return Err(Exit::TtlExceededSilent);
    }
    let from = F::words(F::source(header));
    let Payload::Transport(at) = F::payload(packet, l3, header) else { return Err(Exit::Malformed) };
    let icmp = packet.merge_paths(at.offset, OFFSETS);
    let quoted = Transport { protocol: location.protocol, offset: packet.merge_paths(location.l4, OFFSETS) };
    let mut change = quote::<F, P>(packet, location.l3, quoted, was, now).ok_or(Exit::Malformed)?;
    // The checksum of ICMPv6 covers the addresses of its packet. In IPv4, the checksum of the quoted header makes up
    // for the change of its addresses.
    if location.v6 {
        let sender = sender(back, from, was.destination, now.destination, own);
        let outer = address_change(address_change(Sum(0), from, sender), was.source, now.source);
        change = change.and(outer).and(now.address_change(&was));
    }
    if location.v6 {
        change = change.and(raise_mtu::<F, P>(packet, icmp).ok_or(Exit::Malformed)?);
    }
    let check: [u8; 2] = packet.load(after(icmp, CHECKSUM)).ok_or(Exit::Malformed)?;
    packet.store(after(icmp, CHECKSUM), change.after(check)).ok_or(Exit::Malformed)
}

/// Raises the MTU that an error of IPv6 reports to the minimum of IPv6, below which no sender need go (RFC 8201, section
/// 4). Returns the change of the sum of the message's words.
#[inline(always)]
fn raise_mtu<F: Icmp, P: Packet>(packet: &mut P, icmp: usize) -> Option<Sum> {
    let message: [u8; Icmpv4Hdr::LEN] = packet.load(icmp)?;
    let [.., a, b, c, d] = message;
    let (reported, at_least) = (u32::from_be_bytes([a, b, c, d]), u32::from(F::path_mtu(message).unwrap_or_default()));
    if reported >= at_least {
        return Some(Sum(0));
    }
    packet.store(after(icmp, MTU), at_least.to_be_bytes())?;
    Some(Sum(0).without(u32::from_ne_bytes([a, b, c, d])).with(at_least.to_be()))
}

/// The new source of an error that came from `from`. An error to a client comes from `other`, the VIP, if its source is
/// the flow's `peer` itself, and else keeps its source. Each error to a backend comes from the source address `own`.
#[inline(always)]
pub(super) const fn sender(back: bool, from: [u64; 2], peer: [u64; 2], other: [u64; 2], own: [u64; 2]) -> [u64; 2] {
    match (back, from[0] == peer[0] && from[1] == peer[1]) {
        (true, true) => other,
        (true, false) => from,
        (false, _) => own,
    }
}

/// Replaces the ends of the quoted packet. Returns the change of the sum of its words, without the network header.
#[inline(always)]
fn quote<F: Translated, P: Packet>(packet: &mut P, l3: usize, at: Transport, was: Ends, now: Ends) -> Option<Sum> {
    let header: &mut F::Header = packet.view_mut(l3)?;
    F::set_addresses(header, now.source, now.destination, now.address_change(&was));
    quoted_ends(packet, at, was, now)
}

/// Replaces the ports of the quoted transport header. Returns the change of the sum of its words.
#[inline(always)]
pub(super) fn quoted_ends<P: Packet>(packet: &mut P, at: Transport, was: Ends, now: Ends) -> Option<Sum> {
    let ports = Sum(0).without(was.ports.to_le()).with(now.ports.to_le());
    // Some routers quote only the ports, and TCP's checksum is farther behind.
    let has_checksum = at.protocol == protocol::UDP && packet.load::<8>(at.offset).is_some();
    if !has_checksum {
        packet.store(at.offset, now.ports.to_le_bytes())?;
        return Some(ports);
    }
    let place = after(at.offset, 6);
    let before: [u8; 2] = packet.load(place)?;
    transport(packet, at, now.ports, now.change(&was))?;
    let after: [u8; 2] = packet.load(place)?;
    Some(ports.word([!before[0], !before[1]]).word(after))
}
