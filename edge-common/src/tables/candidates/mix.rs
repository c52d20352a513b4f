//! The fixed mixing function for all choices in a table that no preference decides.
//!
//! It has no key: the keyed hash of the flow keeps an outsider from aiming at a slot, and the backend of a slot need not be
//! secret.

/// Spreads `x` over 64 bits, one to one: the output function of `SplitMix64` (Steele, Lea and Flood, 2014).
pub(super) const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// 64 bits derived from an identity.
pub(super) fn mix_identity(identity: [u8; 16]) -> u64 {
    let bits = u128::from_be_bytes(identity);
    let [high, low] = [bits >> 64, bits & u128::from(u64::MAX)].map(|bank| u64::try_from(bank).expect("bank of 128"));
    mix(mix(high) ^ low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of `SplitMix64` from seed 0: a change here would give every edge another table.
    #[test]
    fn is_the_published_function() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn both_halves_of_an_identity_count() {
        let identity = |i: usize| std::array::from_fn(|at| u8::from(at == i));
        let seen: std::collections::BTreeSet<u64> = (0..16).map(|i| mix_identity(identity(i))).collect();
        assert_eq!(seen.len(), 16);
    }
}
