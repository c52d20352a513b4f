//! Address translation: what packets need to know of the table of translated flows, and the ways back to clients.

use bytemuck::{Pod, Zeroable};

use super::{Family, FlowHead, HashKey};

/// Addresses at most that translated packets have as their source, of both IP versions together.
pub const NAT_SOURCES: usize = 16;

const _: () = assert!(NAT_SOURCES.is_power_of_two());

/// Ways back to clients that packets remember; the first one stands for none.
pub const NAT_HOPS: u32 = 256;

/// An address that translated packets have as their source. Its number is its place in [`NatHead::sources`], by which entries
/// name it, so that it keeps the place for as long as one does.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NatSource {
    /// Network order; IPv4 in the first four bytes, the rest zero.
    pub address: [u8; 16],
    /// A [`Family`]; 0: no address.
    pub family: u32,
    /// Zero.
    pub reserved: u32,
}

/// The sources of new flows to backends of one IP version.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NatChoice {
    /// Their numbers, of which the first `count` count.
    pub numbers: [u8; NAT_SOURCES],
    pub count: u32,
}

/// What packets need to know of the table of translated flows. It is made with the table: what an entry's place says follows
/// from it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct NatHead {
    pub flows: FlowHead,
    /// Of its own, so that a configuration with another key moves no translated flow.
    pub hash_key: HashKey,
    /// The first port of a translated source, host order.
    pub first_port: u32,
    /// How many ports from there on are used; 0: nothing is translated.
    pub ports: u32,
    /// How many entries each port has.
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

/// A way back to clients: four words, as [`nat::Hop`](crate::nat::Hop) has them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NatHop(pub [u64; 4]);
