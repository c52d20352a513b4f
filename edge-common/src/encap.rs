//! Encapsulation: the outer header of a tunnel (RFC 2003, RFC 2473).
//!
//! DSCP and ECN are copied: the uniform model of RFC 2983, the normal mode of RFC 6040. So is DF (RFC 2003, section 3.1),
//! so that path MTU discovery sees the whole way. A header without DF has an identification (RFC 6864, section 4.1), or
//! a backend would put fragments of different packets together.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    abi::{Backend, Generation},
    checksum, frame,
    ip::{DEFAULT_TTL, DONT_FRAGMENT, Family},
    packet::Wire,
};

/// What an outer header takes from the packet behind it.
#[derive(Clone, Copy)]
pub struct Inner {
    /// Bytes of the IP packet.
    length: usize,
    /// DSCP and ECN.
    tos: u8,
    /// The second word of an outer IPv4 header: identification, flags.
    fragmentation: [u8; 4],
    /// Twenty bits that are the flow's.
    label: u32,
}

impl Inner {
    #[inline(always)]
    pub fn of<F: Family>(header: &F::Header, length: usize, label: u32) -> Self {
        let fragmentation = if F::dont_fragment(header) {
            [0, 0, DONT_FRAGMENT, 0]
        } else {
            // Mixed with the flow: all packets to a backend have the same outer addresses, and clients count alike.
            let [a, b] = F::identification(header);
            let [.., c, d] = label.to_be_bytes();
            [a ^ c, b ^ d, 0, 0]
        };
        Self { length, tos: F::tos(header), fragmentation, label }
    }
}

/// An outer IPv4 header, in words as they stand in a frame.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct V4([u32; 5]);

// SAFETY: packed integers.
unsafe impl Wire for V4 {}

impl V4 {
    /// Bytes of it.
    pub const LENGTH: usize = Ipv4Hdr::LEN;
    /// EtherType, as it stands in a frame.
    pub const ETHER_TYPE: u16 = frame::IPV4;

    /// The outer header of a packet of the family `protocol` to `backend`. `None` if the whole would be longer than IP can
    /// say.
    #[inline(always)]
    pub fn outer(generation: &Generation, backend: &Backend, protocol: u8, inner: Inner) -> Option<Self> {
        let [high, low] = u16::try_from(inner.length + Self::LENGTH).ok()?.to_be_bytes();
        let header = |check: [u8; 2]| {
            [
                u32::from_ne_bytes([0x45, inner.tos, high, low]),
                u32::from_ne_bytes(inner.fragmentation),
                u32::from_ne_bytes([DEFAULT_TTL, protocol, check[0], check[1]]),
                u32::from_ne_bytes(generation.tunnel_source_v4),
                u32::from_ne_bytes(backend.address_v4()),
            ]
        };
        Some(Self(header(checksum::ipv4_words(header([0; 2])))))
    }
}

/// An outer IPv6 header.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct V6 {
    start: [u32; 2],
    source: u128,
    destination: u128,
}

// SAFETY: packed integers.
unsafe impl Wire for V6 {}

impl V6 {
    /// Bytes of it.
    pub const LENGTH: usize = Ipv6Hdr::LEN;
    /// EtherType, as it stands in a frame.
    pub const ETHER_TYPE: u16 = frame::IPV6;

    /// As [`V4::outer`]; the length of what is inside is all that an IPv6 header says.
    #[inline(always)]
    pub fn outer(generation: &Generation, backend: &Backend, protocol: u8, inner: Inner) -> Option<Self> {
        let [high, low] = u16::try_from(inner.length).ok()?.to_be_bytes();
        let first = 6 << 28 | u32::from(inner.tos) << 20 | inner.label;
        Some(Self {
            start: [first.to_be(), u32::from_ne_bytes([high, low, protocol, DEFAULT_TTL])],
            // As sixteen bytes they would be copied byte by byte.
            source: u128::from_ne_bytes(generation.tunnel_source_v6),
            destination: u128::from_ne_bytes(backend.address),
        })
    }
}

const _: () = {
    assert!(size_of::<V4>() == V4::LENGTH);
    assert!(size_of::<V6>() == V6::LENGTH);
};
