//! The owners of a service's slots, and their marks of unrecorded flows, which the packet path changes as well.

use std::sync::atomic::{AtomicU16, Ordering};

use edge_common::abi::{BackendNumber, CELL, Service};

use super::maps::Maps;
use crate::plan::LANES;

/// The owners of one service, and the marks of its slots.
pub(super) struct Owners<'a> {
    maps: &'a Maps,
    /// The service's first cell.
    first: u32,
}

impl<'a> Owners<'a> {
    pub(super) const fn of(maps: &'a Maps, service: &Service) -> Self {
        Self { maps, first: service.owners }
    }

    /// The owner of `slot`; 0 past the map's end.
    pub(super) fn get(&self, slot: u32) -> BackendNumber {
        self.owner(slot).map_or(0, |owner| owner.load(Ordering::Relaxed))
    }

    /// The owners of the service's `cell`; 0 past the map's end.
    pub(super) fn cell(&self, cell: u32) -> [BackendNumber; CELL] {
        let owners = self.maps.owners.atomic_u64(self.first.wrapping_add(cell), 0);
        owners.map_or([0; CELL], |owners| bytemuck::cast(owners.load(Ordering::Relaxed)))
    }

    /// Makes `to` the owner if `from` is the owner. Returns whether it was: the packet path may have changed it.
    pub(super) fn change(&self, slot: u32, from: BackendNumber, to: BackendNumber) -> bool {
        let change = |owner: &AtomicU16| owner.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
        self.owner(slot).is_some_and(|owner| change(owner).is_ok())
    }

    /// In which slots of the service's `cell` a flow found no room since the last call.
    pub(super) fn take_unrecorded(&self, cell: u32) -> [bool; CELL] {
        let unrecorded = self.maps.unrecorded.atomic_u64(self.first.wrapping_add(cell), 0);
        // A swap costs as much as twenty reads, and hardly ever there is anything.
        match unrecorded.filter(|flags| flags.load(Ordering::Acquire) != 0) {
            Some(flags) => bytemuck::cast::<_, [u16; CELL]>(flags.swap(0, Ordering::AcqRel)).map(|lane| lane != 0),
            None => [false; CELL],
        }
    }

    /// Whether a flow of `slot` was unrecorded.
    pub(super) fn was_unrecorded(&self, slot: u32) -> bool {
        let unrecorded = self.maps.unrecorded.atomic_u16(self.first.wrapping_add(slot / LANES), lane(slot));
        unrecorded.is_some_and(|flags| flags.load(Ordering::Acquire) != 0)
    }

    fn owner(&self, slot: u32) -> Option<&'a AtomicU16> {
        self.maps.owners.atomic_u16(self.first.wrapping_add(slot / LANES), lane(slot))
    }
}

/// Bytes into its cell of a slot's owner.
const fn lane(slot: u32) -> usize {
    slot as usize % CELL * size_of::<BackendNumber>()
}
