//! Ethernet II frames with VLAN tags (IEEE 802.3, 802.1Q).

use super::ip::Ip;

/// A VLAN tag.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    /// EtherType of the tag: 0x8100, or 0x88a8 for the outer one of two.
    pub ether_type: u16,
    /// 0 to 7.
    pub priority: u8,
    pub drop_eligible: bool,
    /// 0 to 4,095.
    pub id: u16,
}

impl Tag {
    pub const fn new(id: u16) -> Self {
        Self { ether_type: 0x8100, priority: 0, drop_eligible: false, id }
    }

    pub const fn service(id: u16) -> Self {
        Self { ether_type: 0x88a8, ..Self::new(id) }
    }

    /// The tag with this priority; `drop_eligible` marks frames that may be dropped first.
    #[must_use]
    pub const fn with_priority(self, priority: u8, drop_eligible: bool) -> Self {
        Self { priority, drop_eligible, ..self }
    }
}

/// The payload of a frame.
#[derive(Clone, Debug)]
pub enum Network {
    Ip(Ip),
    /// An EtherType, and the bytes that follow it.
    Other(u16, Vec<u8>),
}

/// A frame, without its check sequence.
#[derive(Clone, Debug)]
pub struct Frame {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    /// Outermost first.
    pub tags: Vec<Tag>,
    pub network: Network,
    /// Bytes behind the packet, such as padding.
    pub trailer: Vec<u8>,
}

impl Frame {
    pub const fn new(destination: [u8; 6], source: [u8; 6], ip: Ip) -> Self {
        Self { destination, source, tags: Vec::new(), network: Network::Ip(ip), trailer: Vec::new() }
    }

    #[must_use]
    pub fn tagged(mut self, tags: &[Tag]) -> Self {
        self.tags = tags.to_vec();
        self
    }

    /// The frame padded with zeros to Ethernet's minimum of 60 bytes.
    #[must_use]
    pub fn padded(mut self) -> Self {
        self.trailer = vec![0; 60usize.saturating_sub(self.bytes().len())];
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.destination, self.source].concat();
        for tag in &self.tags {
            bytes.extend(tag.ether_type.to_be_bytes());
            let tci = u16::from(tag.priority) << 13 | u16::from(tag.drop_eligible) << 12 | tag.id;
            bytes.extend(tci.to_be_bytes());
        }
        match &self.network {
            Network::Ip(ip) => {
                let ether_type: u16 = if ip.source.is_ipv4() { 0x0800 } else { 0x86dd };
                bytes.extend(ether_type.to_be_bytes());
                bytes.extend(ip.bytes());
            }
            Network::Other(ether_type, payload) => {
                bytes.extend(ether_type.to_be_bytes());
                bytes.extend(payload);
            }
        }
        bytes.extend(&self.trailer);
        bytes
    }
}
