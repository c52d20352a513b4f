//! Decapsulation on a tunnel's backend: IPv4 and IPv6 in either, without a kernel module.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, reason = "a packet's numbers can be anything"))]

use crate::{
    abi::DecapExit,
    wire::{
        checksum, ethernet,
        ip::{Family, Payload, Transport},
        ipv4::V4,
        ipv6::V6,
        link::Link,
        packet::{Packet, after},
        protocol,
    },
};

/// The edges that a backend takes packets from.
pub trait Sources {
    /// Whether `source` is a configured edge; IPv4 as an IPv4-mapped IPv6 address.
    fn knows(&self, source: [u8; 16]) -> bool;
    fn count_exit(&self, exit: DecapExit);
}

/// Takes the outer header off a tunnel packet from one of our edges, for the host's own stack to go on with.
#[inline(always)]
pub fn process<P: Packet, S: Sources>(packet: &mut P, sources: &S) -> DecapExit {
    let exit = match Link::parse(packet) {
        Some(link) if link.ether_type == ethernet::IPV4 => outer::<V4, P, S>(packet, sources, link),
        Some(link) if link.ether_type == ethernet::IPV6 => outer::<V6, P, S>(packet, sources, link),
        _ => Err(DecapExit::NotTunnel),
    };
    let exit = match exit {
        Ok(()) => DecapExit::Decapsulated,
        Err(exit) => exit,
    };
    sources.count_exit(exit);
    exit
}

/// An outer header's source, in one form for both families.
trait Edge: Family {
    fn edge(header: &Self::Header) -> [u8; 16];
}

/// What an IPv4 address starts with when it is written as an IPv6 one.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl Edge for V4 {
    #[inline(always)]
    fn edge(header: &Self::Header) -> [u8; 16] {
        let [a, b, c, d] = header.src_addr;
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
    }
}

impl Edge for V6 {
    #[inline(always)]
    fn edge(header: &Self::Header) -> [u8; 16] {
        // An IPv4-mapped address on the wire (RFC 4291, section 2.5.5.2) is nobody's, least of all an IPv4 edge's.
        let [a @ .., _, _, _, _] = header.src_addr;
        if a == MAPPED { [0; 16] } else { header.src_addr }
    }
}

#[inline(always)]
fn outer<F: Edge, P: Packet, S: Sources>(packet: &mut P, sources: &S, link: Link) -> Result<(), DecapExit> {
    let header: &F::Header = packet.view(link.l3).ok_or(DecapExit::NotTunnel)?;
    match F::payload(packet, link.l3, header) {
        Payload::Transport(Transport { protocol: tunnelled @ (protocol::IPV4 | protocol::IPV6), offset }) => {
            if !sources.knows(F::edge(header)) {
                return Err(DecapExit::UnknownSource);
            }
            let end = after(link.l3, F::length(header));
            if tunnelled == protocol::IPV4 {
                inner::<V4, P>(packet, link, offset, end, F::tos(header))
            } else {
                inner::<V6, P>(packet, link, offset, end, F::tos(header))
            }
        }
        Payload::Fragment(_) if sources.knows(F::edge(header)) => Err(DecapExit::TunnelFragment),
        Payload::Transport(_) | Payload::Fragment(_) | Payload::Hidden | Payload::Malformed => {
            Err(DecapExit::NotTunnel)
        }
    }
}

#[inline(always)]
fn inner<F: SetEcn, P: Packet>(packet: &mut P, link: Link, at: usize, end: usize, tos: u8) -> Result<(), DecapExit> {
    let header: &F::Header = packet.view(at).ok_or(DecapExit::BadInner)?;
    if after(at, F::length(header)) > end || matches!(F::payload(packet, at, header), Payload::Malformed) {
        return Err(DecapExit::BadInner);
    }
    let was = F::tos(header) & ECN;
    let now = decapsulated_ecn(was, tos & ECN).ok_or(DecapExit::Congested)?;
    if now != was {
        F::set_ecn(packet.view_mut(at).ok_or(DecapExit::BadInner)?, now);
    }
    // The link layer moves up first: what is cut off then is as long, and nobody's.
    let cut = at.wrapping_sub(link.l3);
    link.copy(packet, 0, cut).ok_or(DecapExit::DecapNoRoom)?;
    link.set_ether_type(packet, cut, F::ETHER_TYPE).ok_or(DecapExit::DecapNoRoom)?;
    packet.grow_head((cut as i32).wrapping_neg()).ok_or(DecapExit::DecapNoRoom)
}

/// The ECN bits of a TOS byte, and their values (RFC 3168, section 5).
const ECN: u8 = 0b11;
const NOT_CAPABLE: u8 = 0b00;
const CAPABLE_1: u8 = 0b01;
const CAPABLE_0: u8 = 0b10;
const CONGESTED: u8 = 0b11;

/// The ECN field of a packet that leaves a tunnel (RFC 6040, figure 4); `None`: drop it.
#[inline(always)]
const fn decapsulated_ecn(inner: u8, outer: u8) -> Option<u8> {
    match (inner, outer) {
        (NOT_CAPABLE, CONGESTED) => None,
        (CAPABLE_0 | CAPABLE_1, CONGESTED) => Some(CONGESTED),
        (CAPABLE_0, CAPABLE_1) => Some(CAPABLE_1),
        _ => Some(inner),
    }
}

/// A header whose ECN field can be changed.
trait SetEcn: Family {
    fn set_ecn(header: &mut Self::Header, ecn: u8);
}

impl SetEcn for V4 {
    #[inline(always)]
    fn set_ecn(header: &mut Self::Header, ecn: u8) {
        let tos = header.tos & !ECN | ecn;
        header.check = checksum::update(header.check, [header.vihl, header.tos], [header.vihl, tos]);
        header.tos = tos;
    }
}

impl SetEcn for V6 {
    #[inline(always)]
    fn set_ecn(header: &mut Self::Header, ecn: u8) {
        header.vcf[1] = header.vcf[1] & !(ECN << 4) | ecn << 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Frame, Memory};

    #[test]
    fn a_mapped_address_on_the_wire_is_no_edge() {
        let edge = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
        let mut sources = Memory::default();
        sources.decap_sources.push(edge);
        let mut outer = vec![0; 14 + 40 + 20];
        outer[12..14].copy_from_slice(&[0x86, 0xdd]);
        outer[14] = 0x60;
        outer[19] = 20;
        outer[20] = protocol::IPV4;
        outer[22..38].copy_from_slice(&edge);
        assert_eq!(process(&mut Frame::new(&outer), &sources), DecapExit::UnknownSource);
    }

    /// RFC 6040, figure 4: rows are the inner field, columns the outer one, both in the order Not-ECT, ECT(0), ECT(1), CE.
    #[test]
    fn ecn_leaves_a_tunnel_as_rfc_6040_says() {
        const ORDER: [u8; 4] = [NOT_CAPABLE, CAPABLE_0, CAPABLE_1, CONGESTED];
        let table = [
            [Some(NOT_CAPABLE), Some(NOT_CAPABLE), Some(NOT_CAPABLE), None],
            [Some(CAPABLE_0), Some(CAPABLE_0), Some(CAPABLE_1), Some(CONGESTED)],
            [Some(CAPABLE_1), Some(CAPABLE_1), Some(CAPABLE_1), Some(CONGESTED)],
            [Some(CONGESTED), Some(CONGESTED), Some(CONGESTED), Some(CONGESTED)],
        ];
        for (inner, row) in ORDER.into_iter().zip(table) {
            for (outer, expected) in ORDER.into_iter().zip(row) {
                assert_eq!(decapsulated_ecn(inner, outer), expected, "inner {inner:02b}, outer {outer:02b}");
            }
        }
    }
}
