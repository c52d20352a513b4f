//! A slot's own sequence of other slots at random, to draw candidates from.

use super::mix::mix;

/// How often is drawn before other means are taken: with few members, or one of most of the weight, the same comes
/// again and again.
pub(super) const DRAWS: u64 = 16;

/// Slots drawn from the whole table, to look up there whom they belong to.
///
/// That draws members by weight, since each has as many slots as its weight says. And as a member that comes or goes
/// changes few slots, most draws find whom they found before, so the further candidates are steady like the first.
#[derive(Clone, Copy)]
pub(super) struct Draws {
    mask: usize,
}

impl Draws {
    /// From a table of `slots`, a power of two.
    pub(super) fn from_slots(slots: u32) -> Self {
        Self { mask: slots as usize - 1 }
    }

    /// The slots drawn for `slot`, in order, with repetitions: [`DRAWS`] of them.
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
