//! `ipip`: sends the packet in an outer IPv4 or IPv6 header to a backend anywhere (RFC 2003, RFC 2473).
//!
//! DSCP and ECN are copied: the uniform model of RFC 2983, the normal mode of RFC 6040. DF is copied, too (RFC 2003,
//! section 3.1), so that path MTU discovery covers the whole path. A header without DF has an identification (RFC 6864,
//! section 4.1), or a backend would join fragments of different packets. An IPv6 packet counts as one with DF, except
//! for a packet of the minimum MTU of IPv6 on a narrower path.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    abi::{Backend, Generation},
    wire::{
        checksum, ethernet,
        ip::{DEFAULT_TTL, Family},
        ipv4::DONT_FRAGMENT,
        packet::{Packet, Wire},
    },
};

/// The values of an outer header that come from the inner packet.
#[derive(Clone, Copy)]
pub(super) struct Inner {
    /// Bytes behind the outer IP header.
    pub(super) length: usize,
    /// DSCP and ECN.
    tos: u8,
    /// The second word of an outer IPv4 header, in the byte order of the frame: identification, flags.
    fragmentation: u32,
    /// Twenty bits that identify the flow.
    pub(super) label: u32,
}

impl Inner {
    #[inline(always)]
    pub(super) fn of<F: Family>(header: &F::Header, length: usize, label: u32) -> Self {
        // With DF the identification is free, and holds bits by which an ICMP error is recognised. Without DF it is
        // mixed with the flow: all packets to a backend have the same outer addresses, and the counters of clients are
        // alike.
        let fingerprint = label & 0xffff;
        let fragmentation = if F::dont_fragment(header) {
            fingerprint | const { u32::from_le_bytes([0, 0, DONT_FRAGMENT, 0]) }
        } else {
            fingerprint ^ u32::from(u16::from_le_bytes(F::identification(header)))
        }
        .to_le();
        Self { length, tos: F::tos(header), fragmentation, label }
    }

    /// The same for an outer IPv4 packet that routers may fragment, around an IPv6 packet whose payload is at
    /// `payload`. An IPv6 packet has no identification that could be copied; but the start of its payload differs from
    /// packet to packet: a sequence number and a checksum, or a fragment's offset.
    #[inline(always)]
    pub(super) fn in_pieces<P: Packet>(self, packet: &P, payload: usize) -> Self {
        let FiveWords([a, b, c, d, e]) = packet.view(payload).copied().unwrap_or(FiveWords([0; 5]));
        let [w, x, y, z] = (a ^ b ^ c ^ d ^ e ^ self.label.to_be()).to_ne_bytes();
        Self { fragmentation: u32::from_ne_bytes([w ^ y, x ^ z, 0, 0]), ..self }
    }
}

/// The start of an IP packet's payload.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct FiveWords([u32; 5]);

// SAFETY: packed integers.
unsafe impl Wire for FiveWords {}

/// An outer IPv4 header, in words as they stand in a frame.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct OuterV4([u32; 5]);

// SAFETY: packed integers.
unsafe impl Wire for OuterV4 {}

impl OuterV4 {
    /// Bytes of the header.
    pub(super) const LENGTH: usize = Ipv4Hdr::LEN;
    /// Bytes of the longest packet behind the header: the length field counts both.
    pub(super) const LONGEST: usize = u16::MAX as usize - Self::LENGTH;
    /// EtherType, as it stands in a frame.
    pub(super) const ETHER_TYPE: u16 = ethernet::IPV4;

    /// The source address of a flow's packets within the configured range, in the byte order of the frame.
    #[inline(always)]
    pub(super) const fn source_of(generation: &Generation, inner: Inner) -> u32 {
        u32::from_ne_bytes(generation.tunnel_range_v4) | inner.label.to_be() & generation.tunnel_hosts_v4
    }

    /// The outer header of a packet from `source` to `backend`, with `protocol` behind it.
    #[inline(always)]
    pub(super) fn new(source: u32, backend: &Backend, protocol: u8, inner: Inner) -> Self {
        let start = (0x4500_0000 | u32::from(inner.tos) << 16)
            .wrapping_add(inner.length as u32)
            .wrapping_add(Self::LENGTH as u32)
            .to_be();
        let header = |check: [u8; 2]| {
            [
                start,
                inner.fragmentation,
                u32::from_ne_bytes([DEFAULT_TTL, protocol, check[0], check[1]]),
                source,
                u32::from_ne_bytes(backend.address_v4()),
            ]
        };
        Self(header(checksum::ipv4_words(header([0; 2]))))
    }
}

/// An outer IPv6 header.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct OuterV6 {
    start: [u32; 2],
    source: u128,
    destination: u128,
}

// SAFETY: packed integers.
unsafe impl Wire for OuterV6 {}

impl OuterV6 {
    /// Bytes of the header.
    pub(super) const LENGTH: usize = Ipv6Hdr::LEN;
    /// Bytes of the longest packet behind the header: the length field counts only the packet.
    pub(super) const LONGEST: usize = u16::MAX as usize;
    /// EtherType, as it stands in a frame.
    pub(super) const ETHER_TYPE: u16 = ethernet::IPV6;

    /// As [`OuterV4::source_of`].
    #[inline(always)]
    pub(super) const fn source_of(generation: &Generation, inner: Inner) -> u128 {
        // Arrays of sixteen bytes would be copied byte by byte.
        u128::from_ne_bytes(generation.tunnel_range_v6) | last_word(inner.label.to_be() & generation.tunnel_hosts_v6)
    }

    /// As [`OuterV4::new`]; an IPv6 header contains the length of its payload alone.
    #[inline(always)]
    pub(super) fn new(source: u128, backend: &Backend, protocol: u8, inner: Inner) -> Self {
        let [high, low] = (inner.length as u16).to_be_bytes();
        let first = 6 << 28 | u32::from(inner.tos) << 20 | inner.label;
        Self {
            start: [first.to_be(), u32::from_ne_bytes([high, low, protocol, DEFAULT_TTL])],
            source,
            destination: u128::from_ne_bytes(backend.address),
        }
    }
}

/// An address, in the byte order of the frame, whose last four bytes are `word`, and whose others are zero.
#[inline(always)]
const fn last_word(word: u32) -> u128 {
    if cfg!(target_endian = "little") { (word as u128) << 96 } else { word as u128 }
}

const _: () = {
    assert!(size_of::<OuterV4>() == OuterV4::LENGTH);
    assert!(size_of::<OuterV6>() == OuterV6::LENGTH);
};
