//! ICMP and ICMPv6 echo (RFC 792, RFC 4443): a VIP answers pings itself, so that a ping shows whether the edge works.

use network_types::icmp::Icmpv4Hdr;

use super::Reply;
use crate::wire::{
    checksum,
    link::Link,
    packet::{Packet, after},
};

/// Turns an echo request without IP options or extension headers into its reply; false if that fails.
#[inline(never)]
pub(super) fn echo<F: Reply, P: Packet>(packet: &mut P) -> bool {
    write::<F, P>(packet).is_some()
}

#[inline(always)]
fn write<F: Reply, P: Packet>(packet: &mut P) -> Option<()> {
    let link = Link::parse(packet)?;
    let header: &F::Header = packet.view(link.l3)?;
    // At least a header: this was checked before the packet was classified as an echo request.
    let length = F::length(header).wrapping_sub(F::HEADER) as u16;
    let answer = F::answer(header, F::ICMP, length);
    let at = after(link.l3, F::HEADER);
    let request: &Icmpv4Hdr = packet.view(at)?;
    // Swapping the addresses changes neither the sum of the pseudo-header nor the rest of the message.
    let [high, low] = checksum::update(request.check, [request.type_, request.code], [F::ECHO_REPLY, 0]);
    packet.store(at, [F::ECHO_REPLY, 0, high, low])?;
    packet.store(link.l3, answer)
}
