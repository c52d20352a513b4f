//! The Internet checksum (RFC 1071), whole and incremental (RFC 1624).

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::packet::{LONGEST_SUMMED, Packet};

/// A sum of up to 2^32 words as they are in memory, not yet folded. Neither the order of bytes nor adding them in twos or
/// fours makes a difference to the checksum (RFC 1071, section 2).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(pub u64);

impl Sum {
    #[inline(always)]
    pub const fn word(self, word: [u8; 2]) -> Self {
        self.plus(u16::from_ne_bytes(word) as u64)
    }

    #[inline(always)]
    pub const fn words(self, words: [u8; 4]) -> Self {
        self.plus(u32::from_ne_bytes(words) as u64)
    }

    #[inline(always)]
    pub const fn address_v6(self, a: [u8; 16]) -> Self {
        self.words([a[0], a[1], a[2], a[3]])
            .words([a[4], a[5], a[6], a[7]])
            .words([a[8], a[9], a[10], a[11]])
            .words([a[12], a[13], a[14], a[15]])
    }

    /// Adds a word of 32 bits; [`Self::without`] takes one out.
    #[inline(always)]
    pub const fn with(self, word: u32) -> Self {
        self.plus(word as u64)
    }

    #[inline(always)]
    pub const fn without(self, word: u32) -> Self {
        self.plus(!word as u64)
    }

    /// Adds all words of another sum.
    #[inline(always)]
    pub const fn and(self, Self(more): Self) -> Self {
        self.plus(more)
    }

    /// A checksum after the covered data has changed by this sum, of a few words (RFC 1624, equation 3). A wrong checksum stays
    /// wrong.
    #[inline(always)]
    pub const fn after(self, checksum: [u8; 2]) -> [u8; 2] {
        self.plus(!u16::from_ne_bytes(checksum) as u64).finish_short()
    }

    /// The pseudo-header of an upper-layer packet of `length` bytes over IPv4 (RFC 9293, section 3.1).
    #[inline(always)]
    pub const fn pseudo_v4(header: &Ipv4Hdr, protocol: u8, length: u16) -> Self {
        Self(0).words(header.src_addr).words(header.dst_addr).word([0, protocol]).word(length.to_be_bytes())
    }

    /// The pseudo-header of an upper-layer packet of `length` bytes over IPv6 (RFC 8200, section 8.1).
    #[inline(always)]
    pub const fn pseudo_v6(header: &Ipv6Hdr, protocol: u8, length: u16) -> Self {
        Self(0).address_v6(header.src_addr).address_v6(header.dst_addr).word([0, protocol]).word(length.to_be_bytes())
    }

    /// Adds `length` bytes of the frame from `offset` on, at most [`LONGEST_SUMMED`]; an odd last byte counts
    /// as if a zero byte followed. `None` if they are not all in the frame.
    #[inline(always)]
    pub fn packet<P: Packet>(self, packet: &P, offset: usize, length: usize) -> Option<Self> {
        if length > LONGEST_SUMMED {
            return None;
        }
        Some(self.and(Self(packet.sum(offset, length)?)))
    }

    /// The checksum field's value.
    #[inline(always)]
    pub const fn finish(self) -> [u8; 2] {
        Self(self.0 & 0xffff_ffff).plus(self.0 >> 32).finish_short()
    }

    /// Like [`Self::finish`], for a sum below 2^48: one of a few words, such as an IPv4 header.
    ///
    /// The multiplication adds up the 16-bit words of the sum in the highest word, and adds each carry again: the sum is
    /// `q * 0xffff + r`, so that the product is `r` times the multiplier, less `q`. Its highest word is `r`, or 0xffff for the
    /// zero that is not all zero.
    #[inline(always)]
    const fn finish_short(self) -> [u8; 2] {
        let Self(sum) = self;
        (!(sum.wrapping_mul(0x0001_0001_0001_0001) >> 48) as u16).to_ne_bytes()
    }

    /// Adds a number of at most 32 bits, or another sum. No frame has so many words that the sum wraps.
    #[inline(always)]
    const fn plus(self, number: u64) -> Self {
        Self(self.0.wrapping_add(number))
    }
}

/// Checksum of an IPv4 header without options, whatever its checksum field holds.
#[inline(always)]
pub const fn ipv4_header(header: &Ipv4Hdr) -> [u8; 2] {
    Sum(0)
        .word([header.vihl, header.tos])
        .word(header.tot_len)
        .word(header.id)
        .word(header.frags)
        .word([header.ttl, header.proto])
        .words(header.src_addr)
        .words(header.dst_addr)
        .finish_short()
}

/// Checksum of an IPv4 header of five words, as they are in memory, whose checksum field is zero.
#[inline(always)]
pub const fn ipv4_words([a, b, c, d, e]: [u32; 5]) -> [u8; 2] {
    Sum(a as u64).plus(b as u64).plus(c as u64).plus(d as u64).plus(e as u64).finish_short()
}

/// The third word of an IPv4 header, little-endian, after a decrement of the TTL, which must not be 0: the first byte is
/// one less, and the checksum, in the upper half, one more, as [`update`] computes it.
#[inline(always)]
pub const fn ttl_decremented(word: u32) -> u32 {
    // Little-endian, so that one more in the first byte of the checksum is one more in the word, carries included.
    word.wrapping_add(if word < 0xfffe_0000 { 0x0001_0000 - 1 } else { 0x0002_0000 - 1 })
}

/// The checksum after one covered word changed from `old` to `new` (RFC 1624, equation 3). A wrong checksum stays wrong.
#[inline(always)]
pub const fn update(checksum: [u8; 2], old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
    Sum(0).word(not(checksum)).word(not(old)).word(new).finish_short()
}

#[inline(always)]
const fn not([a, b]: [u8; 2]) -> [u8; 2] {
    [!a, !b]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::Frame;

    /// RFC 1071 as it is written: add words, fold carries, complement.
    fn reference(bytes: &[u8]) -> [u8; 2] {
        let mut sum: u32 = 0;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!u16::try_from(sum).unwrap()).to_be_bytes()
    }

    proptest! {
        #[test]
        fn a_frame_sums_as_the_rfc_says(bytes in proptest::collection::vec(any::<u8>(), 0..=256)) {
            let frame = Frame::new(&bytes);
            let sum = Sum(0).packet(&frame, 0, bytes.len()).unwrap();
            prop_assert_eq!(sum.finish(), reference(&bytes));
        }

        #[test]
        fn an_update_equals_a_new_sum(mut bytes in proptest::collection::vec(any::<u8>(), 20), word: [u8; 2]) {
            // A header whose words are all zero does not exist; it is the one case where both zeros are right.
            bytes[0] = 0x45;
            let before = reference(&bytes);
            let old = [bytes[8], bytes[9]];
            bytes[8..10].copy_from_slice(&word);
            prop_assert_eq!(update(before, old, word), reference(&bytes));
        }

        #[test]
        fn five_words_sum_as_their_bytes(words: [u32; 5]) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            prop_assert_eq!(ipv4_words(words), reference(&bytes));
        }
    }

    #[test]
    fn every_checksum_follows_a_ttl_as_any_other_change() {
        for check in 0..=u16::MAX {
            let check = check.to_be_bytes();
            for ttl in [1, 2, 64, 255] {
                let [a, b] = update(check, [ttl, 6], [ttl - 1, 6]);
                let word = ttl_decremented(u32::from_le_bytes([ttl, 6, check[0], check[1]]));
                assert_eq!(word.to_le_bytes(), [ttl - 1, 6, a, b], "{check:?} {ttl}");
            }
        }
    }

    #[test]
    fn every_echo_identifier_gets_its_last_carry() {
        // A sum that is folded once is wrong for a handful of 65,536 identifiers.
        for id in 0..=u16::MAX {
            let request = [8, 0, 0, 0, id.to_be_bytes()[0], id.to_be_bytes()[1], 0xff, 0xff];
            let mut reply = request;
            reply[0] = 0;
            assert_eq!(update(reference(&request), [8, 0], [0, 0]), reference(&reply), "{id}");
        }
    }
}
