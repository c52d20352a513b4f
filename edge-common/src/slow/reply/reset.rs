//! TCP RST (RFC 9293, section 3.10.7.1: the answer of a closed port).

use network_types::tcp::TcpHdr;

use super::{Reply, received};
use crate::wire::{
    link::Link,
    packet::{OFFSETS, Packet, after},
    protocol,
    tcp::{self, FLAGS, flags},
};

/// Turns the segment whose TCP header is at `offset` into a RST to its sender; false if that fails.
#[inline(never)]
pub(super) fn reset<F: Reply, P: Packet>(packet: &mut P, offset: usize) -> bool {
    let Some((link, header)) = received::<F, P>(packet) else { return false };
    let offset = offset & OFFSETS;
    let Some(tcp) = packet.view::<[u8; FLAGS + 1]>(offset) else { return false };
    let [p0, p1, p2, p3, s0, s1, s2, s3, a0, a1, a2, a3, data_offset, was] = *tcp;
    let (ports, sequence, acknowledged) = ([p0, p1, p2, p3], [s0, s1, s2, s3], [a0, a1, a2, a3]);
    let (number, acknowledges, now) = if was & flags::ACK != 0 {
        (acknowledged, [0; 4], flags::RST)
    } else {
        // The segment's length in the sequence space: its data, and one each for SYN and FIN.
        let data_at = after(offset, usize::from(data_offset >> 4) * 4);
        let data = after(link.l3, F::length(header)).wrapping_sub(data_at) as u32;
        let [syn, fin] = [flags::SYN, flags::FIN].map(|flag| u32::from(was & flag != 0));
        let next = u32::from_be_bytes(sequence).wrapping_add(data).wrapping_add(syn).wrapping_add(fin);
        ([0; 4], next.to_be_bytes(), flags::RST | flags::ACK)
    };
    write::<F, P>(packet, link, ports, number, acknowledges, now).is_some()
}

#[inline(always)]
fn write<F: Reply, P: Packet>(
    packet: &mut P,
    link: Link,
    ports: [u8; 4],
    sequence: [u8; 4],
    acknowledged: [u8; 4],
    flags: u8,
) -> Option<()> {
    let length = TcpHdr::LEN as u16;
    let offset_and_flags = [5 << 4, flags];
    // The addresses of the segment, which are swapped in the answer: the sum is the same.
    let check = F::pseudo_header(packet.view(link.l3)?, protocol::TCP, length)
        .words(ports)
        .words(sequence)
        .words(acknowledged)
        .word(offset_and_flags)
        .finish();
    let at = after(link.l3, F::HEADER);
    packet.truncate(after(at, TcpHdr::LEN))?;
    let answer = F::answer(packet.view(link.l3)?, protocol::TCP, length);
    packet.store(link.l3, answer)?;
    let [p0, p1, p2, p3] = ports;
    let header = tcp::Header {
        ports: [p2, p3, p0, p1],
        sequence,
        acknowledged,
        offset_and_flags,
        window: [0; 2],
        check,
        urgent: [0; 2],
    };
    packet.store(at, header)
}
