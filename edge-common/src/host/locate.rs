//! The service and the slot of a plain frame's flow, as the fast path finds them, for diagnostics.

use super::{Frame, Memory};
use crate::{
    abi::{ServiceRef, Slot, slot_address},
    lookup::Lookup,
    maps::Maps as _,
    select::flow,
    wire::{ethernet, ipv4::V4, ipv6::V6, link::Link, packet::Places as _, plain},
};

/// The service and the slot of a flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Located {
    pub service_ref: ServiceRef,
    pub number: u32,
    pub slot: Slot,
}

impl Memory {
    /// Locates the flow of a frame; `None` if no service takes the frame, or if it is not plain TCP or UDP.
    pub fn locate(&self, frame: &Frame) -> Option<Located> {
        let (_, link) = Link::parse_at_station(frame)?;
        match link.ether_type {
            ethernet::IPV4 => self.locate_of::<V4>(frame, link.l3),
            ethernet::IPV6 => self.locate_of::<V6>(frame, link.l3),
            _ => None,
        }
    }

    fn locate_of<F: Lookup>(&self, frame: &Frame, l3: usize) -> Option<Located> {
        let view = self.view()?;
        let (header, start) = frame.places::<F::Header, plain::Start>(l3)?;
        let (header, start) = (frame.at(header), frame.at(start));
        let protocol = F::plain(header)?;
        let (vip, port) = (F::destination(header), start.destination());
        let found = F::find(self, view, vip, port, protocol);
        let service_ref = found.or_else(|| F::find_any(self, view, vip, port, protocol))?.by_address();
        let number = flow::hash::<F>(view, service_ref, F::source(header), start.ports()).slot(service_ref.slot_mask());
        // The index may have another position of slots, so that packets of some kinds find no stable owner.
        let first = self.service(view.bank, service_ref.service())?.slots;
        Some(Located { service_ref, number, slot: self.slot(slot_address(first, number))? })
    }
}
