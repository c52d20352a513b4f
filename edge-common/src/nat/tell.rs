//! Tells the backend the client's address, by an option in the client's packets ([`toa`]).
//!
//! A server reads the options of the packet by which its socket comes into being: of the SYN with TCP Fast Open, else of
//! the packet that completes the handshake, which may be a later one if the first one was lost. So all packets of the
//! client carry the option, from the SYN on, until a packet of the backend shows that its server has the connection. The
//! client's own options of this kind are erased in these packets, whether the option fits or not.

use super::table::{Translation, table};
use crate::{
    abi::{Exit, Family as Version, FlowCount},
    forward,
    maps::Maps,
    step::{FlowLocation, FlowRelation, StepResult, Translate},
    wire::{
        checksum::Sum,
        ip::Family,
        ipv4::V4,
        ipv6::V6,
        packet::{Packet, after},
        tcp::{self, TcpStart},
        toa,
    },
};

/// Offset of the checksum in a TCP header.
const TCP_CHECKSUM: usize = 16;
/// Bytes of an IPv4 header without options, and of an IPv6 header.
const HEADERS: [usize; 2] = [20, 40];
/// Longest headers before the options of a segment: two tags, IPv6, and TCP.
const LONGEST: usize = 22 + 40 + tcp::LEAST;

/// Puts the option into the client's packet at `location`, which is about to be translated.
#[inline(always)]
pub fn tell<P: Packet, M: Maps>(packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
    match told(packet, maps, location, how) {
        Ok(()) => Translate { tells: false, ..how }.into(),
        Err(exit) => exit.into(),
    }
}

#[inline(always)]
fn told<P: Packet, M: Maps>(packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> Result<(), Exit> {
    let head = maps.nat_head().ok_or(Exit::BadTables)?;
    let (found, _, flow) = table(maps, head).at(how.entry).ok_or(Exit::NatRaced)?;
    let served = Translation::of(found.served);
    let backend = maps.backend(served.backend).ok_or(Exit::BadTables)?;
    let erased = toa::erase(packet, location.l4).ok_or(Exit::Malformed)?;
    let client =
        toa::Client { address: flow.client, ports: flow.ports(), v6: packet.merge_paths(flow.is_v6().into(), 1) != 0 };
    let length = packet.merge_paths(length(packet, location).ok_or(Exit::Malformed)?, 0x1_ffff);
    let more = packet.merge_paths(client.length(), 31);
    let header = HEADERS[usize::from(location.v6)];
    let made = HEADERS[usize::from(backend.family == Version::V6 as u8)];
    let longest = after(length, more).wrapping_sub(header).wrapping_add(made);
    // Options and extension headers are rare, and so are fragments, whose offsets would change.
    let fits = matches!(location.relation, FlowRelation::Whole)
        && location.l4.wrapping_sub(location.l3) == header
        && client.fits(packet, location.l4)
        && u16::try_from(longest).is_ok()
        && !forward::exceeds(backend, longest, 0);
    let mut change = erased;
    if fits {
        lengthen(packet, location, more).ok_or(Exit::NoRoom)?;
        set_length(packet, location, after(length, more)).ok_or(Exit::Malformed)?;
        change = change.and(client.write(packet, location.l4).ok_or(Exit::Malformed)?);
    } else {
        maps.count_flow(served.service.into(), FlowCount::Untold);
    }
    let place = after(location.l4, TCP_CHECKSUM);
    let check = packet.load(place).ok_or(Exit::Malformed)?;
    packet.store(place, change.after(check)).ok_or(Exit::Malformed)
}

/// Whether the segment at `location` has data.
#[inline(always)]
pub(super) fn has_data<P: Packet>(packet: &P, location: FlowLocation) -> Option<bool> {
    let start: &TcpStart = packet.view(location.l4)?;
    let end = after(location.l3, length(packet, location)?);
    Some(end > after(location.l4, start.header_length()))
}

/// Bytes of the IP packet at `location`.
#[inline(always)]
fn length<P: Packet>(packet: &P, location: FlowLocation) -> Option<usize> {
    Some(if location.v6 { V6::length(packet.view(location.l3)?) } else { V4::length(packet.view(location.l3)?) })
}

/// Replaces the length in the IP header at `location`.
#[inline(always)]
fn set_length<P: Packet>(packet: &mut P, location: FlowLocation, length: usize) -> Option<()> {
    if location.v6 {
        let place = after(location.l3, 4);
        return packet.store(place, (length.wrapping_sub(HEADERS[1]) as u16).to_be_bytes());
    }
    let (place, check) = (after(location.l3, 2), after(location.l3, 10));
    let (was, now) = (packet.load(place)?, (length as u16).to_be_bytes());
    packet.store(place, now)?;
    let change = Sum(0).without(u16::from_ne_bytes(was).into()).with(u16::from_ne_bytes(now).into());
    let was = packet.load(check)?;
    packet.store(check, change.after(was))
}

/// Makes room for `more` bytes behind the fixed TCP header. All headers keep their offsets, since the frame grows at its
/// start.
#[inline(always)]
fn lengthen<P: Packet>(packet: &mut P, location: FlowLocation, more: usize) -> Option<()> {
    packet.grow_head(more as i32)?;
    let end = after(location.l4, tcp::LEAST);
    // All link layers are two bytes longer than a multiple of four, and all other headers are multiples of four.
    let start: [u8; 2] = packet.load(more)?;
    packet.store(0, start)?;
    for at in (2..LONGEST).step_by(4) {
        if at >= end {
            break;
        }
        let word: [u8; 4] = packet.load(after(at, more))?;
        packet.store(at, word)?;
    }
    Some(())
}
