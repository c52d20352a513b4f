//! Flows: their keys, and the records of fragmented packets.

use core::net::IpAddr;

use bytemuck::{Pod, Zeroable};

use super::BackendNumber;

/// An IPv4 flow from a client to a VIP. Words as read from the frame, in its byte order. Aligned so that two of them can be
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

/// An IPv6 flow from a client to a VIP. Words as read from the frame, in its byte order.
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

/// The two ends of a flow, for output and for user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowEnds {
    pub client: IpAddr,
    pub client_port: u16,
    pub vip: IpAddr,
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// Where the first fragment of a packet went, so that its later fragments follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FragmentRecord {
    /// Arrival of the first fragment: nanoseconds of `CLOCK_MONOTONIC`.
    pub seen_ns: u64,
    pub backend: BackendNumber,
    /// The VIP's port, network order, with which later fragments look their service up. In a packet that is translated, the
    /// first byte is 1 if the packet becomes one of the other IP version.
    pub port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// For a packet that is translated, the number of its flow's entry plus one, in three bytes, lowest first; else zero.
    /// The highest bit is set if the packet goes to the client.
    pub translated: [u8; 3],
}

impl FragmentRecord {
    const BACK: u32 = 1 << 23;

    /// The same record for a packet that is translated by `entry`. The last two of 2^23 entries can't be recorded, and
    /// count as none.
    #[must_use]
    pub const fn of_entry(self, entry: u32, back: bool, crosses: bool) -> Self {
        let number = if entry < Self::BACK - 2 { entry.wrapping_add(1) | if back { Self::BACK } else { 0 } } else { 0 };
        let [a, b, c, _] = number.to_le_bytes();
        Self { translated: [a, b, c], port: [crosses as u8, 0], ..self }
    }

    /// The entry, whether the packet goes to the client, and whether it becomes one of the other IP version; `None` for a
    /// packet that is not translated.
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
