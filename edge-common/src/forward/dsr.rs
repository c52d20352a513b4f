//! `dsr`: the packet as it is, to the MAC address of a backend on the edge's own L2 network.

use crate::wire::{
    ip::Family,
    link::{Egress, Link},
    packet::Packet,
};

/// Bytes that are added to the IP packet.
pub(super) const OVERHEAD: usize = 0;

/// Rewrites the link layer.
#[inline(always)]
pub(super) fn send<F: Family, P: Packet>(packet: &mut P, link: Link, link_layer: &Egress) -> Option<()> {
    link_layer.send(packet, link, F::ETHER_TYPE, [])
}
