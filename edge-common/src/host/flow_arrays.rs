//! The two arrays of a flow table in plain memory, for any kind of words.

use std::{collections::BTreeMap, fmt, sync::atomic::AtomicU32};

use crate::{
    abi::{BackendNumber, FlowHead, HashKey, Timeouts, Tracking},
    flow_table::{
        Anywhere, Birth, Certainty, Entry, EntryState, Flow, FlowMemory, FlowTable, Native, Refused, SLOTS, Served,
        Stage, Word, Words,
    },
};

/// A flow table's index and entries.
pub struct FlowArrays<W: Words> {
    pub buckets: Vec<Vec<W::U32>>,
    pub entries: Vec<Entry<W>>,
}

impl<W: Words<U32: Default, U64: Default> + Default> FlowArrays<W> {
    /// An empty table of `entries` entries, a power of two.
    pub fn new(entries: usize) -> Self {
        Self::with_buckets(entries, (entries / 8).max(2), SLOTS as usize)
    }

    /// An empty table whose number of buckets and slots per bucket may differ from the kernel's.
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

/// The flow table of a [`Memory`](super::Memory).
pub struct Flows {
    pub head: FlowHead,
    pub arrays: FlowArrays<Native>,
}

/// A flow's record in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowRecord {
    pub backend: BackendNumber,
    /// When the flow was recorded, in the form of the table, and when it was last seen, in units.
    pub since: u16,
    pub seen: u32,
    pub stage: Stage,
    /// Whether only one packet was seen of the flow, which may be forged.
    pub once: bool,
    /// For a flow of which only the start was seen, the number that its next packet must quote.
    pub tentative: Option<u32>,
}

impl Flows {
    /// An empty table of `entries` entries, a power of two.
    pub fn new(entries: usize) -> Self {
        let mask = u32::try_from(entries - 1).expect("a table of entries");
        Self { head: FlowHead { timeouts: Timeouts::STANDARD, mask, reserved: 0 }, arrays: FlowArrays::new(entries) }
    }

    /// The table at the time `now`, in units.
    pub fn table(&self, now: u32) -> FlowTable<'_, FlowArrays<Native>> {
        FlowTable { memory: &self.arrays, mask: self.head.mask, timeouts: &self.head.timeouts, now }
    }

    /// All records.
    pub fn records(&self) -> BTreeMap<Flow, FlowRecord> {
        let table = self.table(0);
        (0..=self.head.mask).filter_map(|number| table.read(number)).map(|(flow, found)| (flow, found.into())).collect()
    }

    /// Adds a record, at the time at which its flow was last seen.
    ///
    /// # Errors
    /// If there is no room.
    pub fn put(&self, key: &HashKey, tracking: Tracking, flow: &Flow, record: &FlowRecord) -> Result<(), Refused> {
        let FlowRecord { backend, since, seen, stage, once, tentative } = *record;
        let served = Served { backend, since, slot: 0, sequence: tentative.unwrap_or_default() };
        let certainty = match (tentative, once) {
            (Some(_), _) => Certainty::Tentative,
            (None, true) => Certainty::Once,
            (None, false) => Certainty::Certain,
        };
        let birth = Birth { stage, class: tracking.into(), certainty, served };
        let (table, hash) = (self.table(seen), flow.hash(key));
        table.insert(flow, hash, &birth, &Anywhere::new(hash, self.head.mask)).map(|_| ())
    }

    /// Removes a flow.
    pub fn remove(&self, key: &HashKey, flow: &Flow) {
        let table = self.table(0);
        if let Some(found) = table.find(flow, flow.hash(key)) {
            table.remove(&found);
        }
    }

    /// Removes all flows.
    pub fn clear(&mut self) {
        self.arrays = FlowArrays::new(self.arrays.entries.len());
    }
}

impl From<EntryState> for FlowRecord {
    fn from(EntryState { life, served, .. }: EntryState) -> Self {
        let tentative = life.is_tentative().then_some(served.sequence);
        let (once, stage) = (life.is_seen_once(), life.stage());
        Self { backend: served.backend, since: served.since, seen: life.seen(), stage, once, tentative }
    }
}

impl Default for Flows {
    fn default() -> Self {
        Self::new(1 << 12)
    }
}

impl Clone for Flows {
    fn clone(&self) -> Self {
        Self { head: self.head, arrays: self.arrays.clone() }
    }
}

impl Clone for FlowArrays<Native> {
    fn clone(&self) -> Self {
        let slots = |bucket: &Vec<AtomicU32>| bucket.iter().map(|slot| Word::load(slot).into()).collect();
        Self {
            buckets: self.buckets.iter().map(slots).collect(),
            entries: self.entries.iter().map(|entry| Entry::from(entry.words())).collect(),
        }
    }
}

impl fmt::Debug for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.records()).finish()
    }
}
