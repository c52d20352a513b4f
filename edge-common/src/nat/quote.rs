//! ICMP errors about translated packets: they go to whom the packet came from, and quote what that has sent.

use super::{
    read::Read,
    rewrite::{Ends, Translated, address_change, transport},
    table::{Outside, Translation, port_of, source, table},
};
use crate::{
    abi::{Exit, Family},
    flow_table::words_of,
    maps::Maps,
    step::{FlowLocation, StepResult, Translate},
    wire::{
        checksum::Sum,
        icmp::Icmp,
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

/// Finds the entry of the flow that the packet quoted at `location` is one of, from whichever side; [`Exit::NotOurs`] if there is
/// none. The error goes to that side.
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
        let crosses = flow.is_v6() != read.v6;
        return Ok(Translate { entry: found.number, back: true, starts: false, crosses });
    }
    // To a client, from a VIP: its flow the other way round.
    let flow = read.reversed();
    let found = table.find(&flow, flow.hash(&head.hash_key)).ok_or(Exit::NotOurs)?;
    let backend = maps.backend(found.served.backend).ok_or(Exit::BadTables)?;
    let crosses = (backend.family == Family::V6 as u8) != read.v6;
    Ok(Translate { entry: found.number, back: false, starts: false, crosses })
}

/// Lets the error at `location` quote what the side has sent that it goes to; the packet itself is yet to be sent there.
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
    // The packet that is quoted went one of the two ways, or the other way round.
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
    // ICMPv6 counts the addresses of its packet, and an IPv4 header that is quoted has a checksum which makes up for its own.
    if location.v6 {
        let sender = sender(back, from, was.destination, now.destination, own);
        let outer = address_change(address_change(Sum(0), from, sender), was.source, now.source);
        change = change.and(outer).and(now.address_change(&was));
    }
    let check: [u8; 2] = packet.load(after(icmp, CHECKSUM)).ok_or(Exit::Malformed)?;
    packet.store(after(icmp, CHECKSUM), change.after(check)).ok_or(Exit::Malformed)
}

/// Who an error comes from that came from `from`, which may be `peer` itself, that `other` stands for: to a backend everything comes
/// from the source, and to a client what its peer says comes from the VIP.
#[inline(always)]
pub(super) const fn sender(back: bool, from: [u64; 2], peer: [u64; 2], other: [u64; 2], own: [u64; 2]) -> [u64; 2] {
    match (back, from[0] == peer[0] && from[1] == peer[1]) {
        (true, true) => other,
        (true, false) => from,
        (false, _) => own,
    }
}

/// Gives the quoted packet its other ends. Returns by what the sum of its words changes, but for the network header's.
#[inline(always)]
fn quote<F: Translated, P: Packet>(packet: &mut P, l3: usize, at: Transport, was: Ends, now: Ends) -> Option<Sum> {
    let header: &mut F::Header = packet.view_mut(l3)?;
    F::set_addresses(header, now.source, now.destination, now.address_change(&was));
    quoted_ends(packet, at, was, now)
}

/// Gives the quoted transport header its other ports. Returns by what the sum of its words changes.
#[inline(always)]
pub(super) fn quoted_ends<P: Packet>(packet: &mut P, at: Transport, was: Ends, now: Ends) -> Option<Sum> {
    let ports = Sum(0).without(was.ports.to_le()).with(now.ports.to_le());
    // Some routers quote the ports and no more, and TCP's checksum stands farther behind.
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
