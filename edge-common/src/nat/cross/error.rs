//! ICMP errors about packets that cross: makes an error of the other IP version, which quotes the packet that its
//! receiver has sent.
//!
//! All bytes before the quoted ports are made anew, and the rest stays in place. So the new checksum is computed from
//! the one that the error arrived with: an error that was damaged on its way stays invalid.
//!
//! A router with only one IP version has no address of the other. So each error about a client's packet comes from the
//! VIP, and each error about a backend's packet from the source address of the translation.

use super::{
    super::{quote::quoted_ends, rewrite::Ends},
    header::{Carried, Crossed, Part},
    leave::{Sides, leave, merged, merged_flag, vlan},
    types::{Errors, Message, Quoted},
};
use crate::{
    abi::Exit,
    forward::HopLook,
    maps::Maps,
    step::{Decision, FlowLocation, StepResult, Translate},
    wire::{
        checksum::Sum,
        ip::Transport,
        ipv4::V4,
        ipv6::V6,
        link::{Link, make_room_up_to},
        packet::{OFFSETS, Packet, Places, Wire, after},
    },
};

/// Bytes of the longest header that is removed from a quotation.
const MAX_HEADER: usize = 64;
/// Bytes of an ICMP header.
const ICMP: usize = 8;

/// An error, up to the transport header that it quotes.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Error<H> {
    outer: H,
    message: [u32; 2],
    quoted: H,
}

// SAFETY: packed, of integers and fields that are `Wire` themselves.
unsafe impl<H: Wire> Wire for Error<H> {}

/// Writes the type that the other IP version has for the error at `location`, the ports that the error's receiver has
/// used, and the checksum that is right once [`cross_error`] has made all other headers anew.
#[inline(always)]
pub fn cross_quote<P: Places, M: Maps>(packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
    let quoted = if location.v6 {
        quote::<V6, V4, P, M>(packet, maps, location, how)
    } else {
        quote::<V4, V6, P, M>(packet, maps, location, how)
    };
    quoted.map_or_else(StepResult::from, |()| how.into())
}

/// Converts the error at `location` to the other IP version, and sends it to the sender of the packet that it quotes.
#[inline(always)]
pub fn cross_error<P: Places, M: Maps>(packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
    let crossed = if location.v6 {
        of::<V6, V4, P, M>(packet, maps, location, how)
    } else {
        of::<V4, V6, P, M>(packet, maps, location, how)
    };
    match crossed {
        Ok(decided) | Err(decided) => decided.into(),
    }
}

/// Offsets of the parts of an error, and its lengths.
#[derive(Clone, Copy)]
struct Layout {
    /// Offsets of the message, of the quoted network header, and of the transport header behind that header.
    icmp: usize,
    l3: usize,
    l4: usize,
    /// Bytes of the message, before and after the conversion.
    was: usize,
    now: usize,
}

impl Layout {
    /// The layout of the error at `location`, whose packet has `length` bytes.
    #[inline(always)]
    fn of<G: Crossed, P: Packet>(packet: &P, link: Link, location: FlowLocation, length: usize) -> Self {
        let l3 = packet.merge_paths(location.l3, 0xff);
        let l4 = packet.merge_paths(location.l4, OFFSETS);
        let icmp = packet.merge_paths(l3.wrapping_sub(ICMP), 0xff);
        // From the quoted transport header on, no byte moves.
        let rest = length.wrapping_sub(l4.wrapping_sub(link.l3));
        let (was, now) = (length.wrapping_sub(icmp.wrapping_sub(link.l3)), after(after(ICMP, G::MADE), rest & 0xffff));
        Self { icmp, l3, l4, was, now }
    }

    /// Bytes of the quoted network header, and of the headers between it and the transport header.
    #[inline(always)]
    const fn header(&self) -> usize {
        self.l4.wrapping_sub(self.l3)
    }
}

/// The quoted packet's header, as its sender has sent it.
#[inline(always)]
fn carried<F: Crossed>(quoted: &F::Header, layout: Layout, protocol: u8, now: &Ends) -> Carried {
    Carried {
        source: now.source,
        destination: now.destination,
        length: F::length(quoted).saturating_sub(layout.header()),
        tos: F::tos(quoted),
        ttl: F::ttl(quoted),
        protocol,
        part: Part { place: 0, identification: 0 },
        label: 0,
    }
}

#[inline(always)]
fn quote<F: Errors, G: Crossed, P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    location: FlowLocation,
    how: Translate,
) -> Result<(), Exit> {
    let head = maps.nat_head().ok_or(Exit::BadTables)?;
    let sides = Sides::of(maps, head, how, location.v6)?;
    // The quoted packet went in the opposite direction of the error.
    let (was, now) = sides.ends(packet, how.back);
    let (was, now) = (was.reversed(), now.reversed());
    let link = Link::parse(packet).ok_or(Exit::Malformed)?;
    let header: &F::Header = packet.view(link.l3).ok_or(Exit::Malformed)?;
    let length = F::length(header);
    let layout = Layout::of::<G, P>(packet, link, location, length);
    // The checksum of ICMPv6 covers the addresses of its packet.
    let came = F::pseudo(F::words(F::source(header)), F::words(F::destination(header)), layout.was);
    let quoted: &F::Header = packet.view(layout.l3).ok_or(Exit::Malformed)?;
    let about = Quoted { length: F::length(quoted), header: layout.header() };
    let given = G::sum(&G::made(&carried::<F>(quoted, layout, location.protocol, &now)));
    // The error has the ends of the quoted packet, reversed.
    let given = G::pseudo(now.destination, now.source, layout.now).and(given);
    if about.header > MAX_HEADER || after(G::MADE, layout.now) > G::LONGEST_ERROR {
        return Err(Exit::NatNoError);
    }
    let taken = Sum(0).packet(packet, layout.l3, about.header).ok_or(Exit::Malformed)?.and(came);
    let message: Message = packet.load(layout.icmp).ok_or(Exit::Malformed)?;
    let [type_, code, x, y, a, b, c, d] = message;
    let taken = taken.word([type_, code]).words([a, b, c, d]);
    let other = F::other(message, about).ok_or(Exit::NatNoError)?;
    // Merged, since the verifier would check each of its few values separately.
    let [type_, code, _, _, a, b, c, d] = merged(packet, u64::from_ne_bytes(other)).to_ne_bytes();
    let given = given.word([type_, code]).words([a, b, c, d]);
    // The complement of the removed sum, plus the added sum.
    let change = given.word(taken.finish());
    let at = Transport { protocol: location.protocol, offset: layout.l4 };
    let change = quoted_ends(packet, at, was, now).ok_or(Exit::Malformed)?.and(change);
    let [x, y] = change.after([x, y]);
    packet.store(layout.icmp, [type_, code, x, y, a, b, c, d]).ok_or(Exit::Malformed)
}

#[inline(always)]
fn of<F: Errors, G: Crossed, P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    location: FlowLocation,
    how: Translate,
) -> Result<Decision, Decision> {
    let back = how.back;
    let head = maps.nat_head().ok_or(Exit::BadTables)?;
    let sides = Sides::of(maps, head, how, location.v6)?;
    let (served, look) = (sides.served, HopLook::at(sides.backend));
    let vlan = packet.merge_paths(vlan(maps, served, look, back)?.into(), 0xfff) as u16;
    let (_, now) = sides.ends(packet, back);
    let (now, back) = (now.reversed(), merged_flag(packet, back));
    let link = Link::parse(packet).ok_or(Exit::Malformed)?;
    let header: &F::Header = packet.view(link.l3).ok_or(Exit::Malformed)?;
    let (tos, ttl) = (F::tos(header), F::ttl(header));
    if ttl <= 1 {
        return Err(Exit::TtlExceededSilent.into());
    }
    let layout = Layout::of::<G, P>(packet, link, location, F::length(header));
    let [a, b, c, d, e, f, g, h] = packet.load::<ICMP>(layout.icmp).ok_or(Exit::Malformed)?;
    let message = [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])];
    let quoted: &F::Header = packet.view(layout.l3).ok_or(Exit::Malformed)?;
    let quoted = carried::<F>(quoted, layout, location.protocol, &now);
    let outer = Carried {
        source: now.destination,
        destination: now.source,
        length: layout.now,
        tos,
        ttl: ttl.wrapping_sub(1),
        protocol: G::ICMP,
        // The checksum differs from error to error.
        part: Part { place: 0, identification: u16::from_ne_bytes([c, d]).into() },
        label: 0,
    };
    let (addresses, place) =
        make_room_up_to::<P, Error<G::Made>>(packet, link, layout.l4, vlan, G::ETHER_TYPE).ok_or(Exit::NoRoom)?;
    // Written one after the other, so that no copy is built on the stack.
    let error = packet.at_mut(place);
    error.outer = G::made(&outer);
    error.message = message;
    error.quoted = G::made(&quoted);
    leave(packet, maps, back, served, look, vlan, addresses)
}
