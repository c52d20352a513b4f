//! Flows: their ends, and the records of fragmented packets.

use core::net::IpAddr;

use bytemuck::{Pod, Zeroable};

use super::BackendNumber;

/// A flow of IPv4 from a client to a VIP. Words of the frame, in the order of its bytes. Aligned so that two of them can be
/// written to the stack at once.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct FlowKeyV4 {
    /// The client's address.
    pub client: u32,
    pub vip: u32,
    /// The client's port and the VIP's, as [`Head`](crate::wire::transport::Head) has them.
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u32,
}

/// A flow of IPv6 from a client to a VIP. Words of the frame, in the order of its bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct FlowKeyV6 {
    /// The client's address.
    pub client: [u64; 2],
    pub vip: [u64; 2],
    /// The client's port and the VIP's, as [`Head`](crate::wire::transport::Head) has them.
    pub ports: u32,
    /// Upper-layer protocol number.
    pub protocol: u32,
}

/// A flow's ends, for people and for user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowEnds {
    pub client: IpAddr,
    pub client_port: u16,
    pub vip: IpAddr,
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// Where the later fragments of a packet go: to where the first one went.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FragmentRecord {
    /// When the first fragment came: nanoseconds of `CLOCK_MONOTONIC`.
    pub seen_ns: u64,
    pub backend: BackendNumber,
    /// The VIP's port, network order: with it the service is looked up anew. Of a packet that is translated the first byte says
    /// whether it becomes one of the other IP version.
    pub port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// Of a packet that is translated the number of its flow's entry, and one more, in three bytes; else zero. The highest bit says
    /// that it goes to the client.
    pub translated: [u8; 3],
}

impl FragmentRecord {
    const BACK: u32 = 1 << 23;

    /// The same of a packet that is translated by this entry. The last two of 2^23 entries are remembered as none.
    #[must_use]
    pub const fn of_entry(self, entry: u32, back: bool, crosses: bool) -> Self {
        let number = if entry < Self::BACK - 2 { entry.wrapping_add(1) | if back { Self::BACK } else { 0 } } else { 0 };
        let [a, b, c, _] = number.to_le_bytes();
        Self { translated: [a, b, c], port: [crosses as u8, 0], ..self }
    }

    /// The entry, whether the packet goes to the client, and whether it becomes one of the other IP version; `None` of a packet that
    /// is not translated.
    #[inline(always)]
    pub const fn entry(&self) -> Option<(u32, bool, bool)> {
        let [a, b, c] = self.translated;
        let number = u32::from_le_bytes([a, b, c, 0]);
        match (number & !Self::BACK).checked_sub(1) {
            Some(entry) => Some((entry, number & Self::BACK != 0, self.port[0] != 0)),
            None => None,
        }
    }
}
