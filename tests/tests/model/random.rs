//! A random number generator of the tests' own, so that a seed always gives the same sequence.

/// `SplitMix64`: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), figure 16.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(end);
        u64::try_from(product >> 64).expect("less than `end`")
    }

    /// An index below `places`.
    pub(crate) fn place(&mut self, places: usize) -> usize {
        usize::try_from(self.below(places as u64)).expect("one of the places")
    }

    /// `true` in `times` of a thousand calls.
    pub(crate) fn chance(&mut self, times: u64) -> bool {
        self.below(1000) < times
    }

    /// A random element; `None` if there is none.
    pub(crate) fn choose<T: Copy>(&mut self, some: &[T]) -> Option<T> {
        if some.is_empty() { None } else { Some(some[self.place(some.len())]) }
    }

    pub(crate) fn port(&mut self) -> u16 {
        u16::try_from(1024 + self.below(64_000)).expect("a port")
    }
}
