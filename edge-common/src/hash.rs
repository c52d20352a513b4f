//! The keyed hash that gives a packet its place in the service index and a flow its slot.
//!
//! The hash is NH, the universal hash of UMAC (RFC 4418, section 5.2): a sum of products of pairs of 32-bit words, each
//! with a secret word added. Over random keys any two different inputs collide with probability 2^-32, so an attacker who
//! does not know the key can't choose addresses and ports that share a slot. NH takes a few multiplications; a general
//! keyed hash (SipHash) takes over a hundred instructions. A shift and one more multiplication then spread the result: the
//! low bits of a product are weak, and are left out.
//!
//! Inputs are read from the frame as little-endian words, which is how NH takes them, so no bytes are swapped.

use crate::abi::{HashKey, halves};

/// Hash of a flow or a destination: 64 bits, of which all but the lowest are well mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub u64);

impl Hash {
    /// The slot of a flow; `mask` is the number of slots less one.
    #[inline(always)]
    pub const fn slot(self, mask: u32) -> u32 {
        (self.0 >> 32) as u32 & mask
    }

    /// Twenty bits for the flow label of an outer IPv6 header (RFC 6438), from bits that [`Self::slot`] does not use.
    #[inline(always)]
    pub const fn flow_label(self) -> u32 {
        (self.0 >> 12) as u32 & 0xf_ffff
    }

    /// A hash of which only the flow label is known.
    #[inline(always)]
    pub const fn of_label(label: u32) -> Self {
        Self((label as u64) << 12)
    }

    /// The two positions of a destination in a service index.
    #[inline(always)]
    pub const fn index_positions(self, mask: u32) -> [u32; 2] {
        [(self.0 >> 32) as u32 & mask, (self.0 >> 12) as u32 & mask]
    }
}

impl HashKey {
    /// Hash of an IPv4 flow or destination: an address and 32 more bits (two ports, or port and protocol).
    #[inline(always)]
    pub const fn hash_v4(&self, address: [u8; 4], rest: u32) -> Hash {
        let [k0, k1, ..] = self.0;
        Hash(finish(pair(u32::from_le_bytes(address), k0, rest, k1)))
    }

    /// Hash of an IPv6 flow or destination.
    #[inline(always)]
    pub const fn hash_v6(&self, address: [u8; 16], rest: u32) -> Hash {
        let [k0, k1, k2, k3, k4, k5, ..] = self.0;
        let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3] = address;
        let sum = pair(u32::from_le_bytes([a0, a1, a2, a3]), k0, u32::from_le_bytes([b0, b1, b2, b3]), k1)
            .wrapping_add(pair(u32::from_le_bytes([c0, c1, c2, c3]), k2, u32::from_le_bytes([d0, d1, d2, d3]), k3))
            .wrapping_add(pair(rest, k4, 0, k5));
        Hash(finish(sum))
    }

    /// Hash of five words.
    #[inline(always)]
    pub const fn hash_words(&self, [a, b, c, d, e]: [u64; 5]) -> Hash {
        let [k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, ..] = self.0;
        let sum = pair_of_halves(a, k0, k1)
            .wrapping_add(pair_of_halves(b, k2, k3))
            .wrapping_add(pair_of_halves(c, k4, k5))
            .wrapping_add(pair_of_halves(d, k6, k7))
            .wrapping_add(pair_of_halves(e, k8, k9));
        Hash(finish(sum))
    }

    /// Hash of an IPv6 destination. The operator chooses destinations, so this hash need not resist an attacker: one
    /// product of the two halves of the address spreads them well enough, with half of NH's instructions.
    #[inline(always)]
    pub const fn hash_destination_v6(&self, address: [u8; 16], rest: u32) -> Hash {
        let [.., k6, k7, k8, k9, _, _] = self.0;
        let [high, low] = halves(address);
        let high = high.wrapping_add((k6 as u64) << 32 | k7 as u64);
        let low = low.wrapping_add((k8 as u64) << 32 | k9 as u64).wrapping_add((rest as u64).wrapping_mul(MULTIPLIER));
        Hash(finish(high.wrapping_mul(low)))
    }

    /// Hash of the first `prefix` bits of a client's IPv4 address, without ports.
    #[inline(always)]
    pub const fn hash_source_v4(&self, address: [u8; 4], prefix: u8) -> Hash {
        let masked = u32::from_be_bytes(address) as u64 & leading(prefix as u32 + 32);
        self.hash_v4((masked as u32).to_be_bytes(), 0)
    }

    /// Hash of the first `prefix` bits of a client's IPv6 address, without ports.
    #[inline(always)]
    pub const fn hash_source_v6(&self, address: [u8; 16], prefix: u8) -> Hash {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
        let high = u64::from_be_bytes([a, b, c, d, e, f, g, h]) & leading(prefix as u32);
        let low = u64::from_be_bytes([i, j, k, l, m, n, o, p]) & leading((prefix as u32).saturating_sub(64));
        let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (high.to_be_bytes(), low.to_be_bytes());
        self.hash_v6([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p], 0)
    }

    /// Rehashes `hash` for step `round` of a search, with key words that no other hash uses.
    #[inline(always)]
    pub const fn again(&self, hash: Hash, round: u32) -> Hash {
        let [.., k10, k11] = self.0;
        let seed = (k10 as u64) << 32 | k11 as u64;
        // Finished twice: the input is a slot number, whose few low bits a single product would map to a lattice.
        Hash(finish(finish(hash.0 ^ seed.wrapping_mul(2 * round as u64 + 1))))
    }
}

/// A word whose first `bits` bits are set; all of them from 64 on.
#[inline(always)]
const fn leading(bits: u32) -> u64 {
    match bits {
        0 => 0,
        1..64 => u64::MAX << (64 - bits),
        _ => u64::MAX,
    }
}

/// One pair of NH: (a + ka) * (b + kb), the sums modulo 2^32, the product in full.
#[inline(always)]
const fn pair(a: u32, ka: u32, b: u32, kb: u32) -> u64 {
    a.wrapping_add(ka) as u64 * b.wrapping_add(kb) as u64
}

/// [`pair`] of the low and the high half of a word.
#[inline(always)]
const fn pair_of_halves(word: u64, ka: u32, kb: u32) -> u64 {
    pair(word as u32, ka, (word >> 32) as u32, kb)
}

/// 2^64 over the golden ratio, made odd: the multiplier of Fibonacci hashing.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
const fn finish(mut x: u64) -> u64 {
    x ^= x >> 32;
    x.wrapping_mul(MULTIPLIER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: HashKey = HashKey([
        0x9e37_79b9,
        0x7f4a_7c15,
        0xf39c_c060,
        0x5ced_c834,
        0x1082_276b,
        0xf3a2_7251,
        0xf86c_6a11,
        0xd0c1_8e95,
        0x2767_f0b1,
        0x53d2_7b7f,
        0x0347_045b,
        0x5bf1_827f,
    ]);

    /// Chi-square of `hashes` over 1,024 slots, per degree of freedom: near 1 when they are spread evenly.
    fn spread(hashes: impl Iterator<Item = Hash>) -> f64 {
        let mut slots = [0u32; 1024];
        let mut total = 0u32;
        for hash in hashes {
            slots[hash.slot(1023) as usize] += 1;
            total += 1;
        }
        let mean = f64::from(total) / 1024.0;
        slots.iter().map(|&n| (f64::from(n) - mean).powi(2) / mean).sum::<f64>() / 1023.0
    }

    #[test]
    fn consecutive_ports_of_one_client_spread_evenly() {
        let v4 = spread((1024..65_000).map(|port| KEY.hash_v4([198, 51, 100, 7], port << 16 | 443)));
        let v6 = spread((1024..65_000).map(|port| KEY.hash_v6([0x20; 16], port << 16 | 443)));
        assert!((0.8..1.2).contains(&v4), "{v4}");
        assert!((0.8..1.2).contains(&v6), "{v6}");
    }

    #[test]
    fn consecutive_clients_spread_evenly() {
        let v4 = spread((0u32..65_536).map(|i| KEY.hash_v4((0x0a00_0000 + i).to_be_bytes(), 40_000 << 16 | 443)));
        let v6 = spread((0u128..65_536).map(|i| KEY.hash_v6((i << 64).to_be_bytes(), 40_000 << 16 | 443)));
        assert!((0.8..1.2).contains(&v4), "{v4}");
        assert!((0.8..1.2).contains(&v6), "{v6}");
    }

    proptest! {
        /// Flows that differ in any bit have different hashes, except for one pair in 2^32, which no test run will meet.
        #[test]
        fn every_word_of_a_flow_counts(key: [u32; 12], v4: ([u8; 4], u32), v6: ([u8; 16], u32), bit in 0u32..128) {
            let key = HashKey(key);
            let other = (u128::from_be_bytes(v6.0) ^ 1 << bit).to_be_bytes();
            prop_assert_ne!(key.hash_v6(v6.0, v6.1), key.hash_v6(other, v6.1));
            let other = (u32::from_be_bytes(v4.0) ^ 1 << (bit % 32)).to_be_bytes();
            prop_assert_ne!(key.hash_v4(v4.0, v4.1), key.hash_v4(other, v4.1));
            prop_assert_ne!(key.hash_v4(v4.0, v4.1), key.hash_v4(v4.0, v4.1 ^ 1 << (bit % 32)));
        }

        #[test]
        fn a_source_is_its_prefix_and_no_port(key: [u32; 12], v4: u32, v6: u128, prefix in 1u8..=32, bit in 0u32..128) {
            let key = HashKey(key);
            let source = |address: u32| key.hash_source_v4(address.to_be_bytes(), prefix);
            let (bit4, counts) = (bit % 32, bit % 32 < prefix.into());
            prop_assert_eq!(source(v4) != source(v4 ^ 1 << (31 - bit4)), counts);
            let source = |address: u128| key.hash_source_v6(address.to_be_bytes(), 4 * prefix);
            prop_assert_eq!(source(v6) != source(v6 ^ 1 << (127 - bit)), bit < 4 * u32::from(prefix));
        }

        #[test]
        fn slots_and_positions_are_in_range(hash: u64, bits in 0u32..20) {
            let mask = (1 << bits) - 1;
            prop_assert!(Hash(hash).slot(mask) <= mask);
            prop_assert!(Hash(hash).index_positions(mask).iter().all(|&position| position <= mask));
        }
    }

    #[test]
    fn another_key_gives_other_slots() {
        let mut other = KEY;
        other.0[0] ^= 1;
        let same = (0..1000u32)
            .filter(|&p| KEY.hash_v4([1, 2, 3, 4], p).slot(0xffff) == other.hash_v4([1, 2, 3, 4], p).slot(0xffff));
        assert!(same.count() < 5);
    }
}
