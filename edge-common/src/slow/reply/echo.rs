//! ICMP and ICMPv6 echo (RFC 792, RFC 4443): a VIP answers pings itself, so that a ping shows whether the edge works.

use network_types::icmp::Icmpv4Hdr;

use super::{Answer, Reply, received};
use crate::wire::{
    checksum,
    link::Link,
    packet::{Packet, after},
};

/// Turns the echo request whose ICMP header stands at `offset` into its reply. One with IP options or extension headers
/// is the host's.
#[inline(never)]
pub(super) fn echo<F: Reply, P: Packet>(packet: &mut P, offset: usize) -> Answer {
    let Some((link, header)) = received::<F, P>(packet) else { return Answer::Forbidden };
    if !F::answerable(header) || offset != after(link.l3, F::HEADER) {
        return Answer::Forbidden;
    }
    match write::<F, P>(packet, link) {
        Some(()) => Answer::Made,
        None => Answer::NoRoom,
    }
}

#[inline(always)]
fn write<F: Reply, P: Packet>(packet: &mut P, link: Link) -> Option<()> {
    let header: &F::Header = packet.view(link.l3)?;
    // Not less than a header: it was checked before the packet was classified as an echo request.
    let length = F::length(header).wrapping_sub(F::HEADER) as u16;
    let answer = F::answer(header, F::ICMP, length);
    let at = after(link.l3, F::HEADER);
    let request: &Icmpv4Hdr = packet.view(at)?;
    // Neither the pseudo-header's sum nor the rest of the message changes when the addresses change places.
    let [high, low] = checksum::update(request.check, [request.type_, request.code], [F::ECHO_REPLY, 0]);
    packet.store(at, [F::ECHO_REPLY, 0, high, low])?;
    packet.store(link.l3, answer)?;
    Link::turn(packet)
}
