//! The option of TCP by which a load balancer tells a server the address of its client ("TCP option address", TOA).
//!
//! ```text
//! 254 | length | client's port | client's address        length 8 for IPv4, 20 for IPv6
//! ```
//!
//! The kind is one for experiments (RFC 4727), and the layout that of the kernel modules for LVS and DPVS. They read the
//! options of the segment by which the socket comes into being.

use network_types::tcp::TcpHdr;

use super::{
    checksum::Sum,
    packet::{Packet, after},
    tcp::{END, MAX_OPTIONS, NO_OPERATION, TcpStart},
};

const KIND: u8 = 254;
/// Maximum length of a TCP header in bytes.
const MAX_HEADER: usize = 60;
/// Bits that the end of an option can have, counted from the start of the options.
const ENDS: usize = 0x1ff;

/// A client's address and port, as they stand in its packets.
#[derive(Clone, Copy)]
pub struct Client {
    /// An IPv4 address is in the first four bytes in memory.
    pub address: [u64; 2],
    /// The first two bytes in memory are the port.
    pub ports: u32,
    pub v6: bool,
}

impl Client {
    /// Bytes of the option.
    #[inline(always)]
    pub const fn length(&self) -> usize {
        if self.v6 { 20 } else { 8 }
    }

    /// Whether the option fits the header of the segment at offset `tcp`.
    #[inline(always)]
    pub fn fits<P: Packet>(&self, packet: &P, tcp: usize) -> bool {
        packet.view(tcp).is_some_and(|start: &TcpStart| after(start.header_length(), self.length()) <= MAX_HEADER)
    }

    /// Writes the option behind the fixed header of the segment at offset `tcp`, where there is room for it, and makes
    /// the header longer. Returns the change of the checksum, which covers the segment's length as well.
    #[inline(always)]
    pub fn write<P: Packet>(&self, packet: &mut P, tcp: usize) -> Option<Sum> {
        let length = self.length() as u8;
        let at = after(tcp, TcpHdr::LEN);
        let [low, high, ..] = self.ports.to_ne_bytes();
        let head = [KIND, length, low, high];
        packet.store(at, head)?;
        let [first, second] = self.address.map(u64::to_ne_bytes);
        let sum = Sum(0).words(head).word([0, length]);
        let sum = if self.v6 {
            packet.store(after(at, 4), first)?;
            packet.store(after(at, 12), second)?;
            let halves = |sum: Sum, word: u64| sum.with(word as u32).with((word >> 32) as u32);
            halves(halves(sum, self.address[0]), self.address[1])
        } else {
            let [a, b, c, d, ..] = first;
            packet.store(after(at, 4), [a, b, c, d])?;
            sum.words([a, b, c, d])
        };
        let place = after(tcp, super::tcp::DATA_OFFSET);
        let [words] = packet.load(place)?;
        // The upper four bits of the byte count words of four bytes.
        let more = length << 2;
        packet.store(place, [words.wrapping_add(more)])?;
        Some(sum.word([more, 0]))
    }
}

/// Overwrites all such options in the segment at offset `tcp` by no-operations: a client could make up an address.
/// Returns the change of the checksum; `None` if the frame ends within the header.
#[inline(always)]
pub fn erase<P: Packet>(packet: &mut P, tcp: usize) -> Option<Sum> {
    let forged = find(packet, tcp)?;
    let mut change = Sum(0);
    if forged == 0 {
        return Some(change);
    }
    let start = after(tcp, TcpHdr::LEN);
    for at in (0..MAX_OPTIONS).step_by(4) {
        let bits = (forged >> at) as u32 & 0xf;
        if bits != 0 {
            // One bit for each byte becomes a byte of ones.
            let bytes = (bits.wrapping_mul(0x0020_4081) & 0x0101_0101).wrapping_mul(0xff);
            let was: [u8; 4] = packet.load(after(start, at))?;
            let word = u32::from_le_bytes(was);
            let now = (word & !bytes | const { u32::from_le_bytes([NO_OPERATION; 4]) } & bytes).to_le_bytes();
            packet.store(after(start, at), now)?;
            change = change.without(u32::from_ne_bytes(was)).words(now);
        }
        change = Sum(packet.merge_paths(change.0 as usize, usize::MAX) as u64);
    }
    Some(change)
}

/// The bytes of such options in the segment at offset `tcp`: one bit for each, from the start of the options.
#[inline(always)]
fn find<P: Packet>(packet: &P, tcp: usize) -> Option<u64> {
    let start: &TcpStart = packet.view(tcp)?;
    let options = start.header_length().checked_sub(TcpHdr::LEN)?;
    let all = (1_u64 << (options & 63)).wrapping_sub(1);
    let start = after(tcp, TcpHdr::LEN);
    let (mut at, mut found) = (0, 0_u64);
    for _ in 0..MAX_OPTIONS {
        if at >= options {
            break;
        }
        let [kind] = packet.load(after(start, at))?;
        if kind == END {
            break;
        }
        let mut long = 1;
        if kind != NO_OPERATION {
            // The last byte of the header has no length behind it, but the frame may.
            let [length] = packet.load(after(start, after(at, 1))).unwrap_or([0]);
            if length < 2 && after(at, 1) < options {
                break;
            }
            long = usize::from(length).max(1);
            if kind == KIND {
                let end = after(at, long).min(MAX_OPTIONS);
                found |= (1_u64 << (end & 63)).wrapping_sub(1) & !(1_u64 << (at & 63)).wrapping_sub(1);
            }
        }
        at = packet.merge_paths(after(at, long), ENDS);
        found = packet.merge_paths(found as usize, usize::MAX) as u64;
    }
    Some(found & all)
}
