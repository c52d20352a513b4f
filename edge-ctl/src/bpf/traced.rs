//! The place of a traced packet's slot.

use edge_common::abi::SLOTS_PER_CELL;

use super::PinnedMaps;

impl PinnedMaps {
    /// The number in its service of a slot with a number among all slots, in the service's own slots or in the table that it
    /// shares; `None` if the slot is in neither any more.
    pub(crate) fn slot_in(&self, bank: u32, service: u32, slot: u32) -> Option<u32> {
        let record = self.maps.service(bank, service)?;
        let within = |first: u32| {
            let number = slot.checked_sub(first.checked_mul(SLOTS_PER_CELL)?)?;
            (number <= record.slot_mask).then_some(number)
        };
        let known = || self.known.as_ref()?.common_cells().get(&service).copied();
        // The daemon may have made a table for services to share since the snapshot was read.
        let at_present = || self.snapshot().ok()??.common_cells().get(&service).copied();
        within(record.slots).or_else(|| within(known()?)).or_else(|| within(at_present()?))
    }
}
