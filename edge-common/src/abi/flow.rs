//! Flows: keys, and the records of flow table and fragment table.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

impl FlowKeyV4 {
    pub const fn ends(&self) -> FlowEnds {
        let (client_port, port) = ports(self.ports);
        FlowEnds {
            client: IpAddr::V4(Ipv4Addr::from_octets(self.client.to_ne_bytes())),
            client_port,
            vip: IpAddr::V4(Ipv4Addr::from_octets(self.vip.to_ne_bytes())),
            port,
            protocol: self.protocol as u8,
        }
    }
}

impl FlowKeyV6 {
    pub const fn ends(&self) -> FlowEnds {
        let (client_port, port) = ports(self.ports);
        FlowEnds {
            client: address(self.client),
            client_port,
            vip: address(self.vip),
            port,
            protocol: self.protocol as u8,
        }
    }
}

/// The two ports of a word of them, in host order.
const fn ports(word: u32) -> (u16, u16) {
    ((word as u16).swap_bytes(), ((word >> 16) as u16).swap_bytes())
}

const fn address([high, low]: [u64; 2]) -> IpAddr {
    let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (high.to_ne_bytes(), low.to_ne_bytes());
    IpAddr::V6(Ipv6Addr::from_octets([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]))
}

/// Where a recorded flow goes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowRecord {
    /// When its last packet came: nanoseconds of `CLOCK_MONOTONIC`.
    pub seen_ns: u64,
    /// When it was recorded: seconds of the same clock.
    pub recorded_s: u32,
    pub backend: BackendNumber,
    /// [`Hash::fingerprint`](crate::lookup::hash::Hash::fingerprint) of the flow, in one word with the backend. Its place may be given to another
    /// flow between a packet's search for it and the reading of it; then this is not what was looked for.
    pub fingerprint: u16,
}

impl FlowRecord {
    #[inline(always)]
    pub const fn new(backend: BackendNumber, fingerprint: u16, now_ns: u64) -> Self {
        Self { seen_ns: now_ns, recorded_s: (now_ns / 1_000_000_000) as u32, backend, fingerprint }
    }
}

/// Where the later fragments of a packet go: to where the first one went.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FragmentRecord {
    /// When the first fragment came: nanoseconds of `CLOCK_MONOTONIC`.
    pub seen_ns: u64,
    pub backend: BackendNumber,
    /// The VIP's port, network order: with it the service is looked up anew.
    pub port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 3],
}
