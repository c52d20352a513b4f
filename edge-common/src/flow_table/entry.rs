//! An entry: one flow, and the backend that serves it.

use super::{
    Birth, Life,
    words::{Native, Word, Words},
};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    abi::{BackendNumber, FlowEnds, FlowEntry, HashKey},
    hash::Hash,
};

/// A flow of either family from a client to a VIP. Words as read from the frame, in its byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The client's address; an IPv4 address is in the first word, and the second one is zero.
    pub client: [u64; 2],
    pub vip: [u64; 2],
    /// The client's port and the VIP's in the low half, IP version and protocol in the high half.
    pub ends: u64,
}

/// The backend of a flow, and the state kept with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    pub backend: BackendNumber,
    /// Time at which the flow was added, in 64 of the units of [`life`](super::life), modulo 2^16.
    pub since: u16,
    /// Number of the flow's slot among all slots when it was added; the slot may be another one by now.
    pub slot: u32,
    /// For a tentative flow, the sequence number that its client must quote; for others, one that it quoted not long ago.
    /// Stored in a word of its own.
    pub sequence: u32,
}

/// An entry of the table: one cache line.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Entry<W: Words> {
    /// A [`Life`].
    pub life: W::U64,
    client: [W::U64; 2],
    vip: [W::U64; 2],
    ends: W::U64,
    /// [`Served`] without `sequence`: backend, time and slot.
    pub(super) served: W::U64,
    /// The slot of the index that names the entry, or did, or is about to.
    pub(super) slot: W::U32,
    sequence: W::U32,
}

const _: () = assert!(size_of::<Entry<Native>>() == size_of::<FlowEntry>());

impl Flow {
    /// An IPv4 flow; `ports` as [`Head`](crate::wire::transport::Head) has them.
    #[inline(always)]
    pub const fn v4(client: [u8; 4], vip: [u8; 4], ports: u32, protocol: u8) -> Self {
        let (client, vip) = (u32::from_ne_bytes(client) as u64, u32::from_ne_bytes(vip) as u64);
        Self { client: [client, 0], vip: [vip, 0], ends: ends(ports, 4, protocol) }
    }

    /// An IPv6 flow; addresses in two words, in the order of their bytes.
    #[inline(always)]
    pub const fn v6(client: [u64; 2], vip: [u64; 2], ports: u32, protocol: u8) -> Self {
        Self { client, vip, ends: ends(ports, 6, protocol) }
    }

    /// A flow of either IP version.
    #[inline(always)]
    pub const fn new(client: [u64; 2], vip: [u64; 2], ports: u32, protocol: u8, v6: bool) -> Self {
        Self::of_version(client, vip, ports, protocol, if v6 { 6 } else { 4 })
    }

    /// A flow of an IP version given by its number.
    #[inline(always)]
    pub const fn of_version(client: [u64; 2], vip: [u64; 2], ports: u32, protocol: u8, version: u64) -> Self {
        Self { client, vip, ends: ends(ports, version, protocol) }
    }

    /// Hash for the flow's place in the index. It covers all parts of the flow, even where a client's flows all share one slot.
    #[inline(always)]
    pub const fn hash(&self, key: &HashKey) -> Hash {
        key.hash_words([self.client[0], self.client[1], self.vip[0], self.vip[1], self.ends])
    }

    /// The ends of the flow in readable form.
    pub const fn ends(&self) -> FlowEnds {
        let is_v4 = self.ends >> 40 == 4;
        FlowEnds {
            client: address(self.client, is_v4),
            client_port: (self.ends as u16).swap_bytes(),
            vip: address(self.vip, is_v4),
            port: ((self.ends >> 16) as u16).swap_bytes(),
            protocol: (self.ends >> 32) as u8,
        }
    }

    /// Whether the client's address is an IPv6 one.
    #[inline(always)]
    pub const fn is_v6(&self) -> bool {
        self.ends >> 40 == 6
    }

    pub const fn protocol(&self) -> u8 {
        (self.ends >> 32) as u8
    }

    /// The two ports, as [`Head`](crate::wire::transport::Head) has them.
    pub const fn ports(&self) -> u32 {
        self.ends as u32
    }
}

impl From<FlowEnds> for Flow {
    /// The flow between two addresses of one family.
    fn from(FlowEnds { client, client_port, vip, port, protocol }: FlowEnds) -> Self {
        let ports = u32::from(client_port.swap_bytes()) | u32::from(port.swap_bytes()) << 16;
        match (client, vip) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => Self::v4(client.octets(), vip.octets(), ports, protocol),
            (client, vip) => Self::v6(words(client), words(vip), ports, protocol),
        }
    }
}

#[inline(always)]
const fn ends(ports: u32, version: u64, protocol: u8) -> u64 {
    ports as u64 | (protocol as u64) << 32 | version << 40
}

/// An address of either family in the form of [`Flow`], given its bytes, of which an IPv4 address has the first four.
#[inline(always)]
pub const fn words_of(address: [u8; 16], v6: bool) -> [u64; 2] {
    // As sixteen bytes it would be read byte by byte.
    let all = u128::from_ne_bytes(address);
    let [first, second] = if cfg!(target_endian = "little") { [all, all >> 64] } else { [all >> 64, all] };
    if v6 { [first as u64, second as u64] } else { [first_word(first as u64), 0] }
}

/// The first four bytes of a word, as a word.
#[inline(always)]
const fn first_word(word: u64) -> u64 {
    if cfg!(target_endian = "little") { word & 0xffff_ffff } else { word >> 32 }
}

const fn address([high, low]: [u64; 2], is_v4: bool) -> IpAddr {
    if is_v4 {
        return IpAddr::V4(Ipv4Addr::from_octets((high as u32).to_ne_bytes()));
    }
    let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (high.to_ne_bytes(), low.to_ne_bytes());
    IpAddr::V6(Ipv6Addr::from_octets([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]))
}

fn words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => bytemuck::cast(address.to_ipv6_mapped().octets()),
        IpAddr::V6(address) => bytemuck::cast(address.octets()),
    }
}

impl Served {
    #[inline(always)]
    pub(super) const fn word(self) -> u64 {
        self.backend as u64 | (self.since as u64) << 16 | (self.slot as u64) << 32
    }

    #[inline(always)]
    const fn of(word: u64, sequence: u32) -> Self {
        Self { backend: word as u16, since: (word >> 16) as u16, slot: (word >> 32) as u32, sequence }
    }
}

impl<W: Words> Entry<W> {
    /// Whether the entry was this flow's when it was read.
    #[inline(always)]
    pub(super) fn is(&self, flow: &Flow) -> bool {
        self.ends.load() == flow.ends
            && self.client[0].load() == flow.client[0]
            && self.vip[0].load() == flow.vip[0]
            && self.client[1].load() == flow.client[1]
            && self.vip[1].load() == flow.vip[1]
    }

    #[inline(always)]
    pub fn read(&self) -> Served {
        Served::of(self.served.load(), self.sequence.load())
    }

    /// The flow, which is valid only if the entry's life is the same before and after the read.
    #[inline(always)]
    pub fn flow(&self) -> Flow {
        let pair = |words: &[W::U64; 2]| [words[0].load(), words[1].load()];
        Flow { client: pair(&self.client), vip: pair(&self.vip), ends: self.ends.load() }
    }

    /// All words of the entry.
    pub fn words(&self) -> FlowEntry {
        let [a, b] = [&self.client, &self.vip].map(|pair| [pair[0].load(), pair[1].load()]);
        let last = u64::from(self.slot.load()) | u64::from(self.sequence.load()) << 32;
        FlowEntry([self.life.load(), a[0], a[1], b[0], b[1], self.ends.load(), self.served.load(), last])
    }

    /// The slot of the index that names the entry, if any: bucket and slot in one number.
    pub fn slot(&self) -> u32 {
        self.slot.load()
    }

    /// Frees an entry that the caller has taken, in the life `taken`. Does nothing if the caller was too slow and has lost it.
    #[inline(always)]
    pub(super) fn give_back(&self, taken: Life) {
        self.life.replace_if(taken.0, taken.freed().0);
    }

    /// Stores a sequence number of a flow that was just touched.
    #[inline(always)]
    pub(super) fn remember(&self, sequence: u32) {
        self.sequence.store(sequence);
    }

    /// Stores a flow in an entry that the caller has taken.
    #[inline(always)]
    pub(super) fn fill(&self, flow: &Flow, birth: &Birth) {
        self.ends.store(flow.ends);
        self.client[0].store(flow.client[0]);
        self.client[1].store(flow.client[1]);
        self.vip[0].store(flow.vip[0]);
        self.vip[1].store(flow.vip[1]);
        self.served.store(birth.served.word());
        self.sequence.store(birth.served.sequence);
    }
}

#[cfg(not(target_arch = "bpf"))]
impl From<FlowEntry> for Entry<Native> {
    fn from(FlowEntry([life, a, b, c, d, ends, served, last]): FlowEntry) -> Self {
        Self {
            life: life.into(),
            client: [a.into(), b.into()],
            vip: [c.into(), d.into()],
            ends: ends.into(),
            served: served.into(),
            slot: (last as u32).into(),
            sequence: ((last >> 32) as u32).into(),
        }
    }
}
