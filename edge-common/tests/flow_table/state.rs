//! A table in memory, its flows, and what must hold of it whenever nobody is at work in it.

use std::collections::BTreeMap;

use edge_common::{
    abi::HashKey,
    flow_table::{
        Anywhere, Birth, Certainty, Class, Entry, EntryState, Flow, FlowTable, Life, Refused, SLOTS, Served, Stage,
        Timeouts, Word as _, Words,
    },
    hash::Hash,
    host::FlowArrays,
};

/// Of half-open, established, closed and reset flows, in units.
pub(crate) const TIMEOUTS: Timeouts = Timeouts::all([40, 1000, 16, 40]);

pub(crate) const CLASS: Class = Class::new(3).expect("a class");

const KEY: HashKey = HashKey([
    0x9e37_79b9,
    0x7f4a_7c15,
    0xf39c_c060,
    0x5ced_c834,
    0x1082_276b,
    0xf3a2_7251,
    0xf86c_6a11,
    0xd0c1_8e95,
    0x2767_f0b1,
    0x53d2_7b7f,
    0x0347_045b,
    0x5bf1_827f,
]);

/// A table, and its clock.
pub(crate) struct State<W: Words> {
    pub(crate) arrays: FlowArrays<W>,
    pub(crate) now: u32,
}

/// The flow of this number.
pub(crate) fn flow(number: u32) -> Flow {
    Flow::v4((0x0a00_0000 | number >> 16).to_be_bytes(), [192, 0, 2, 1], number << 16 | 0xbb01, 6)
}

pub(crate) fn hash(number: u32) -> Hash {
    KEY.hash_v4((0x0a00_0000 | number >> 16).to_be_bytes(), number << 16 | 0xbb01)
}

/// Who serves the flow of this number.
pub(crate) fn served(number: u32) -> Served {
    Served { backend: (number % 0xffff) as u16, since: (number % 0xffff) as u16, slot: number, sequence: !number }
}

pub(crate) fn birth(number: u32, stage: Stage) -> Birth {
    let certainty = if stage == Stage::HalfOpen { Certainty::Tentative } else { Certainty::Certain };
    Birth { stage, class: CLASS, certainty, served: served(number) }
}

impl<W: Words<U32: Default, U64: Default> + Default> State<W> {
    pub(crate) fn new(entries: u32) -> Self {
        Self { arrays: FlowArrays::new(entries as usize), now: 1000 }
    }

    /// One whose index is so small that it is full before the entries are.
    pub(crate) fn with_few_slots(entries: u32) -> Self {
        Self { arrays: FlowArrays::with_buckets(entries as usize, entries as usize / 8, 4), now: 1000 }
    }

    pub(crate) fn entries(&self) -> u32 {
        u32::try_from(self.arrays.entries.len()).expect("a small table")
    }

    pub(crate) fn table(&self) -> FlowTable<'_, FlowArrays<W>> {
        FlowTable { memory: &self.arrays, mask: self.entries() - 1, timeouts: &TIMEOUTS, now: self.now }
    }

    pub(crate) fn find(&self, number: u32) -> Option<EntryState> {
        self.table().find(&flow(number), hash(number))
    }

    pub(crate) fn insert(&self, number: u32, stage: Stage) -> Result<u32, Refused> {
        let places = Anywhere::new(hash(number), self.table().mask);
        self.table().insert(&flow(number), hash(number), &birth(number, stage), &places)
    }

    pub(crate) fn life(&self, number: u32) -> Life {
        Life(self.arrays.entries[number as usize].life.load())
    }

    /// The live flows and where they are; panics if one is there twice.
    pub(crate) fn flows(&self) -> BTreeMap<Flow, u32> {
        let mut flows = BTreeMap::new();
        for (number, entry) in self.live() {
            assert_eq!(flows.insert(entry.flow(), number), None, "a flow with two entries");
        }
        flows
    }

    fn live(&self) -> impl Iterator<Item = (u32, &Entry<W>)> {
        (0..).zip(&self.arrays.entries).filter(|(_, entry)| Life(entry.life.load()).is_live())
    }

    /// What holds whenever nobody is at work, and wherever somebody was stopped: no flow has two entries, each has its slot, and
    /// each slot is named by the entry that it names.
    pub(crate) fn check(&self) {
        self.flows();
        let mask = self.table().mask;
        let mut named = vec![0; self.arrays.entries.len()];
        for (bucket, slots) in (0..).zip(&self.arrays.buckets) {
            for (slot, there) in (0..).zip(slots).filter(|(_, slot)| slot.load() != 0) {
                let number = (there.load() & mask) as usize;
                named[number] += 1;
                assert_eq!(
                    self.arrays.entries[number].slot(),
                    bucket * SLOTS + slot,
                    "a slot that its entry does not know"
                );
            }
        }
        for (number, _) in self.live() {
            assert_eq!(named[number as usize], 1, "slots of entry {number}, which lives");
        }
    }

    /// The same, and nothing is left of anybody who was stopped: nothing busy, and each slot is a live flow's.
    pub(crate) fn check_clean(&self) {
        self.check();
        assert!((0..self.entries()).all(|number| !self.life(number).is_busy()), "an entry that stayed busy");
        let used = self.arrays.buckets.iter().flatten().filter(|slot| slot.load() != 0).count();
        assert_eq!(used, self.live().count(), "slots beside those of live flows");
    }
}
