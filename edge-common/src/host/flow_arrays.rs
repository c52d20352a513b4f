//! A flow table's two arrays in plain memory, of any kind of words.

use crate::flow_table::{Entry, FlowMemory, SLOTS, Words};

/// A flow table's index and entries.
pub struct FlowArrays<W: Words> {
    pub buckets: Vec<Vec<W::U32>>,
    pub entries: Vec<Entry<W>>,
}

impl<W: Words<U32: Default, U64: Default> + Default> FlowArrays<W> {
    /// An empty table of so many entries, a power of two, at least 16.
    pub fn new(entries: usize) -> Self {
        Self::with_buckets(entries, entries / 8, SLOTS as usize)
    }

    /// The same with other buckets than the kernel's.
    pub fn with_buckets(entries: usize, buckets: usize, slots: usize) -> Self {
        let bucket = || (0..slots).map(|_| W::U32::default()).collect();
        Self {
            buckets: (0..buckets).map(|_| bucket()).collect(),
            entries: (0..entries).map(|_| Entry::default()).collect(),
        }
    }
}

impl<W: Words> FlowMemory for FlowArrays<W> {
    type Words = W;

    fn bucket(&self, number: u32) -> Option<&[W::U32]> {
        self.buckets.get(number as usize).map(Vec::as_slice)
    }

    fn entry(&self, number: u32) -> Option<&Entry<W>> {
        self.entries.get(number as usize)
    }
}
