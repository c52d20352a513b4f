//! TCP (RFC 9293) and UDP (RFC 768).

use super::checksum::rfc_1071;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

/// A TCP segment.
#[derive(Clone, Debug)]
pub struct Tcp {
    pub source: u16,
    pub destination: u16,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub flags: u8,
    pub window: u16,
    /// A multiple of four bytes.
    pub options: Vec<u8>,
    pub data: Vec<u8>,
    /// Length of the header in 32-bit words, set only to write a wrong value.
    pub data_offset: Option<u8>,
    /// Set only to write a wrong value.
    pub checksum: Option<u16>,
}

impl Tcp {
    /// The segment as the second one of its connection; a SYN stays the first one.
    #[must_use]
    pub fn in_order(self) -> Self {
        let next = u32::from(self.flags & SYN == 0);
        Self { sequence: Self::default().sequence + next, ..self }
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            source: 40_000,
            destination: 80,
            sequence: 0x0102_0304,
            acknowledgment: 0x0506_0708,
            flags: PSH | ACK,
            window: 0x1234,
            options: Vec::new(),
            data: b"hello, edge".to_vec(),
            data_offset: None,
            checksum: None,
        }
    }
}

impl Tcp {
    pub(super) fn bytes(&self, pseudo: &[u8]) -> Vec<u8> {
        let words = u8::try_from(5 + self.options.len() / 4).expect("options of a TCP header");
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgment.to_be_bytes());
        bytes.extend([self.data_offset.unwrap_or(words) << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.options);
        bytes.extend(&self.data);
        let checksum = self.checksum.unwrap_or_else(|| rfc_1071(&[pseudo, &bytes]));
        bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }
}

/// A UDP datagram.
#[derive(Clone, Debug)]
pub struct Udp {
    pub source: u16,
    pub destination: u16,
    pub data: Vec<u8>,
    /// Set only to write a wrong value.
    pub length: Option<u16>,
    /// Set only to write a wrong value.
    pub checksum: Option<u16>,
}

impl Default for Udp {
    fn default() -> Self {
        Self { source: 40_000, destination: 53, data: b"a question".to_vec(), length: None, checksum: None }
    }
}

impl Udp {
    pub(super) fn bytes(&self, pseudo: &[u8]) -> Vec<u8> {
        let length = self.length.unwrap_or_else(|| u16::try_from(8 + self.data.len()).expect("a datagram's length"));
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 2]);
        bytes.extend(&self.data);
        let checksum = self.checksum.unwrap_or_else(|| match rfc_1071(&[pseudo, &bytes]) {
            // 0 would mean that there is no checksum.
            0 => 0xffff,
            sum => sum,
        });
        bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }
}
