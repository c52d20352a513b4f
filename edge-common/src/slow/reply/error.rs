//! ICMP and ICMPv6 errors (RFC 792, RFC 4443).

use network_types::icmp::Icmpv4Hdr;

use super::{Answer, Reply, received};
use crate::wire::{
    icmp::Message,
    link::Link,
    packet::{Packet, after},
};

/// Groups of four bytes in the longest quotation.
const MAX_QUOTED: usize = 308;

/// Turns the frame into an ICMP error that quotes as much of the packet as the family allows. `mtu` goes into its last
/// two bytes: 0 unless it says "too big".
#[inline(never)]
pub(super) fn error<F: Reply, P: Packet>(packet: &mut P, message: Message, mtu: u16) -> Answer {
    let Some((link, header)) = received::<F, P>(packet) else { return Answer::Forbidden };
    let exempt = F::is_exempt(header);
    if exempt || !F::answerable(header) || (message == Message::TooBig && !F::dont_fragment(header)) {
        return Answer::Forbidden;
    }
    let quoted = F::length(header).min(const { F::MAX_ERROR - F::HEADER - Icmpv4Hdr::LEN });
    match write::<F, P>(packet, link, quoted, F::message(message), mtu) {
        Some(()) => Answer::Made,
        None => Answer::NoRoom,
    }
}

#[inline(always)]
fn write<F: Reply, P: Packet>(
    packet: &mut P,
    link: Link,
    quoted: usize,
    [type_, code]: [u8; 2],
    mtu: u16,
) -> Option<()> {
    let overhead = const { F::HEADER + Icmpv4Hdr::LEN };
    packet.grow_head(overhead as i32)?;
    packet.truncate(after(after(link.l3, overhead), quoted))?;
    link.copy(packet, overhead, 0)?;
    Link::turn(packet)?;
    let link = link.merged(packet);

    let quotation = after(link.l3, overhead);
    let length = after(Icmpv4Hdr::LEN, quoted) as u16;
    let answer = F::answer(packet.view(quotation)?, F::ICMP, length);
    let [high, low] = mtu.to_be_bytes();
    let check = F::pseudo_header(&answer, F::ICMP, length)
        .word([type_, code])
        .word([high, low])
        .packet::<P, MAX_QUOTED>(packet, quotation, quoted)?
        .finish();
    packet.store(link.l3, answer)?;
    packet.store(after(link.l3, F::HEADER), Icmpv4Hdr { type_, code, check, data: [0, 0, high, low] })
}
