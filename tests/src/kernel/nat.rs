//! The kernel's table of translated flows, mapped into this process.

use std::{array, sync::atomic::AtomicU32};

use aya::Ebpf;
use edge_common::{
    abi::{FlowBucket, NAT_HOPS, NatHead, NatHop, map},
    flow_table::{Entry, Word},
    host::{FlowArrays, Memory, Nat},
    maps::HopWords,
};
use memmap2::MmapRaw;

use super::flows::{MappedFlows, earlier, later, mapped, read, shifted, write};

/// The four maps of the table of translated flows.
pub(super) struct NatInKernel {
    head: MmapRaw,
    arrays: MappedFlows,
    hops: MmapRaw,
}

impl NatInKernel {
    /// The table in maps that were loaded with this number of entries.
    pub(super) fn new(object: &Ebpf, entries: u32) -> Self {
        Self {
            head: mapped(object, map::NAT_HEAD, size_of::<NatHead>()),
            arrays: MappedFlows::new(object, map::NAT_INDEX, map::NAT_FLOWS, entries),
            hops: mapped(object, map::NAT_HOPS, NAT_HOPS as usize * size_of::<NatHop>()),
        }
    }

    /// Copies the table of `memory`, whose clock is another one; flows keep their ages.
    pub(super) fn copy(&self, memory: &Memory) {
        let Nat { head, arrays, hops } = &memory.nat;
        let later = later(memory);
        write(&self.head, &[*head]);
        let bucket = |slots: &Vec<AtomicU32>| FlowBucket(array::from_fn(|at| Word::load(&slots[at])));
        write(&self.arrays.index, &arrays.buckets.iter().map(bucket).collect::<Vec<_>>());
        let entry = |entry: &Entry<_>| shifted(entry.words(), later, false);
        write(&self.arrays.entries, &arrays.entries.iter().map(entry).collect::<Vec<_>>());
        let hop = |hop: &HopWords| NatHop(hop.each_ref().map(Word::load));
        write(&self.hops, &hops.iter().map(hop).collect::<Vec<_>>());
    }

    /// A copy of the table, with times by the clock of `memory`.
    pub(super) fn read(&self, memory: &Memory) -> Nat {
        let earlier = earlier(memory);
        let [head]: [NatHead; 1] = read(&self.head).try_into().expect("one head");
        let bucket = |FlowBucket(slots): FlowBucket| slots.map(Into::into).into();
        let buckets = read(&self.arrays.index).into_iter().map(bucket).collect();
        let entry = |entry| Entry::from(shifted(entry, earlier, false));
        let entries = read(&self.arrays.entries).into_iter().map(entry).collect();
        let hop = |NatHop(words): NatHop| words.map(Into::into);
        Nat { head, arrays: FlowArrays { buckets, entries }, hops: read(&self.hops).into_iter().map(hop).collect() }
    }
}
