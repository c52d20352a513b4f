//! Tunnels whose outer addresses or ports depend on the flow, so that receive queues and equal-cost paths, which are
//! selected by them, differ between flows.
//!
//! In [`gue`](super::gue) the source port depends on the flow; in `ipip` with a range of source addresses, the source
//! address does. In the kernel this is a function of its own, so that other packets do not pay for it.

use super::{
    HopLook, exceeds,
    gue::{self, Direct, Headed, Udp},
    ipip::{Inner, OuterV4, OuterV6},
    next_hop, passes,
};
use crate::{
    abi::{Backend, Exit, Generation, Mode},
    maps::{Maps, View},
    step::Decision,
    wire::{
        ethernet::Addresses,
        ip::Family,
        ipv4::V4,
        ipv6::V6,
        link::{Link, make_room},
        packet::{Places, after},
        protocol,
    },
};

/// A packet to be sent by such a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Offset of its network header; below 32.
    pub l3: usize,
    /// Whether the packet is IPv6.
    pub v6: bool,
    /// Twenty bits that identify the flow.
    pub label: u32,
    /// Whether the packet is sent in UDP, else in IP alone.
    pub in_udp: bool,
}

impl Spread {
    const V6: u32 = 1 << 5;
    const IN_UDP: u32 = 1 << 6;

    /// Packs the fields into one word, which a function takes in a register.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        let flags = if self.v6 { Self::V6 } else { 0 } | if self.in_udp { Self::IN_UDP } else { 0 };
        self.label << 12 | flags | self.l3 as u32 & 31
    }

    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        Self { l3: word as usize & 31, v6: word & Self::V6 != 0, label: word >> 12, in_udp: word & Self::IN_UDP != 0 }
    }
}

/// Bytes that are added to a packet to `backend`; `None` if the backend has no address.
#[inline(always)]
pub(super) fn overhead(generation: &Generation, backend: &Backend, in_udp: bool) -> Option<usize> {
    let outer = match backend.family {
        4 => OuterV4::LENGTH,
        6 => OuterV6::LENGTH,
        _ => return None,
    };
    Some(after(outer, between(generation, in_udp)))
}

/// Bytes between the outer IP header and the packet.
#[inline(always)]
const fn between(generation: &Generation, in_udp: bool) -> usize {
    if in_udp { gue::overhead(generation.gue_variant) } else { 0 }
}

/// Sends the packet, whose TTL does not end here, to `backend`; returns the egress interface.
///
/// # Errors
/// The exit of a packet that can't be sent there.
#[inline(always)]
pub fn send<P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    generation: &Generation,
    backend: &Backend,
    spread: Spread,
) -> Result<u32, Decision> {
    let look = HopLook::at(backend);
    let (inner, protocol) = if spread.v6 {
        (prepare::<V6, P>(packet, generation, backend, spread)?, V6::TUNNELLED)
    } else {
        (prepare::<V4, P>(packet, generation, backend, spread)?, V4::TUNNELLED)
    };
    let link = Link { l3: spread.l3, ether_type: 0 };
    let addresses = encapsulate(packet, generation, link, look.vlan, backend, inner, protocol, spread.in_udp);
    let addresses = addresses.ok_or(Exit::NoRoom)?;
    let next = next_hop(maps, View { bank: 0, generation }, Mode::Gue, look)?;
    packet.at_mut(addresses).set(next.mac, next.source_mac);
    Ok(next.egress)
}

/// Checks a packet and lowers its TTL; returns the values that the outer headers take from it.
#[inline(always)]
fn prepare<F: Family, P: Places>(
    packet: &mut P,
    generation: &Generation,
    backend: &Backend,
    Spread { l3, label, in_udp, .. }: Spread,
) -> Result<Inner, Decision> {
    let header = packet.place::<F::Header>(l3).ok_or(Exit::Malformed)?;
    let length = F::length(packet.at(header));
    let overhead = overhead(generation, backend, in_udp).ok_or(Exit::BadTables)?;
    passes::<F>(packet.at(header), length, packet.ingress(), Mode::Gue, overhead, backend)?;
    let behind = after(length, between(generation, in_udp));
    let longest = if backend.family == 4 { OuterV4::LONGEST } else { OuterV6::LONGEST };
    if behind > longest {
        return Err(Exit::NoRoom.into());
    }
    let inner = Inner::of::<F>(packet.at(header), behind, label);
    F::decrement_ttl(packet.at_mut(header));
    let least = F::LEAST_MTU > 0 && backend.family == 4 && exceeds(backend, length, overhead);
    Ok(if least { inner.in_pieces(packet, after(l3, size_of::<F::Header>())) } else { inner })
}

/// Puts the headers before the packet; returns the place of the frame's addresses.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "it is inlined")]
fn encapsulate<P: Places>(
    packet: &mut P,
    generation: &Generation,
    link: Link,
    vlan: u16,
    backend: &Backend,
    inner: Inner,
    protocol: u8,
    in_udp: bool,
) -> Option<P::Place<Addresses>> {
    let udp = Udp::new(generation, inner);
    let gue = gue::header(protocol);
    let (v4, v6) = (OuterV4::ETHER_TYPE, OuterV6::ETHER_TYPE);
    let is_headed = generation.gue_variant == 0;
    if backend.family == 4 {
        let source = u32::from_ne_bytes(generation.tunnel_source_v4);
        let direct = || Direct { outer: OuterV4::new(source, backend, protocol::UDP, inner), udp };
        match (in_udp, is_headed) {
            (true, true) => make_room(packet, link, vlan, v4, || Headed { direct: direct(), gue }),
            (true, false) => make_room(packet, link, vlan, v4, direct),
            (false, _) => {
                let source = OuterV4::source_of(generation, inner);
                make_room(packet, link, vlan, v4, || OuterV4::new(source, backend, protocol, inner))
            }
        }
    } else {
        let source = u128::from_ne_bytes(generation.tunnel_source_v6);
        let direct = || Direct { outer: OuterV6::new(source, backend, protocol::UDP, inner), udp };
        match (in_udp, is_headed) {
            (true, true) => make_room(packet, link, vlan, v6, || Headed { direct: direct(), gue }),
            (true, false) => make_room(packet, link, vlan, v6, direct),
            (false, _) => {
                let source = OuterV6::source_of(generation, inner);
                make_room(packet, link, vlan, v6, || OuterV6::new(source, backend, protocol, inner))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_word_holds_what_was_put_in(l3 in 0usize..32, v6: bool, label in 0u32..1 << 20, in_udp: bool) {
            let spread = Spread { l3, v6, label, in_udp };
            prop_assert_eq!(Spread::from_word(spread.word()), spread);
        }
    }
}
