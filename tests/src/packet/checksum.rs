//! The Internet checksum, written from the words of RFC 1071, section 1.

/// The one's complement of the one's complement sum of the 16-bit words of `parts`, one after the other. An odd last
/// byte is padded with zero.
pub fn rfc_1071(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        sum += u32::from(word);
        // The carry out of the top bit is added at the bottom immediately.
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    !u16::try_from(sum).expect("a carry goes back in at once")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 1071, section 3: these bytes sum to ddf2.
        assert_eq!(rfc_1071(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }
}
