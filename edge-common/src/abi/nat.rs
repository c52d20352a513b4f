//! Address translation: parameters of the table of translated flows, and the return routes to clients.

use bytemuck::{Pod, Zeroable};

use super::{Family, FlowHead, HashKey};

/// Maximum number of source addresses of translated packets, both IP versions together.
pub const NAT_SOURCES: usize = 16;

const _: () = assert!(NAT_SOURCES.is_power_of_two());

/// Number of return routes to clients; the first one stands for none.
pub const NAT_HOPS: u32 = 256;

/// A source address of translated packets. Its number is its index in [`NatHead::sources`], and entries refer to it by this
/// number, so it keeps the index as long as an entry does.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NatSource {
    /// Network order; IPv4 in the first four bytes, the rest zero.
    pub address: [u8; 16],
    /// A [`Family`]; 0 if there is no address.
    pub family: u32,
    /// Zero.
    pub reserved: u32,
}

/// The sources of new flows to backends of one IP version.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NatChoice {
    /// Numbers of the sources; only the first `count` are used.
    pub numbers: [u8; NAT_SOURCES],
    pub count: u32,
}

/// Parameters of the table of translated flows that the packet path reads. They are made with the table: the meaning of an
/// entry's place follows from them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct NatHead {
    pub flows: FlowHead,
    /// The table's own key, so that a configuration with another key moves no translated flow.
    pub hash_key: HashKey,
    /// The first port of a translated source, host order.
    pub first_port: u32,
    /// Number of ports from `first_port` on; 0 if nothing is translated.
    pub ports: u32,
    /// Number of entries for each port.
    pub lanes: u32,
    /// Zero.
    pub reserved: u32,
    pub sources: [NatSource; NAT_SOURCES],
    pub sources_v4: NatChoice,
    pub sources_v6: NatChoice,
}

impl NatHead {
    /// The sources of new flows to a backend of this family.
    #[inline(always)]
    pub const fn choice(&self, family: u8) -> &NatChoice {
        if family == Family::V4 as u8 { &self.sources_v4 } else { &self.sources_v6 }
    }
}

/// A return route to clients: the four words of a [`nat::Hop`](crate::nat::Hop).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NatHop(pub [u64; 4]);
