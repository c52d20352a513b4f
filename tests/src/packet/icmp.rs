//! ICMP (RFC 792) and ICMPv6 (RFC 4443) messages; the enclosing IP header selects the protocol.

use super::checksum::rfc_1071;

/// An ICMP or ICMPv6 message.
#[derive(Clone, Debug, Default)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    /// Bytes 4 to 7: identifier and sequence number, an MTU, or nothing.
    pub rest: [u8; 4],
    pub data: Vec<u8>,
    /// Set only to write a wrong value.
    pub checksum: Option<u16>,
}

impl Icmp {
    /// An echo request or reply, according to `kind`.
    pub fn echo(kind: u8, id: u16, sequence: u16, data: &[u8]) -> Self {
        let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
        Self { kind, rest: [a, b, c, d], data: data.to_vec(), ..Self::default() }
    }

    /// An error about the packet that starts with `quoted`.
    pub fn error(kind: u8, code: u8, mtu: u16, quoted: &[u8]) -> Self {
        let [a, b] = mtu.to_be_bytes();
        Self { kind, code, rest: [0, 0, a, b], data: quoted.to_vec(), ..Self::default() }
    }

    /// `pseudo` is empty for ICMP, whose checksum covers no pseudo-header.
    pub(super) fn bytes(&self, pseudo: &[u8]) -> Vec<u8> {
        let mut bytes = vec![self.kind, self.code, 0, 0];
        bytes.extend(self.rest);
        bytes.extend(&self.data);
        let checksum = self.checksum.unwrap_or_else(|| rfc_1071(&[pseudo, &bytes]));
        bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }
}
