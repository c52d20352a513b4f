//! Generic UDP encapsulation (draft-ietf-intarea-gue-09): an IP packet in UDP, behind a header of its own (variant 0) or directly
//! (variant 1, whose version bits are those of IPv4 and IPv6).

use super::protocol;

/// The UDP port that GUE is registered for (IANA).
pub const PORT: u16 = 6080;
/// Bytes of a header of variant 0 without extensions.
pub const HEADER: usize = 4;
/// Bits that are set in all dynamic ports, 49,152 to 65,535, from which flows have their UDP source port (RFC 7510, section
/// 3.1).
const DYNAMIC: u16 = 0xc000;

/// Reason for which the content of a UDP packet is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another version, flags, or extensions.
    Header,
    /// A control message, which is not forwarded.
    Control,
    /// Something else than an IP packet.
    Protocol,
}

/// The protocol of the IP packet behind a UDP header, and the number of bytes before it, given the first four bytes behind
/// the UDP header.
///
/// # Errors
/// There is no IP packet, or not in a form that is supported.
#[inline(always)]
pub const fn parse([first, protocol, high, low]: [u8; HEADER]) -> Result<(u8, usize), Refused> {
    match first >> 4 {
        4 => return Ok((protocol::IPV4, 0)),
        6 => return Ok((protocol::IPV6, 0)),
        _ => {}
    }
    // Version (two bits), control, length of extensions (five bits).
    if first & 0xc0 != 0 {
        return Err(Refused::Header);
    }
    if first & 0x20 != 0 {
        return Err(Refused::Control);
    }
    if first != 0 || high | low != 0 {
        return Err(Refused::Header);
    }
    if protocol == protocol::IPV4 || protocol == protocol::IPV6 {
        Ok((protocol, HEADER))
    } else {
        Err(Refused::Protocol)
    }
}

/// A header of variant 0 before a packet of `protocol`, as a word in the byte order of the frame.
#[inline(always)]
pub const fn header(protocol: u8) -> u32 {
    u32::from_ne_bytes([0, protocol, 0, 0])
}

/// The UDP source port of a flow, host order: the same for all its packets.
#[inline(always)]
pub const fn source_port(label: u32) -> u16 {
    DYNAMIC | (label >> 6) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_variants_are_taken_and_nothing_else() {
        for first in 0..=u8::MAX {
            for protocol in 0..=u8::MAX {
                let expected = match (first, protocol) {
                    (0x40..=0x4f, _) => Ok((4, 0)),
                    (0x60..=0x6f, _) => Ok((41, 0)),
                    (0, 4 | 41) => Ok((protocol, 4)),
                    (0, _) => Err(Refused::Protocol),
                    (0x20..=0x3f, _) => Err(Refused::Control),
                    _ => Err(Refused::Header),
                };
                assert_eq!(parse([first, protocol, 0, 0]), expected, "{first:02x} {protocol}");
            }
        }
        for flags in [[1, 0], [0, 1], [0x80, 0]] {
            assert_eq!(parse([0, 4, flags[0], flags[1]]), Err(Refused::Header), "{flags:?}");
            assert_eq!(parse([0x45, 0, flags[0], flags[1]]), Ok((4, 0)), "these are of the packet");
        }
        assert_eq!(parse(header(4).to_ne_bytes()), Ok((4, 4)));
    }

    #[test]
    fn ports_are_dynamic_ones_and_use_fourteen_bits() {
        assert_eq!([0, 0xf_ffff, 0x20_0000 - 1].map(source_port), [49_152, 65_535, 65_535]);
        assert_ne!(source_port(1 << 6), source_port(1 << 7));
    }
}
