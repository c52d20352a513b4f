//! Congestion marks at the end of a tunnel (RFC 6040).

use crate::wire::{checksum, ip::Family, ipv4::V4, ipv6::V6};

/// The ECN bits of a TOS byte, and their values (RFC 3168, section 5).
pub(super) const ECN: u8 = 0b11;
const NOT_CAPABLE: u8 = 0b00;
const CAPABLE_1: u8 = 0b01;
const CAPABLE_0: u8 = 0b10;
const CONGESTED: u8 = 0b11;

/// The ECN field of a packet that leaves a tunnel (RFC 6040, figure 4); `None` if the packet must be dropped.
#[inline(always)]
pub(super) const fn decapsulated(inner: u8, outer: u8) -> Option<u8> {
    match (inner, outer) {
        (NOT_CAPABLE, CONGESTED) => None,
        (CAPABLE_0 | CAPABLE_1, CONGESTED) => Some(CONGESTED),
        (CAPABLE_0, CAPABLE_1) => Some(CAPABLE_1),
        _ => Some(inner),
    }
}

/// A header whose ECN field can be changed.
pub(super) trait SetEcn: Family {
    fn set_ecn(header: &mut Self::Header, ecn: u8);
}

impl SetEcn for V4 {
    #[inline(always)]
    fn set_ecn(header: &mut Self::Header, ecn: u8) {
        let tos = header.tos & !ECN | ecn;
        header.check = checksum::update(header.check, [header.vihl, header.tos], [header.vihl, tos]);
        header.tos = tos;
    }
}

impl SetEcn for V6 {
    #[inline(always)]
    fn set_ecn(header: &mut Self::Header, ecn: u8) {
        header.vcf[1] = header.vcf[1] & !(ECN << 4) | ecn << 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6040, figure 4: rows are the inner field, columns the outer one, both in the order Not-ECT, ECT(0), ECT(1), CE.
    #[test]
    fn ecn_leaves_a_tunnel_as_rfc_6040_says() {
        const ORDER: [u8; 4] = [NOT_CAPABLE, CAPABLE_0, CAPABLE_1, CONGESTED];
        let table = [
            [Some(NOT_CAPABLE), Some(NOT_CAPABLE), Some(NOT_CAPABLE), None],
            [Some(CAPABLE_0), Some(CAPABLE_0), Some(CAPABLE_1), Some(CONGESTED)],
            [Some(CAPABLE_1), Some(CAPABLE_1), Some(CAPABLE_1), Some(CONGESTED)],
            [Some(CONGESTED), Some(CONGESTED), Some(CONGESTED), Some(CONGESTED)],
        ];
        for (inner, row) in ORDER.into_iter().zip(table) {
            for (outer, expected) in ORDER.into_iter().zip(row) {
                assert_eq!(decapsulated(inner, outer), expected, "inner {inner:02b}, outer {outer:02b}");
            }
        }
    }
}
