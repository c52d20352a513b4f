//! Slots: the owner that serves a service's unrecorded flows, and whether a packet has to look further.

use bytemuck::{Pod, Zeroable};

use super::BackendNumber;

/// Slots in one [`SlotCell`].
pub const SLOTS_PER_CELL: u32 = 2;

/// A slot of a service. A packet reads all of it as one word. Each part is written by a store of its own; a change that
/// depends on the whole word is made by the controller, by compare-and-exchange.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Slot {
    /// Serves the slot's established flows; 0 stands for no backend.
    pub owner: BackendNumber,
    /// 0 only while the owner, if alive, is also the slot's pick, and no flow of the slot is recorded, so that the owner
    /// alone decides. The controller sets it before each change that could make owner and pick differ, and the packet path
    /// before it records a flow; only the controller clears it. Setting it needlessly is safe; it only costs lookups.
    pub look: u8,
    /// An [`Unrecorded`]. The packet path sets it, the controller clears it.
    pub unrecorded: u8,
}

/// Whether a flow of a slot should have been recorded, and was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Unrecorded {
    #[default]
    Nothing = 0,
    /// An established flow, which may send its next packet an idle timeout later.
    Flow = 1,
    /// Only starts of flows, which went to the slot's owner: the next packet of such a flow, which follows within a
    /// handshake's time, is an established flow's. Most starts in a flood have no next packet.
    Start = 2,
}

impl Unrecorded {
    /// An unknown number counts as [`Self::Flow`].
    pub const fn from_raw(number: u8) -> Self {
        match number {
            0 => Self::Nothing,
            2 => Self::Start,
            _ => Self::Flow,
        }
    }
}

impl Slot {
    /// A stable slot with this owner.
    pub const fn of(owner: BackendNumber) -> Self {
        Self { owner, look: 0, unrecorded: 0 }
    }

    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        Self { owner: word as u16, look: (word >> 16) as u8, unrecorded: (word >> 24) as u8 }
    }

    pub const fn word(self) -> u32 {
        self.owner as u32 | (self.look as u32) << 16 | (self.unrecorded as u32) << 24
    }
}

/// Two slots: 8 bytes, the least that an array map allocates for a value.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SlotCell(pub [Slot; SLOTS_PER_CELL as usize]);

/// Position of a slot in `SLOTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotAddress {
    pub cell: u32,
    /// Index in the cell, modulo [`SLOTS_PER_CELL`].
    pub lane: u32,
}

impl SlotAddress {
    /// Index in the cell.
    #[inline(always)]
    pub const fn place(self) -> usize {
        (self.lane % SLOTS_PER_CELL) as usize
    }

    /// Number of the slot among all slots.
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.cell.wrapping_mul(SLOTS_PER_CELL).wrapping_add(self.lane % SLOTS_PER_CELL)
    }

    /// The slot with this number.
    #[inline(always)]
    pub const fn of_number(number: u32) -> Self {
        Self { cell: number / SLOTS_PER_CELL, lane: number }
    }
}

/// Address of a service's `slot`; `first` is the service's first cell.
#[inline(always)]
pub const fn slot_address(first: u32, slot: u32) -> SlotAddress {
    SlotAddress { cell: first.wrapping_add(slot / SLOTS_PER_CELL), lane: slot }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_the_word_that_packets_read() {
        let slot = Slot { owner: 0x1234, look: 1, unrecorded: 2 };
        assert_eq!(bytemuck::cast::<_, u32>(slot), slot.word());
        assert_eq!(Slot::from_word(slot.word()), slot);
        let address = slot_address(10, 7);
        assert_eq!((address.cell, address.place()), (13, 1));
        let again = SlotAddress::of_number(address.number());
        assert_eq!((again.cell, again.place()), (13, 1));
    }
}
