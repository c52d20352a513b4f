//! ICMP errors in the form of the other IP version (RFC 7915, sections 4.2 and 5.2).

use super::header::Crossed;
use crate::wire::{icmp::Icmp as _, ip::Family as _, ipv4::V4, ipv6::V6};

/// The first eight bytes of a message: type, code, checksum, and four bytes whose meaning depends on the type.
pub(super) type Message = [u8; 8];

/// ICMP (RFC 792).
mod v4 {
    pub(super) const UNREACHABLE: u8 = 3;
    pub(super) const TIME_EXCEEDED: u8 = 11;
    pub(super) const PARAMETER_PROBLEM: u8 = 12;
    pub(super) const HOST: u8 = 1;
    pub(super) const PROTOCOL: u8 = 2;
    pub(super) const PORT: u8 = 3;
    pub(super) const FRAGMENTATION_NEEDED: u8 = 4;
    pub(super) const HOST_PROHIBITED: u8 = 10;
}

/// ICMPv6 (RFC 4443).
mod v6 {
    pub(super) const UNREACHABLE: u8 = 1;
    pub(super) const TOO_BIG: u8 = 2;
    pub(super) const TIME_EXCEEDED: u8 = 3;
    pub(super) const PARAMETER_PROBLEM: u8 = 4;
    pub(super) const NO_ROUTE: u8 = 0;
    pub(super) const PROHIBITED: u8 = 1;
    pub(super) const PORT: u8 = 4;
    pub(super) const NEXT_HEADER: u8 = 1;
}

/// Offset of the protocol in an IPv6 header.
const NEXT_HEADER_AT: u8 = 6;

/// Usual MTUs of links, for a router that reports none (RFC 1191, section 7).
const PLATEAUS: [u16; 10] = [32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

/// A packet that an error quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted {
    /// Bytes of the packet, according to its header.
    pub(super) length: usize,
    /// Bytes of its network header, with all headers that the conversion leaves out.
    pub(super) header: usize,
}

/// An IP version whose errors have counterparts in the other one.
pub(super) trait Errors: Crossed {
    /// The error in the form of the other IP version, without a checksum; `None` if there is no counterpart.
    fn other(message: Message, quoted: Quoted) -> Option<Message>;
}

impl Errors for V4 {
    #[inline(always)]
    fn other([type_, code, _, _, pointer, _, high, low]: Message, quoted: Quoted) -> Option<Message> {
        let unreachable = |code: u8| Some([v6::UNREACHABLE, code, 0, 0, 0, 0, 0, 0]);
        match (type_, code) {
            (v4::UNREACHABLE, v4::PROTOCOL) => {
                Some([v6::PARAMETER_PROBLEM, v6::NEXT_HEADER, 0, 0, 0, 0, 0, NEXT_HEADER_AT])
            }
            (v4::UNREACHABLE, v4::PORT) => unreachable(v6::PORT),
            (v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED) => {
                let stated = usize::from(u16::from_be_bytes([high, low]));
                let mtu = if stated == 0 { plateau(quoted.length) } else { stated };
                // The MTU grows by the difference of the headers.
                let mtu = mtu.wrapping_add(Self::GROWTH).max(V6::LEAST_MTU) as u32;
                let [a, b, c, d] = mtu.to_be_bytes();
                Some([v6::TOO_BIG, 0, 0, 0, a, b, c, d])
            }
            (v4::UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12) => unreachable(v6::NO_ROUTE),
            (v4::UNREACHABLE, 9 | 10 | 13 | 15) => unreachable(v6::PROHIBITED),
            (v4::TIME_EXCEEDED, _) => Some([v6::TIME_EXCEEDED, code, 0, 0, 0, 0, 0, 0]),
            (v4::PARAMETER_PROBLEM, 0 | 2) => {
                let pointer = match pointer {
                    0 | 1 => pointer,
                    // The length, the TTL, the protocol, the source and the destination.
                    2 | 3 => 4,
                    8 => 7,
                    9 => 6,
                    12..=15 => 8,
                    16..=19 => 24,
                    _ => return None,
                };
                Some([v6::PARAMETER_PROBLEM, 0, 0, 0, 0, 0, 0, pointer])
            }
            _ => None,
        }
    }
}

impl V4 {
    /// Bytes by which a packet is longer over IPv6.
    const GROWTH: usize = V6::MADE - Self::MADE;
}

impl Errors for V6 {
    #[inline(always)]
    fn other(message: Message, quoted: Quoted) -> Option<Message> {
        let [type_, code, _, _, a, b, c, d] = message;
        let unreachable = |code: u8| Some([v4::UNREACHABLE, code, 0, 0, 0, 0, 0, 0]);
        match (type_, code) {
            (v6::UNREACHABLE, 0 | 2 | 3) => unreachable(v4::HOST),
            (v6::UNREACHABLE, v6::PROHIBITED) => unreachable(v4::HOST_PROHIBITED),
            (v6::UNREACHABLE, v6::PORT) => unreachable(v4::PORT),
            (v6::TOO_BIG, _) => {
                let mtu = usize::from(Self::path_mtu(message)?);
                let [high, low] = (mtu.saturating_sub(quoted.header).wrapping_add(V4::MADE) as u16).to_be_bytes();
                Some([v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED, 0, 0, 0, 0, high, low])
            }
            (v6::TIME_EXCEEDED, _) => Some([v4::TIME_EXCEEDED, code, 0, 0, 0, 0, 0, 0]),
            (v6::PARAMETER_PROBLEM, v6::NEXT_HEADER) => unreachable(v4::PROTOCOL),
            (v6::PARAMETER_PROBLEM, 0) => {
                let pointer = match u32::from_be_bytes([a, b, c, d]) {
                    pointer @ (0 | 1) => pointer as u8,
                    4 | 5 => 2,
                    6 => 9,
                    7 => 8,
                    8..=23 => 12,
                    24..=39 => 16,
                    _ => return None,
                };
                Some([v4::PARAMETER_PROBLEM, 0, 0, 0, pointer, 0, 0, 0])
            }
            _ => None,
        }
    }
}

/// The largest usual MTU that a packet of `length` bytes does not fit; 0 if there is none.
#[inline(always)]
fn plateau(length: usize) -> usize {
    // All values are compared, beginning with the smallest: a loop that ends early would make the verifier follow every
    // possible end.
    PLATEAUS.iter().rev().fold(0, |most, plateau| {
        let plateau = usize::from(*plateau);
        if plateau < length { plateau } else { most }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTED: Quoted = Quoted { length: 1500, header: 40 };

    fn to_v6(type_: u8, code: u8, rest: [u8; 4]) -> Option<(u8, u8, u32)> {
        let [a, b, c, d] = rest;
        let [type_, code, 0, 0, a, b, c, d] = V4::other([type_, code, 7, 7, a, b, c, d], QUOTED)? else {
            panic!("a checksum")
        };
        Some((type_, code, u32::from_be_bytes([a, b, c, d])))
    }

    fn to_v4(type_: u8, code: u8, rest: u32) -> Option<(u8, u8, [u8; 4])> {
        let [a, b, c, d] = rest.to_be_bytes();
        let [type_, code, 0, 0, a, b, c, d] = V6::other([type_, code, 7, 7, a, b, c, d], QUOTED)? else {
            panic!("a checksum")
        };
        Some((type_, code, [a, b, c, d]))
    }

    #[test]
    fn what_ipv4_says_is_said_as_section_4_2_has_it() {
        for (code, expected) in [
            (0, Some((1, 0, 0))),
            (1, Some((1, 0, 0))),
            (2, Some((4, 1, 6))),
            (3, Some((1, 4, 0))),
            (5, Some((1, 0, 0))),
            (6, Some((1, 0, 0))),
            (7, Some((1, 0, 0))),
            (8, Some((1, 0, 0))),
            (9, Some((1, 1, 0))),
            (10, Some((1, 1, 0))),
            (11, Some((1, 0, 0))),
            (12, Some((1, 0, 0))),
            (13, Some((1, 1, 0))),
            (14, None),
            (15, Some((1, 1, 0))),
            (16, None),
        ] {
            assert_eq!(to_v6(3, code, [0; 4]), expected, "unreachable {code}");
        }
        for (stated, mtu) in [(1500, 1520), (1400, 1420), (1260, 1280), (576, 1280), (68, 1280)] {
            let [high, low] = u16::to_be_bytes(stated);
            assert_eq!(to_v6(3, 4, [0, 0, high, low]), Some((2, 0, mtu)), "{stated}");
        }
        assert_eq!(to_v6(3, 4, [0; 4]), Some((2, 0, 1512)), "the plateau below 1,500 is 1,492");
        assert_eq!((to_v6(11, 0, [0; 4]), to_v6(11, 1, [0; 4])), (Some((3, 0, 0)), Some((3, 1, 0))));
        let pointers: [Option<u32>; 21] = [
            Some(0),
            Some(1),
            Some(4),
            Some(4),
            None,
            None,
            None,
            None,
            Some(7),
            Some(6),
            None,
            None,
            Some(8),
            Some(8),
            Some(8),
            Some(8),
            Some(24),
            Some(24),
            Some(24),
            Some(24),
            None,
        ];
        for (pointer, expected) in (0..).zip(pointers) {
            for code in [0, 2] {
                let seen = to_v6(12, code, [pointer, 0, 0, 0]);
                assert_eq!(seen, expected.map(|expected| (4, 0, expected)), "pointer {pointer}");
            }
        }
        for (type_, code) in [(12, 1), (12, 3), (4, 0), (5, 1), (8, 0), (0, 0)] {
            assert_eq!(to_v6(type_, code, [0; 4]), None, "{type_} {code}");
        }
    }

    #[test]
    fn what_ipv6_says_is_said_as_section_5_2_has_it() {
        for (code, expected) in [(0, Some(1)), (1, Some(10)), (2, Some(1)), (3, Some(1)), (4, Some(3)), (5, None)] {
            assert_eq!(to_v4(1, code, 0), expected.map(|code| (3, code, [0; 4])), "unreachable {code}");
        }
        for (stated, mtu) in [(1500, 1480u16), (1280, 1260), (1000, 1260), (9000, 8980)] {
            let [high, low] = mtu.to_be_bytes();
            assert_eq!(to_v4(2, 0, stated), Some((3, 4, [0, 0, high, low])), "{stated}");
        }
        assert_eq!(to_v4(2, 0, 1 << 20), None);
        let in_pieces = V6::other([2, 0, 0, 0, 0, 0, 5, 220], Quoted { length: 1500, header: 48 });
        assert_eq!(in_pieces, Some([3, 4, 0, 0, 0, 0, 5, 192]), "1500 less 28");
        assert_eq!((to_v4(3, 0, 0), to_v4(3, 1, 0)), (Some((11, 0, [0; 4])), Some((11, 1, [0; 4]))));
        assert_eq!(to_v4(4, 1, 6), Some((3, 2, [0; 4])));
        for pointer in 0..50u32 {
            let expected = match pointer {
                0 | 1 => Some(u8::try_from(pointer).unwrap()),
                4 | 5 => Some(2),
                6 => Some(9),
                7 => Some(8),
                8..=23 => Some(12),
                24..=39 => Some(16),
                _ => None,
            };
            assert_eq!(to_v4(4, 0, pointer), expected.map(|at| (12, 0, [at, 0, 0, 0])), "pointer {pointer}");
        }
        for (type_, code) in [(4, 2), (128, 0), (5, 0), (0, 0)] {
            assert_eq!(to_v4(type_, code, 0), None, "{type_} {code}");
        }
    }
}
