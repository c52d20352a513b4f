//! QUIC (RFC 9000, RFC 9369), as far as forwarding needs it: which packets may start a flow.

use network_types::udp::UdpHdr;

use super::packet::{Packet, after};

/// Form and fixed bit of a long header, and the type.
const FORM: u8 = 0xc0;
const TYPE: u8 = 0x30;
/// Version 1, and what an Initial packet's type is in it.
const V1: (u32, u8) = (1, 0x00);
/// Version 2 likewise.
const V2: (u32, u8) = (0x6b33_43cf, 0x10);

/// Whether the datagram whose UDP header stands at `offset` begins with an Initial packet of a version that we know.
///
/// Those of another version are no start: what they begin is found out by the server, and its answer leads to another one.
#[inline(always)]
pub fn is_initial<P: Packet>(packet: &P, offset: usize) -> bool {
    let Some(&[first, a, b, c, d]) = packet.view::<[u8; 5]>(after(offset, UdpHdr::LEN)) else { return false };
    let version = u32::from_be_bytes([a, b, c, d]);
    first & FORM == FORM && [V1, V2].contains(&(version, first & TYPE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Frame;

    fn initial(payload: &[u8]) -> bool {
        is_initial(&Frame::new(&[&[0; 8][..], payload].concat()), 0)
    }

    #[test]
    fn only_a_known_version_s_initial_starts_a_flow() {
        assert!(initial(&[0xc0, 0, 0, 0, 1, 8]));
        assert!(initial(&[0xcf, 0, 0, 0, 1]), "the low bits are protected");
        assert!(initial(&[0xd3, 0x6b, 0x33, 0x43, 0xcf]));
        for other in [
            [0xe0, 0, 0, 0, 1],             // a Handshake packet
            [0xd0, 0, 0, 0, 1],             // 0-RTT
            [0xc0, 0x6b, 0x33, 0x43, 0xcf], // Retry in version 2
            [0x40, 0, 0, 0, 1],             // a short header
            [0x80, 0, 0, 0, 1],             // without the fixed bit
            [0xc0, 0, 0, 0, 0],             // version negotiation
            [0xc0, 0xff, 0, 0, 29],         // a draft
        ] {
            assert!(!initial(&other), "{other:02x?}");
        }
        assert!(!initial(&[0xc0, 0, 0, 0]), "cut off");
    }
}
