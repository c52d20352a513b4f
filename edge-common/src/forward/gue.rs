//! `gue`: sends the packet in UDP over IPv4 or IPv6 to a backend anywhere. The source port depends on the flow, so
//! receive queues and equal-cost paths, which are selected by a hash of ports, differ between flows; in `ipip` all
//! packets of an edge to a backend have the same addresses.
//!
//! The UDP checksum is zero, over IPv6 too (RFC 6935, RFC 6936). It would cover the whole packet, and a program has no
//! sum of a packet that is a fragment or has no checksum itself. The inner packet has its own checksum. A packet whose
//! outer header was damaged on its way goes nowhere, since a backend accepts only packets of its edges, to itself, for
//! its VIPs. Linux's `gue` sockets accept zero.
//!
//! DSCP, ECN, DF, identification and flow label are as in [`ipip`](super::ipip).

use super::ipip::Inner;
pub(super) use crate::wire::gue::header;
use crate::{
    abi::Generation,
    wire::{gue, packet::Wire},
};

/// Bytes of a UDP header.
const UDP: usize = 8;

/// Bytes between the outer IP header and the packet, in this variant of GUE.
#[inline(always)]
pub(super) const fn overhead(variant: u16) -> usize {
    if variant == 0 { UDP + gue::HEADER } else { UDP }
}

/// A UDP header, in words as they stand in a frame.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct Udp {
    ports: u32,
    /// Length, and a checksum of zero.
    length: u32,
}

/// An outer IP header, followed by UDP.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct Direct<O> {
    pub(super) outer: O,
    pub(super) udp: Udp,
}

/// [`Direct`], followed by a GUE header of variant 0.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct Headed<O> {
    pub(super) direct: Direct<O>,
    pub(super) gue: u32,
}

// SAFETY: packed, of integers and fields that are `Wire` themselves.
unsafe impl<O: Wire> Wire for Direct<O> {}
// SAFETY: as above.
unsafe impl<O: Wire> Wire for Headed<O> {}

impl Udp {
    #[inline(always)]
    pub(super) fn new(generation: &Generation, inner: Inner) -> Self {
        let ([a, b], [c, d]) = (gue::source_port(inner.label).to_be_bytes(), generation.gue_port);
        let [high, low] = (inner.length as u16).to_be_bytes();
        Self { ports: u32::from_ne_bytes([a, b, c, d]), length: u32::from_ne_bytes([high, low, 0, 0]) }
    }
}

const _: () = assert!(size_of::<Udp>() == UDP);
