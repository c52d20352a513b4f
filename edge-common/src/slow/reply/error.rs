//! ICMP and ICMPv6 errors (RFC 792, RFC 4443).

use network_types::icmp::Icmpv4Hdr;

use super::{Reply, received};
use crate::wire::{
    icmp::Message,
    link::Link,
    packet::{Packet, after},
};

/// Turns the frame into an ICMP error that quotes as much of the packet as the family allows. `detail` goes into the last
/// two bytes of its header: the MTU of "too big", the pointer of a parameter problem, else 0. False if the frame's length
/// can't be changed.
#[inline(never)]
pub(super) fn error<F: Reply, P: Packet>(packet: &mut P, message: Message, detail: u16) -> bool {
    let Some((link, header)) = received::<F, P>(packet) else { return false };
    let quoted = F::length(header).min(const { F::MAX_ERROR - F::HEADER - Icmpv4Hdr::LEN });
    write::<F, P>(packet, link, quoted, F::message(message), detail).is_some()
}

#[inline(always)]
fn write<F: Reply, P: Packet>(
    packet: &mut P,
    link: Link,
    quoted: usize,
    [type_, code]: [u8; 2],
    detail: u16,
) -> Option<()> {
    let overhead = const { F::HEADER + Icmpv4Hdr::LEN };
    packet.grow_head(overhead as i32)?;
    packet.truncate(after(after(link.l3, overhead), quoted))?;
    link.copy(packet, overhead, 0)?;
    let link = link.merged(packet);

    let quotation = after(link.l3, overhead);
    let length = after(Icmpv4Hdr::LEN, quoted) as u16;
    let [high, low] = detail.to_be_bytes();
    // The addresses of the quoted packet, which are swapped in the answer: the sum is the same.
    let check = F::pseudo_header(packet.view(quotation)?, F::ICMP, length)
        .word([type_, code])
        .word([high, low])
        .packet(packet, quotation, quoted)?
        .finish();
    let answer = F::answer(packet.view(quotation)?, F::ICMP, length);
    packet.store(link.l3, answer)?;
    packet.store(after(link.l3, F::HEADER), Icmpv4Hdr { type_, code, check, data: [0, 0, high, low] })
}
