//! An entry: one flow, and who serves it.

use super::{
    Birth, Life,
    words::{Native, Word, Words},
};
use crate::abi::{BackendNumber, FlowKeyV4, FlowKeyV6};

/// A flow of either family from a client to a VIP. Words of the frame, in the order of its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The client's address; of IPv4 the first word alone.
    pub client: [u64; 2],
    pub vip: [u64; 2],
    /// The client's port and the VIP's in the low half, IP version and protocol in the high one.
    pub ends: u64,
}

/// Who serves a flow, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    pub backend: BackendNumber,
    pub service: u16,
    /// Of the service.
    pub slot: u32,
    /// Of a tentative flow, what the client must quote; in a word of its own, which never changes.
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
    /// Backend, service and slot.
    pub(super) served: W::U64,
    /// Where in the index it is named, or was, or is about to be.
    pub(super) slot: W::U32,
    sequence: W::U32,
}

const _: () = assert!(size_of::<Entry<Native>>() == 64);

impl From<&FlowKeyV4> for Flow {
    #[inline(always)]
    fn from(key: &FlowKeyV4) -> Self {
        let client = [key.client.into(), 0];
        Self { client, vip: [key.vip.into(), 0], ends: ends(key.ports, 4, key.protocol) }
    }
}

impl From<&FlowKeyV6> for Flow {
    #[inline(always)]
    fn from(key: &FlowKeyV6) -> Self {
        Self { client: key.client, vip: key.vip, ends: ends(key.ports, 6, key.protocol) }
    }
}

#[inline(always)]
const fn ends(ports: u32, version: u64, protocol: u32) -> u64 {
    ports as u64 | (protocol as u64) << 32 | version << 40
}

impl Served {
    #[inline(always)]
    pub(super) const fn word(self) -> u64 {
        self.backend as u64 | (self.service as u64) << 16 | (self.slot as u64) << 32
    }

    #[inline(always)]
    const fn of(word: u64, sequence: u32) -> Self {
        Self { backend: word as u16, service: (word >> 16) as u16, slot: (word >> 32) as u32, sequence }
    }
}

impl<W: Words> Entry<W> {
    /// Whether it was this flow's when it was read.
    #[inline(always)]
    pub(super) fn is(&self, flow: &Flow) -> bool {
        self.ends.load() == flow.ends
            && self.client[0].load() == flow.client[0]
            && self.vip[0].load() == flow.vip[0]
            && self.client[1].load() == flow.client[1]
            && self.vip[1].load() == flow.vip[1]
    }

    #[inline(always)]
    pub(super) fn read(&self) -> Served {
        Served::of(self.served.load(), self.sequence.load())
    }

    /// The flow, for user space: it counts only if the entry's life is the same before and after.
    pub fn flow(&self) -> Flow {
        let pair = |words: &[W::U64; 2]| [words[0].load(), words[1].load()];
        Flow { client: pair(&self.client), vip: pair(&self.vip), ends: self.ends.load() }
    }

    /// Where in the index it is named, if it is: bucket and slot in one number.
    pub fn slot(&self) -> u32 {
        self.slot.load()
    }

    /// Frees it; only by whoever has taken it, in the life `taken`. Nothing happens if that was too slow.
    #[inline(always)]
    pub(super) fn give_back(&self, taken: Life) {
        self.life.replace_if(taken.0, taken.freed().0);
    }

    /// Only by whoever has taken the entry.
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
