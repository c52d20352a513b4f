//! Tunnel packets in UDP: both variants of GUE, without options.
//!
//! The whole datagram is checked before any part of it is used. A datagram without a checksum is accepted, over IPv6 as
//! well (RFC 6935): edges send it like that. A wrong checksum means that something on the path is broken.

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

/// Length in bytes of the longest datagram whose checksum is computed.
const MAX_SUMMED: usize = 2_044;

/// Destination port of the UDP packet at `offset`, in the byte order of the header.
#[inline(always)]
pub(super) fn destination<P: Packet>(packet: &P, offset: usize) -> Option<[u8; 2]> {
    packet.load(after(packet.merge_paths(offset, LONGEST), 2))
}

/// Protocol and offset of the packet inside the datagram at `offset` behind `header`, where the outer packet ends at `end`.
///
/// # Errors
/// The exit of a datagram that is not accepted.
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
