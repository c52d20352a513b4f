//! Tunnel packets in UDP: both variants of GUE, plain ones alone.
//!
//! The whole datagram is checked before anything of it is believed. Without a checksum it is taken, over IPv6 too (RFC 6935): so
//! edges send it. A wrong one means that something on the way is broken.

use network_types::udp::UdpHdr;

use super::{LONGEST, address::Address};
use crate::{
    abi::DecapExit,
    wire::{
        gue::{self, Refused},
        packet::{Packet, after},
        protocol,
    },
};

/// Bytes of the longest datagram whose checksum is computed.
const MAX_SUMMED: usize = 2_044;

/// Destination port of the UDP packet at `offset`, as it stands there.
#[inline(always)]
pub(super) fn destination<P: Packet>(packet: &P, offset: usize) -> Option<[u8; 2]> {
    packet.load(after(packet.merge_paths(offset, LONGEST), 2))
}

/// The protocol and the place of the packet in the datagram at `offset` behind `header`, where the outer packet ends at `end`.
///
/// # Errors
/// The exit of a datagram that is not taken.
#[inline(always)]
pub(super) fn open<F: Address, P: Packet>(
    packet: &P,
    header: &F::Header,
    offset: usize,
    end: usize,
) -> Result<(u8, usize), DecapExit> {
    let offset = packet.merge_paths(offset, LONGEST);
    let [high, low, check @ ..]: [u8; 4] = packet.load(after(offset, 4)).ok_or(DecapExit::GueHeader)?;
    let length = u16::from_be_bytes([high, low]);
    if after(offset, length.into()) != end {
        return Err(DecapExit::GueHeader);
    }
    if check != [0; 2] {
        if usize::from(length) > MAX_SUMMED {
            return Err(DecapExit::GueChecksum);
        }
        let sum = F::pseudo_header(header, protocol::UDP, length);
        let sum = sum.packet(packet, offset, length.into()).ok_or(DecapExit::GueHeader)?;
        if sum.finish() != [0; 2] {
            return Err(DecapExit::GueChecksum);
        }
    }
    let behind = after(offset, UdpHdr::LEN);
    let first = packet.load(behind).ok_or(DecapExit::GueHeader)?;
    match gue::parse(first) {
        Ok((protocol, header)) if after(behind, header) < end => Ok((protocol, after(behind, header))),
        Ok(_) | Err(Refused::Header) => Err(DecapExit::GueHeader),
        Err(Refused::Control) => Err(DecapExit::GueControl),
        Err(Refused::Protocol) => Err(DecapExit::GueProtocol),
    }
}
