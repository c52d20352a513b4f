//! The order in which a member prefers slots: a permutation of each member's own.

use super::mix::mix;

/// A one-to-one map of 0..slots onto itself.
///
/// It consists of multiplications by odd numbers and shifts to the right, each of which is invertible modulo a power of
/// two. Maglev's arithmetic progression needs a prime number of slots: with a power of two its lowest bits would repeat.
#[derive(Clone, Copy)]
pub(super) struct Permutation {
    offset: u32,
    factors: [u32; 3],
    mask: u32,
    shift: u32,
}

impl Permutation {
    /// The permutation of the member with `seed`; `slots` is a power of two.
    pub(super) fn new(seed: u64, slots: u32) -> Self {
        let word = |random: u64| u32::try_from(random >> 32).expect("32 bits");
        let [a, b, c, d] = [1, 2, 3, 4].map(|i| word(mix(seed ^ mix(i))));
        Self { offset: a, factors: [b | 1, c | 1, d | 1], mask: slots - 1, shift: slots.ilog2().div_ceil(2) }
    }

    /// The slot with this rank in the order of preference; `rank` is less than the number of slots.
    #[inline]
    pub(super) fn slot(&self, rank: u32) -> usize {
        let mut x = rank.wrapping_add(self.offset);
        for factor in self.factors {
            x = x.wrapping_mul(factor) & self.mask;
            x ^= x >> self.shift;
        }
        x as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_each_slot_once() {
        for slots in (0..=16).map(|bits| 1 << bits) {
            for seed in 0..4 {
                let permutation = Permutation::new(seed, slots);
                let mut seen = vec![false; slots as usize];
                (0..slots).for_each(|rank| seen[permutation.slot(rank)] = true);
                assert!(seen.iter().all(|&seen| seen), "{slots} slots, seed {seed}");
            }
        }
    }
}
