//! TCP RST (RFC 9293, section 3.10.7.1: the answer of a closed port).

use network_types::tcp::TcpHdr;

use super::{Answer, Reply, received};
use crate::wire::{
    link::Link,
    packet::Packet,
    protocol,
    tcp::{FLAGS, flags},
};

/// Where a transport header stands at most, as a mask: behind the longest extension headers that are looked through. The
/// verifier wants to know.
const FARTHEST: usize = 0x3fff;

/// Turns the segment whose TCP header stands at `offset` into a RST to its sender.
#[inline(never)]
pub(super) fn reset<F: Reply, P: Packet>(packet: &mut P, offset: usize) -> Answer {
    let Some((link, header)) = received::<F, P>(packet) else { return Answer::Forbidden };
    let offset = offset & FARTHEST;
    let Some(tcp) = packet.view::<[u8; FLAGS + 1]>(offset) else { return Answer::Forbidden };
    let [p0, p1, p2, p3, s0, s1, s2, s3, a0, a1, a2, a3, data_offset, was] = *tcp;
    let (ports, sequence, acknowledged) = ([p0, p1, p2, p3], [s0, s1, s2, s3], [a0, a1, a2, a3]);
    if !Link::is_unicast(packet) || !F::answerable(header) || was & flags::RST != 0 {
        return Answer::Forbidden;
    }
    let (number, acknowledges, now) = if was & flags::ACK != 0 {
        (acknowledged, [0; 4], flags::RST)
    } else {
        // What the segment occupies of the sequence space: its data, and one each for SYN and FIN.
        let headers = offset - link.l3 + usize::from(data_offset >> 4) * 4;
        let data = F::length(header).wrapping_sub(headers) as u32;
        let flags_length = u32::from(was & flags::SYN != 0) + u32::from(was & flags::FIN != 0);
        let next = u32::from_be_bytes(sequence).wrapping_add(data).wrapping_add(flags_length);
        ([0; 4], next.to_be_bytes(), flags::RST | flags::ACK)
    };
    match write::<F, P>(packet, link, ports, number, acknowledges, now) {
        Some(()) => Answer::Made,
        None => Answer::NoRoom,
    }
}

#[inline(always)]
fn write<F: Reply, P: Packet>(
    packet: &mut P,
    link: Link,
    ports: [u8; 4],
    number: [u8; 4],
    acknowledges: [u8; 4],
    flags: u8,
) -> Option<()> {
    let length = TcpHdr::LEN as u16;
    let answer = F::answer(packet.view(link.l3)?, protocol::TCP, length);
    let check = F::pseudo_header(&answer, protocol::TCP, length)
        .words(ports)
        .words(number)
        .words(acknowledges)
        .word([5 << 4, flags])
        .finish();
    let at = link.l3 + F::HEADER;
    packet.truncate(at + TcpHdr::LEN)?;
    Link::turn(packet)?;
    packet.store(link.l3, answer)?;
    let [p0, p1, p2, p3] = ports;
    packet.store(at, [p2, p3, p0, p1])?;
    packet.store(at + 4, number)?;
    packet.store(at + 8, acknowledges)?;
    packet.store(at + 12, [5 << 4, flags, 0, 0, check[0], check[1], 0, 0])
}
