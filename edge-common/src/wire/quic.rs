//! QUIC (RFC 9000, RFC 9369), as far as forwarding needs it: which packets may start a flow.

use network_types::udp::UdpHdr;

use super::{
    packet::{Packet, after},
    udp::UdpStart,
};

/// Form and fixed bit of a long header, the form alone, and the type.
const FORM: u8 = 0xc0;
const LONG: u8 = 0x80;
const TYPE: u8 = 0x30;
/// Version 1, and what an Initial packet's type is in it.
const V1: (u32, u8) = (1, 0x00);
/// Version 2 likewise.
const V2: (u32, u8) = (0x6b33_43cf, 0x10);

/// Versions of this form are asked for by clients that want to hear which versions there are (RFC 9000, section 15): greased.
const GREASED: u32 = 0x0a0a_0a0a;
const GREASED_BITS: u32 = 0x0f0f_0f0f;
/// The least payload of a datagram with a client's Initial packet (RFC 9000, section 14.1).
const LEAST: u16 = 1200;

/// Whether the datagram whose UDP header stands at `offset` begins with a client's Initial packet of a version that we know, or
/// of one that is greased.
///
/// Those of another version are no start: what they begin is found out by the server, and its answer leads to another one. Nor
/// are shorter ones, which a server does not answer.
#[inline(always)]
pub fn is_initial<P: Packet>(packet: &P, offset: usize) -> bool {
    let Some(&[first, a, b, c, d]) = packet.view::<[u8; 5]>(after(offset, UdpHdr::LEN)) else { return false };
    let version = u32::from_be_bytes([a, b, c, d]);
    let is_initial = first & FORM == FORM && [V1, V2].contains(&(version, first & TYPE))
        || first & LONG != 0 && version & GREASED_BITS == GREASED;
    is_initial && packet.view(offset).is_some_and(|udp: &UdpStart| udp.payload() >= LEAST)
}

/// Whether the datagram whose UDP header stands at `offset` begins with a packet of a handshake.
#[inline(always)]
pub fn is_handshake<P: Packet>(packet: &P, offset: usize) -> bool {
    packet.view::<[u8; 1]>(after(offset, UdpHdr::LEN)).is_some_and(|[first]| first & LONG != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Frame;

    /// Whether a datagram of the least length that begins so is a start.
    fn initial(payload: &[u8]) -> bool {
        of_length(payload, 1200)
    }

    fn of_length(payload: &[u8], length: u16) -> bool {
        let [high, low] = (length + 8).to_be_bytes();
        is_initial(&Frame::new(&[&[0, 0, 0, 0, high, low, 0, 0], payload].concat()), 0)
    }

    #[test]
    fn only_a_known_version_s_initial_starts_a_flow() {
        assert!(initial(&[0xc0, 0, 0, 0, 1, 8]));
        assert!(initial(&[0xcf, 0, 0, 0, 1]), "the low bits are protected");
        assert!(initial(&[0xd3, 0x6b, 0x33, 0x43, 0xcf]));
        for greased in [[0xc0, 0x1a, 0x2a, 0x3a, 0x4a], [0xb0, 0xfa, 0xfa, 0xfa, 0xfa]] {
            assert!(initial(&greased), "{greased:02x?}");
        }
        for other in [
            [0xe0, 0, 0, 0, 1],             // a Handshake packet
            [0xd0, 0, 0, 0, 1],             // 0-RTT
            [0xc0, 0x6b, 0x33, 0x43, 0xcf], // Retry in version 2
            [0x40, 0, 0, 0, 1],             // a short header
            [0x80, 0, 0, 0, 1],             // without the fixed bit
            [0xc0, 0, 0, 0, 0],             // version negotiation
            [0xc0, 0xff, 0, 0, 29],         // a draft
            [0x40, 0x1a, 0x2a, 0x3a, 0x4a], // a short header of any version
        ] {
            assert!(!initial(&other), "{other:02x?}");
        }
        assert!(!initial(&[0xc0, 0, 0, 0]), "cut off");
        assert!(!of_length(&[0xc0, 0, 0, 0, 1], 1199), "shorter than a client's");
    }

    #[test]
    fn packets_of_a_handshake_have_long_headers() {
        let handshake = |first| is_handshake(&Frame::new(&[0, 0, 0, 0, 0, 0, 0, 0, first]), 0);
        assert!([0xc0, 0xd0, 0xe0, 0x80].into_iter().all(handshake));
        assert!(![0x40, 0x7f, 0x00].into_iter().any(handshake));
        assert!(!is_handshake(&Frame::new(&[0; 8]), 0), "an empty datagram");
    }
}
