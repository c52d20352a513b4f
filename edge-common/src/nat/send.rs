//! Translates and sends a packet whose flow's entry was found.

use super::{
    hop::{self, Back},
    quote::sender,
    rewrite::{Ends, Translated, transport},
    table::{Translation, port_of, source, table},
};
use crate::{
    abi::{Exit, Family, Mode},
    flow_table::words_of,
    forward::{self, HopLook, NextHop},
    maps::Maps,
    step::{Decision, FlowLocation, FlowRelation, StepResult, Translate},
    wire::{
        checksum::Sum,
        ethernet::Addresses,
        ip::{self, Transport},
        ipv4::V4,
        ipv6::V6,
        link::{Link, make_room},
        packet::Places,
    },
};

/// Translates the packet at `location` and sends it. Its flow was touched just before, so its entry was not claimed by
/// another flow since.
#[inline(always)]
pub fn send<P: Places, M: Maps>(packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
    let sent = if location.v6 {
        of::<V6, P, M>(packet, maps, location, how)
    } else {
        of::<V4, P, M>(packet, maps, location, how)
    };
    match sent {
        Ok(decided) | Err(decided) => decided.into(),
    }
}

#[inline(always)]
fn of<F: Translated, P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    location: FlowLocation,
    Translate { entry, back, starts, .. }: Translate,
) -> Result<Decision, Decision> {
    let head = maps.nat_head().ok_or(Exit::BadTables)?;
    let (found, _, flow) = table(maps, head).at(entry).ok_or(Exit::NatRaced)?;
    let served = Translation::of(found.served);
    let backend = maps.backend(served.backend).ok_or(Exit::BadTables)?;
    let link = Link::parse(packet).ok_or(Exit::Malformed)?;
    // In an error, only the quoted packet has ports.
    let is_error = matches!(location.relation, FlowRelation::IcmpQuote);
    let at = Transport { protocol: location.protocol, offset: if is_error { 0 } else { location.l4 } };
    let ports = match at.offset {
        0 => 0,
        offset => u32::from_le_bytes(packet.load(offset).ok_or(Exit::Malformed)?),
    };
    let header: &F::Header = packet.view(link.l3).ok_or(Exit::Malformed)?;
    let (length, ttl) = (F::length(header), F::ttl(header));
    // The TTL of a later fragment and of an error was not checked before.
    if at.offset == 0 && ttl <= 1 {
        return Err(Exit::TtlExceededSilent.into());
    }
    let was = Ends { source: F::words(F::source(header)), destination: F::words(F::destination(header)), ports };
    let v6 = backend.family == Family::V6 as u8;
    let (own, peer) = (words_of(source(head, served.source).address, v6), words_of(backend.address, v6));
    let look = HopLook::at(backend);
    let (now, vlan) = if back {
        let from = if is_error { sender(true, was.source, peer, flow.vip, own) } else { flow.vip };
        if !is_error {
            is_its(&was, peer, own)?;
        }
        let ports = flow.ports().rotate_left(16);
        let Back { egress, mtu, vlan, .. } = hop::back(maps, served.hop).ok_or(Exit::NoNextHop)?;
        if mtu != 0 && length > mtu as usize && egress != packet.ingress() {
            fits_link::<F>(length, F::dont_fragment(header), maps.mtu(egress))?;
        }
        (Ends { source: from, destination: flow.client, ports }, vlan)
    } else {
        if !is_error {
            is_its(&was, flow.client, flow.vip)?;
        }
        let dont_fragment = F::dont_fragment(header);
        forward::fits::<F>(length, packet.ingress(), Mode::Nat, 0, backend, || dont_fragment).map_err(|decided| {
            if decided.exit() == Exit::TooBig { too_big(decided.detail(), dont_fragment) } else { decided }
        })?;
        let ports = u32::from(port_of(head, entry).to_be()) | u32::from(served.port) << 16;
        (Ends { source: own, destination: peer, ports }, look.vlan)
    };
    let label = if back { None } else { Some(flow.hash(&head.hash_key).flow_label()) };
    let addresses = translate::<F, P>(packet, link, at, was, now, label, vlan)?;
    if back {
        let next_hop = hop::again(maps, served.hop, vlan)?;
        return Ok(by(packet, addresses, next_hop, [Exit::NatReplyTx, Exit::NatReplyRedirect]));
    }
    let view = maps.view_of(location.bank).ok_or(Exit::BadTables)?;
    let next_hop = forward::next_hop(maps, view, Mode::Nat, look)?;
    if !is_error {
        maps.count_forwarded(served.service.into(), served.backend, length as u64, starts);
    }
    Ok(by(packet, addresses, next_hop, [Exit::NatTx, Exit::NatRedirect]))
}

/// The decision about a packet that does not fit, whose sender is to receive the MTU `fits`. No program can fragment a
/// packet, so a sender that permits it receives the MTU as well.
#[inline(always)]
const fn too_big(fits: u32, dont_fragment: bool) -> Decision {
    Decision::new(if dont_fragment { Exit::TooBig } else { Exit::NatTooBig }, fits)
}

/// Like [`too_big`], for a packet of `length` bytes: no sender receives an MTU below the minimum of its IP version, nor one
/// that its packet fits.
#[inline(always)]
pub(super) fn too_long<F: ip::Family>(length: usize, fits: usize, dont_fragment: bool) -> Decision {
    let fits = fits.max(F::LEAST_MTU);
    if length <= fits { Exit::TooBigSilent.into() } else { too_big(fits as u32, dont_fragment) }
}

/// Whether a packet to a client fits the MTU of the interface that it leaves by; 0 if unknown.
#[inline(always)]
fn fits_link<F: Translated>(length: usize, dont_fragment: bool, mtu: u32) -> Result<(), Decision> {
    let mtu = mtu as usize;
    if mtu == 0 || length <= mtu { Ok(()) } else { Err(too_long::<F>(length, mtu, dont_fragment)) }
}

/// Whether a packet has these ends: when a later fragment arrives, the entry may belong to another flow.
#[inline(always)]
pub(super) fn is_its(was: &Ends, [a, b]: [u64; 2], [c, d]: [u64; 2]) -> Result<(), Exit> {
    let is = was.source[0] == a && was.source[1] == b && was.destination[0] == c && was.destination[1] == d;
    if is { Ok(()) } else { Err(Exit::NatRaced) }
}

/// Replaces the packet's ends, writes a `label`, lowers its TTL and writes a new link layer; returns the place of the
/// frame's addresses. A later fragment has no transport header.
#[inline(always)]
fn translate<F: Translated, P: Places>(
    packet: &mut P,
    link: Link,
    at: Transport,
    was: Ends,
    now: Ends,
    label: Option<u32>,
    vlan: u16,
) -> Result<P::Place<Addresses>, Decision> {
    if at.offset != 0 {
        transport(packet, at, now.ports, now.change(&was)).ok_or(Exit::Malformed)?;
    }
    let header: &mut F::Header = packet.view_mut(link.l3).ok_or(Exit::Malformed)?;
    let labelled = label.map_or(Sum(0), |label| F::set_label(header, label));
    F::set_addresses(header, now.source, now.destination, now.address_change(&was).and(labelled));
    F::decrement_ttl(header);
    Ok(make_room(packet, link, vlan, F::ETHER_TYPE, || []).ok_or(Exit::NoRoom)?)
}

/// Sends a frame with one of two exits: by its ingress interface, or by another one.
#[inline(always)]
pub(super) fn by<P: Places>(
    packet: &mut P,
    addresses: P::Place<Addresses>,
    NextHop { egress, mac, source_mac }: NextHop,
    [by_ingress, by_other]: [Exit; 2],
) -> Decision {
    packet.at_mut(addresses).set(mac, source_mac);
    Decision::new(if egress == packet.ingress() { by_ingress } else { by_other }, egress)
}
