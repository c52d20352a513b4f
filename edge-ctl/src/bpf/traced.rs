//! The place of a traced packet's slot.

use edge_common::abi::SLOTS_PER_CELL;

use super::PinnedMaps;

impl PinnedMaps {
    /// The number in its service of a slot with a number among all slots, in the service's own slots or in the table that it
    /// shares; `None` if the slot is in neither any more.
    pub(crate) fn slot_in(&self, bank: u32, service: u32, slot: u32) -> Option<u32> {
        let record = self.maps.service(bank, service)?;
        let shared = self.known.as_ref().and_then(|known| known.common_cells().get(&service).copied());
        [Some(record.slots), shared].into_iter().flatten().find_map(|first| {
            let number = slot.checked_sub(first.checked_mul(SLOTS_PER_CELL)?)?;
            (number <= record.slot_mask).then_some(number)
        })
    }
}
