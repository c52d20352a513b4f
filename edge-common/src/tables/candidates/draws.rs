//! Random draws of slots, in a sequence of each slot's own, to find further candidates.

use super::mix::mix;

/// Number of draws before other means are used: with few members, or one member with most of the weight, the draws repeat
/// the same members.
pub(super) const DRAWS: u64 = 16;

/// Draws of slots from the whole table, whose first candidates are then looked up.
///
/// This draws members by weight, since each has as many slots as its weight gives. And as adding or removing a member
/// changes few slots, most draws find the same members as before, so the further candidates are as steady as the first
/// ones.
#[derive(Clone, Copy)]
pub(super) struct Draws {
    mask: usize,
}

impl Draws {
    /// From a table of `slots`, a power of two.
    pub(super) fn from_slots(slots: u32) -> Self {
        Self { mask: slots as usize - 1 }
    }

    /// The [`DRAWS`] slots drawn for `slot`, in order, with repetitions.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are wanted")]
    pub(super) fn of(self, slot: usize) -> impl Iterator<Item = usize> {
        (0..DRAWS).map(move |i| random(slot, i) as usize & self.mask)
    }
}

/// The random number `i` of `slot`; `i` and `slot` are less than 2^32.
#[inline]
pub(super) fn random(slot: usize, i: u64) -> u64 {
    mix(i << 32 | slot as u64)
}
