//! The maximum segment size that a backend announces to its clients: in SYN-ACKs from a VIP it is lowered to what fits the
//! tunnel.
//!
//! A client's segments reach the backend in a tunnel, where an outer header makes them longer. A client that receives no
//! ICMP never learns that; but it never sends more than the backend's SYN-ACK allows (RFC 9293, section 3.7.1), and the
//! SYN-ACK does not pass the edge. The client's own maximum segment size is left as it is: answers use no tunnel.

use super::{Words, address::Address};
use crate::{
    abi::{MssExit, MssLimits},
    wire::{
        ethernet,
        ip::{Payload, Transport},
        ipv4::V4,
        ipv6::V6,
        link::Link,
        packet::{OFFSETS, Packet, after},
        protocol,
        tcp::{FLAGS, MSS, MSS_LENGTH, find_option, flags},
    },
};

/// Offset of the checksum in a TCP header.
const CHECKSUM: usize = 16;

/// A packet that leaves by an interface.
pub trait Egress: Packet {
    /// Updates the TCP checksum at offset `at` after a change of two bytes, which are a word of the sum. If the checksum is
    /// only started and the driver is to complete it, it is right as it is.
    fn update_checksum(&mut self, at: usize, was: [u8; 2], now: [u8; 2]) -> Option<()>;
}

/// The settings of the program, and its counters.
pub trait Answers {
    fn is_vip(&self, address: Words) -> bool;
    fn limits(&self) -> MssLimits;
    fn count_mss(&self, exit: MssExit);
}

/// Lowers the maximum segment size in a SYN-ACK from a VIP. `None` for any other packet, which is not counted.
#[inline(always)]
pub fn lower<P: Egress, A: Answers>(packet: &mut P, answers: &A) -> Option<MssExit> {
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
fn of_family<F: Address, P: Egress, A: Answers>(
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
    let Some(at) = find_option(packet, tcp, MSS, MSS_LENGTH) else { return Some(MssExit::NoMss) };
    // At an odd offset in the header, the two bytes of the option belong to two words of the sum.
    let is_odd = at & 1 != 0;
    let at = after(tcp, at);
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
