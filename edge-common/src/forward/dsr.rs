//! `dsr`: sends the packet with a new link layer to the MAC address of a backend on the edge's own L2 network.

use crate::wire::{
    ethernet::Addresses,
    ip::Family,
    link::{Link, make_room},
    packet::Places,
};

/// Bytes that are added to the IP packet.
pub(super) const OVERHEAD: usize = 0;

/// Replaces the link layer; returns the place of its addresses.
#[inline(always)]
pub(super) fn send<F: Family, P: Places>(packet: &mut P, link: Link, vlan: u16) -> Option<P::Place<Addresses>> {
    make_room(packet, link, vlan, F::ETHER_TYPE, || [])
}
