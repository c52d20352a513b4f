//! The slots of a service, which the packet path changes too.

use std::{
    mem::offset_of,
    ops::Range,
    sync::atomic::{AtomicU8, AtomicU32, Ordering},
};

use edge_common::abi::{
    BackendNumber, SLOTS_PER_CELL, Service, Slot, SlotAddress, Unrecorded, return_place, slot_address,
};

use super::maps::Maps;

/// The slots of one service.
pub(super) struct Slots<'a> {
    maps: &'a Maps,
    /// First cell of the service.
    first: u32,
    count: u32,
}

impl<'a> Slots<'a> {
    pub(super) const fn of(maps: &'a Maps, service: &Service) -> Self {
        Self { maps, first: service.slots, count: service.slot_mask.saturating_add(1) }
    }

    /// `count` slots from the cell `first` on.
    pub(super) const fn at(maps: &'a Maps, first: u32, count: u32) -> Self {
        Self { maps, first, count }
    }

    /// Makes `owner` the owner of a slot that no packet reads, and all of its content.
    pub(super) fn set(&self, slot: u32, owner: BackendNumber) {
        if let Some(word) = self.word(slot) {
            word.store(Slot::of(owner).word(), Ordering::Release);
        }
    }

    /// The owner of `slot`; 0 past the map's end.
    pub(super) fn owner(&self, slot: u32) -> BackendNumber {
        self.get(slot).owner
    }

    /// The content of `slot`; empty past the map's end.
    pub(super) fn get(&self, slot: u32) -> Slot {
        self.word(slot).map_or_else(Slot::default, |word| Slot::from_word(word.load(Ordering::Acquire)))
    }

    /// Makes `to` the owner if `from` is the owner and no insert of the slot's flows has failed, since the packet path
    /// may have changed either. Returns whether the owner changed.
    pub(super) fn change(&self, slot: u32, from: BackendNumber, to: BackendNumber) -> bool {
        let changed = |word| {
            let slot = Slot::from_word(word);
            (slot.owner == from && slot.unrecorded == 0).then(|| Slot { owner: to, ..slot }.word())
        };
        self.word(slot).is_some_and(|word| word.fetch_update(Ordering::AcqRel, Ordering::Acquire, changed).is_ok())
    }

    /// Sets `look` in `slot`.
    pub(super) fn look(&self, slot: u32) {
        let Some(look) = self.part(slot, offset_of!(Slot, look)) else { return };
        if look.load(Ordering::Relaxed) == 0 {
            look.store(1, Ordering::Release);
        }
    }

    /// Sets `look` in all slots.
    pub(super) fn look_at_all(&self) {
        (0..self.count).for_each(|slot| self.look(slot));
    }

    /// Sets `look` in the slots for which `is_concerned` holds, given a slot and its owner.
    pub(super) fn look_where(&self, is_concerned: impl Fn(u32, BackendNumber) -> bool) {
        (0..self.count).filter(|slot| is_concerned(*slot, self.owner(*slot))).for_each(|slot| self.look(slot));
    }

    /// Sets `look` in the slots whose [places in the order of return](return_place) are these.
    pub(super) fn look_at_places(&self, places: &Range<u32>) {
        (0..self.count).filter(|slot| places.contains(&return_place(*slot))).for_each(|slot| self.look(slot));
    }

    /// Clears `look` in `slot` if its owner is `owner` and no insert has failed, so that packets go by the owner alone.
    /// Returns whether it was cleared.
    pub(super) fn end_look(&self, slot: u32, owner: BackendNumber) -> bool {
        let ended =
            |word| (Slot { look: 0, ..Slot::from_word(word) } == Slot::of(owner)).then(|| Slot::of(owner).word());
        self.word(slot).is_some_and(|word| word.fetch_update(Ordering::AcqRel, Ordering::Acquire, ended).is_ok())
    }

    /// Whether a flow of `slot` could not be recorded since the last call.
    pub(super) fn take_unrecorded(&self, slot: u32) -> Unrecorded {
        let taken = self.part(slot, offset_of!(Slot, unrecorded)).map(|mark| mark.swap(0, Ordering::AcqRel));
        Unrecorded::from_raw(taken.unwrap_or_default())
    }

    fn word(&self, slot: u32) -> Option<&'a AtomicU32> {
        let address = slot_address(self.first, slot);
        self.maps.slots.atomic_u32(address.cell, place(address))
    }

    fn part(&self, slot: u32, offset: usize) -> Option<&'a AtomicU8> {
        let address = slot_address(self.first, slot);
        self.maps.slots.atomic_u8(address.cell, place(address) + offset)
    }
}

/// Offset of a slot in its cell, in bytes.
const fn place(address: SlotAddress) -> usize {
    address.place() * size_of::<Slot>()
}

/// Number of cells for `slots` slots.
pub(super) const fn cells(slots: u32) -> u32 {
    slots / SLOTS_PER_CELL
}
