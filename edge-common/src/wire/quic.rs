//! QUIC (RFC 9000, RFC 9369), as far as forwarding needs it: which packets may start a flow.

use network_types::udp::UdpHdr;

use super::{
    packet::{Packet, after},
    udp::UdpStart,
};

/// Bits of the first byte: form and fixed bit of a long header, the form alone, and the type.
const FORM: u8 = 0xc0;
const LONG: u8 = 0x80;
const TYPE: u8 = 0x30;
/// Bits of the longest connection ID (RFC 9000, section 17.2).
const LONGEST_ID: u32 = 160;
/// Version 1, and the type of an Initial packet in it.
const V1: (u32, u8) = (1, 0x00);
/// Version 2, and the type of an Initial packet in it.
const V2: (u32, u8) = (0x6b33_43cf, 0x10);
/// Type of a Handshake packet, counted from that of an Initial packet; 0-RTT is between them, and Retry comes after both.
const HANDSHAKE: u8 = 0x20;

/// Greased versions, which clients send to learn the versions of a server (RFC 9000, section 15).
const GREASED: u32 = 0x0a0a_0a0a;
const GREASED_BITS: u32 = 0x0f0f_0f0f;
/// The smallest payload of a datagram with a client's Initial packet (RFC 9000, section 14.1).
const LEAST: u16 = 1200;

/// Whether the datagram whose UDP header is at `offset` begins with a client's Initial packet of a known version, or of a
/// greased one.
///
/// Initial packets of other versions do not start a flow: the server decides about them, and its answer leads to another
/// version. Neither do shorter datagrams, which a server does not answer.
#[inline(always)]
pub fn is_initial<P: Packet>(packet: &P, offset: usize) -> bool {
    let Some(&[first, a, b, c, d]) = packet.view::<[u8; 5]>(after(offset, UdpHdr::LEN)) else { return false };
    let version = u32::from_be_bytes([a, b, c, d]);
    let is_initial = first & FORM == FORM && [V1, V2].contains(&(version, first & TYPE))
        || first & LONG != 0 && version & GREASED_BITS == GREASED;
    is_initial && packet.view(offset).is_some_and(|udp: &UdpStart| udp.payload() >= LEAST)
}

/// Whether the datagram whose UDP header is at `offset` begins with a packet of a handshake.
#[inline(always)]
pub fn is_handshake<P: Packet>(packet: &P, offset: usize) -> bool {
    packet.view::<[u8; 1]>(after(offset, UdpHdr::LEN)).is_some_and(|[first]| first & LONG != 0)
}

/// A packet's destination connection ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// Offset in the frame.
    pub at: usize,
    /// Length in bits; an upper bound where the packet does not contain the length.
    pub bits: u32,
    /// Whether the server has made it. In the first packets of a client, it is a random one of the client's own.
    pub is_servers: bool,
}

/// The connection ID of the first packet in the datagram whose UDP header is at `offset`; `None` if there is none, or if
/// the packet is of an unknown version or of a type that no client sends.
#[inline(always)]
pub fn connection_id<P: Packet>(packet: &P, offset: usize) -> Option<ConnectionId> {
    let payload = after(offset, UdpHdr::LEN);
    let &[first, a, b, c, d, length] = packet.view::<[u8; 6]>(payload)?;
    if first & LONG == 0 {
        return Some(ConnectionId { at: after(payload, 1), bits: LONGEST_ID, is_servers: true });
    }
    let version = u32::from_be_bytes([a, b, c, d]);
    let initial = if version == V2.0 { V2.1 } else { V1.1 };
    let kind = first.wrapping_sub(initial) & TYPE;
    let is_known = [V1.0, V2.0].contains(&version) && kind <= HANDSHAKE;
    let bits = u32::from(length).wrapping_mul(8);
    is_known.then_some(ConnectionId { at: after(payload, 6), bits, is_servers: kind == HANDSHAKE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Frame;

    /// Whether a datagram of the smallest length that begins like this starts a flow.
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
    fn a_connection_id_is_the_server_s_where_it_has_answered() {
        let id = |payload: &[u8]| connection_id(&Frame::new(&[&[0; 8], payload].concat()), 0);
        let short = ConnectionId { at: 9, bits: 160, is_servers: true };
        for first in [0x40, 0x00, 0x7f] {
            assert_eq!(id(&[first, 1, 2, 3, 4, 5]), Some(short));
        }
        let long = |is_servers| Some(ConnectionId { at: 14, bits: 64, is_servers });
        for (first, version, expected) in [
            (0xc0, 1, long(false)),           // Initial
            (0xd0, 1, long(false)),           // 0-RTT
            (0xe0, 1, long(true)),            // Handshake
            (0xf0, 1, None),                  // Retry, which no client sends
            (0xd0, 0x6b33_43cf, long(false)), // the same of version 2
            (0xe0, 0x6b33_43cf, long(false)),
            (0xf0, 0x6b33_43cf, long(true)),
            (0xc0, 0x6b33_43cf, None),
            (0xe0, 0, None),
            (0xe0, 0xff00_001d, None), // a draft
            (0xe0, 0x1a2a_3a4a, None), // greased
        ] {
            let [a, b, c, d] = u32::to_be_bytes(version);
            assert_eq!(id(&[first, a, b, c, d, 8]), expected, "{first:#x} {version:#x}");
        }
        assert_eq!(id(&[0x40, 1, 2, 3, 4]), None, "cut off");
    }

    #[test]
    fn packets_of_a_handshake_have_long_headers() {
        let handshake = |first| is_handshake(&Frame::new(&[0, 0, 0, 0, 0, 0, 0, 0, first]), 0);
        assert!([0xc0, 0xd0, 0xe0, 0x80].into_iter().all(handshake));
        assert!(![0x40, 0x7f, 0x00].into_iter().any(handshake));
        assert!(!is_handshake(&Frame::new(&[0; 8]), 0), "an empty datagram");
    }
}
