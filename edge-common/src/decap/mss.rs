//! The maximum segment size that a backend tells its clients: in SYN-ACKs from a VIP it is lowered to what fits the tunnel.
//!
//! A client's segments reach the backend in a tunnel, where they are longer by an outer header. A client that hears no ICMP
//! never learns that; but it never sends more than the backend's SYN-ACK allows (RFC 9293, section 3.7.1), and that does not
//! pass the edge. What the client allows the backend is left as it is: answers go without a tunnel.

use network_types::tcp::TcpHdr;

use super::{Words, address::Address};
use crate::{
    abi::{MssExit, MssLimits},
    wire::{
        ethernet,
        ip::{Payload, Transport},
        ipv4::V4,
        ipv6::V6,
        link::Link,
        packet::{Packet, after},
        protocol,
        tcp::{FLAGS, flags},
    },
};

/// Offset of the checksum in a TCP header.
const CHECKSUM: usize = 16;
/// Offset of the data offset.
const DATA_OFFSET: usize = 12;
/// Bytes of options at most.
const MAX_OPTIONS: usize = 40;
/// Kinds of options (RFC 9293, section 3.1), and the length of the one that is looked for.
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
const MSS_LENGTH: u8 = 4;
/// Bits of the offset of a TCP header, behind all that is looked through.
const OFFSETS: usize = 0x3fff;
/// Bits of an offset behind an option: the longest starts in the last byte of the longest options.
const OPTIONS: usize = 0x1ff;

/// A packet that leaves by an interface.
pub trait Leaving: Packet {
    /// Brings the TCP checksum at offset `at` in line with a change of two bytes, which are a word of the sum. It may be only begun,
    /// for the driver to end: then it is right as it is.
    fn update_checksum(&mut self, at: usize, was: [u8; 2], now: [u8; 2]) -> Option<()>;
}

/// What the program is told, and what it counts.
pub trait Answers {
    fn is_vip(&self, address: Words) -> bool;
    fn limits(&self) -> MssLimits;
    fn count_mss(&self, exit: MssExit);
}

/// Lowers the maximum segment size in a SYN-ACK from a VIP. `None` for any other packet, which nothing is counted of.
#[inline(always)]
pub fn lower<P: Leaving, A: Answers>(packet: &mut P, answers: &A) -> Option<MssExit> {
    let link = Link::parse(packet)?;
    let exit = match link.ether_type {
        ethernet::IPV4 => of_family::<V4, P, A>(packet, answers, link, answers.limits().v4)?,
        ethernet::IPV6 => of_family::<V6, P, A>(packet, answers, link, answers.limits().v6)?,
        _ => return None,
    };
    answers.count_mss(exit);
    Some(exit)
}

#[inline(always)]
fn of_family<F: Address, P: Leaving, A: Answers>(
    packet: &mut P,
    answers: &A,
    link: Link,
    limit: u32,
) -> Option<MssExit> {
    let header: &F::Header = packet.view(link.l3)?;
    let Payload::Transport(Transport { protocol: protocol::TCP, offset }) = F::payload(packet, link.l3, header) else {
        return None;
    };
    let tcp = packet.merge_paths(offset, OFFSETS);
    let [is] = packet.load(after(tcp, FLAGS))?;
    if is & (flags::SYN | flags::ACK | flags::RST) != flags::SYN | flags::ACK
        || !answers.is_vip(F::words(F::source(header)))
    {
        return None;
    }
    let Some(at) = find(packet, tcp) else { return Some(MssExit::NoMss) };
    // It stands behind an even number of bytes of the header or an odd one: then its bytes are of two words of the sum.
    let is_odd = at & 1 != 0;
    let at = after(after(tcp, TcpHdr::LEN), at);
    let was: [u8; 2] = packet.load(at)?;
    let Ok(limit) = u16::try_from(limit) else { return Some(MssExit::MssFits) };
    if u16::from_be_bytes(was) <= limit {
        return Some(MssExit::MssFits);
    }
    let now = limit.to_be_bytes();
    packet.store(at, now)?;
    let word = |[high, low]: [u8; 2]| if is_odd { [low, high] } else { [high, low] };
    packet.update_checksum(after(tcp, CHECKSUM), word(was), word(now))?;
    Some(MssExit::MssLowered)
}

/// Where the maximum segment size stands behind the TCP header at `tcp`, counted from where its options start.
#[inline(always)]
fn find<P: Packet>(packet: &P, tcp: usize) -> Option<usize> {
    let [words] = packet.load(after(tcp, DATA_OFFSET))?;
    let length = usize::from(words >> 4) * 4;
    let options = length.checked_sub(TcpHdr::LEN)?;
    let start = after(tcp, TcpHdr::LEN);
    let mut at = 0;
    for _ in 0..MAX_OPTIONS {
        // The end of the options is the end of a header, so an option that lies within them can be read whole.
        if at >= options {
            return None;
        }
        let [kind] = packet.load(after(start, at))?;
        if kind == END {
            return None;
        }
        let mut long = 1;
        if kind != NO_OPERATION {
            let [length] = packet.load(after(start, after(at, 1)))?;
            if kind == MSS {
                let fits = length == MSS_LENGTH && after(at, usize::from(MSS_LENGTH)) <= options;
                return if fits { Some(after(at, 2)) } else { None };
            }
            if length < 2 {
                return None;
            }
            long = usize::from(length);
        }
        at = packet.merge_paths(after(at, long), OPTIONS);
    }
    None
}
