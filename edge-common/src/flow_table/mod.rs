//! A dense table of flows: an index of short tags, and beside it the entries, each one cache line.
//!
//! ```text
//! hash -> bucket of 16 slots (one line): tag | number -> entry (one line): life, flow, backend
//! ```
//!
//! A packet reads one line of the index and one entry, where a hash map costs it three lines and a call. The index and the
//! entries are arrays that are made once and mapped into user space's memory.
//!
//! An entry's life is one word that changes only by compare-exchange. There is no collector: a new flow takes an entry
//! whose flow is gone or, under pressure, the weakest one. An established flow that is not idle is never displaced. When no
//! entry can be taken, the table is full and rejects the insert.
//!
//! Any number of CPUs and user space use the table at once, and any of them may stop at any point:
//!
//! - A read of an entry is valid only if its life is the same before and after.
//! - A writer stores the slot's number in the entry before it stores the entry's number in the slot. So if the writer
//!   stops in between, the next writer that takes the entry finds the slot and erases it.
//! - Two CPUs that add the same flow at once each publish an entry and then search again; a CPU that finds another entry
//!   gives its own up. Both may do so. A rule for which of them wins would not help: while the winner is determined, one of
//!   the two entries may be gone.
//! - A writer that has taken an entry and does not finish within [`life::ABANDONED`] has lost it. If it goes on later, its
//!   flow is not added, but it may write into the next flow's entry, and leave a slot behind for good. A packet takes a
//!   microsecond, and user space only ever frees an entry, in one step.

pub mod words;
pub mod life;
pub mod entry;
mod index;
mod claim;

pub use self::{
    claim::{Anywhere, Claim},
    entry::{Entry, Flow, Served, words_of},
    index::SLOTS,
    life::{Certainty, Class, Life, Signal, Stage, UNIT, age_of, since, units},
    words::{Native, Word, Words},
};
pub use crate::abi::{Limits, Timeouts};
use crate::hash::Hash;

/// Memory of a table.
pub trait FlowMemory {
    type Words: Words;

    /// The [`SLOTS`] slots of a bucket, each of which is 0 or names an entry.
    fn bucket(&self, number: u32) -> Option<&[<Self::Words as Words>::U32]>;
    fn entry(&self, number: u32) -> Option<&Entry<Self::Words>>;

    /// Returns `value` as one that a verifier knows nothing of, so that it follows the code behind once and not for each
    /// possible value.
    #[inline(always)]
    fn merge_paths(&self, value: u64) -> u64 {
        value
    }
}

/// A table at the time of one packet.
#[derive(Clone, Copy)]
pub struct FlowTable<'a, M> {
    pub memory: &'a M,
    /// Number of entries less one; a power of two less one. There are twice as many slots, in at least two buckets.
    pub mask: u32,
    pub timeouts: &'a Timeouts,
    /// In the units of [`life`].
    pub now: u32,
}

/// An entry that was found, with its content read at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryState {
    /// The entry's number, which is its place.
    pub number: u32,
    pub life: Life,
    pub served: Served,
}

/// Initial state of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    pub stage: Stage,
    /// Class of its timeouts.
    pub class: Class,
    pub certainty: Certainty,
    pub served: Served,
}

/// Why a flow was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No entry could be taken.
    Full,
    /// Another CPU added the same flow at the same time, or took the same entry. Perhaps neither CPU added the flow; the
    /// next packet tries again.
    Raced,
}

impl<M: FlowMemory> FlowTable<'_, M> {
    /// The flow's entry. It may have been silent for any time: it is found until another flow takes its place.
    #[inline(always)]
    pub fn find(&self, flow: &Flow, hash: Hash) -> Option<EntryState> {
        self.search(flow, hash, NONE).map(|(found, _)| found)
    }

    /// Like [`Self::find`], with the entry itself.
    #[inline(always)]
    pub fn look(&self, flow: &Flow, hash: Hash) -> Option<(EntryState, &Entry<M::Words>)> {
        self.search(flow, hash, NONE)
    }

    /// The content of an entry of which only the number is known, if the entry is live.
    #[inline(always)]
    pub fn at(&self, number: u32) -> Option<(EntryState, &Entry<M::Words>, Flow)> {
        let entry = self.memory.entry(number)?;
        let life = Life(entry.life.load());
        let (flow, served) = (entry.flow(), entry.read());
        let after = Life(entry.life.load());
        if life.is_live() && after.is_same(life) {
            Some((EntryState { number, life: after, served }, entry, flow))
        } else {
            None
        }
    }

    /// [`Self::find`] and [`Self::touch`] in one: the flow's entry, marked as seen now.
    #[inline(always)]
    pub fn see(&self, flow: &Flow, hash: Hash, signal: Signal, sequence: u32) -> Option<EntryState> {
        let (found, entry) = self.search(flow, hash, NONE)?;
        if self.touch_entry(&found, entry, signal, sequence) { Some(found) } else { None }
    }

    /// Notes that a packet of a flow was seen now; false if the entry is not the flow's any more.
    ///
    /// Costs a write only if this changes the entry: once in a unit of time, or when the flow's stage changes. Then
    /// `sequence` is stored as well, unless the flow is tentative.
    #[inline(always)]
    pub fn touch(&self, found: &EntryState, signal: Signal, sequence: u32) -> bool {
        self.memory.entry(found.number).is_some_and(|entry| self.touch_entry(found, entry, signal, sequence))
    }

    #[inline(always)]
    fn touch_entry(&self, found: &EntryState, entry: &Entry<M::Words>, signal: Signal, sequence: u32) -> bool {
        self.advance(found, entry, |life| life.seen_again(life.stage().after(signal), self.now), Some(sequence))
    }

    /// Notes that the flow's packets contradict each other ([`Life::is_doubted`]), and returns the entry as it is then.
    #[inline(always)]
    pub fn doubt(&self, found: &EntryState) -> EntryState {
        let doubted = found.life.doubted();
        // If another packet of the flow was faster, the next one that contradicts the others notes it.
        let is_noted = doubted == found.life
            || self.memory.entry(found.number).is_some_and(|entry| entry.life.replace_if(found.life.0, doubted.0));
        EntryState { life: if is_noted { doubted } else { found.life }, ..*found }
    }

    /// Like [`Self::touch`], for a flow whose packets show more than a [`Signal`]: `after` gives the flow's life
    /// after this packet.
    #[inline(always)]
    pub fn advance(
        &self,
        found: &EntryState,
        entry: &Entry<M::Words>,
        after: impl Fn(Life) -> Life,
        sequence: Option<u32>,
    ) -> bool {
        let new = after(found.life);
        if new == found.life {
            return true;
        }
        if entry.life.replace_if(found.life.0, new.0) {
            // Only after the life was changed: a reader that still sees a tentative life has read the number that the
            // client must quote.
            if !new.is_tentative()
                && let Some(sequence) = sequence
            {
                entry.remember(sequence);
            }
            return true;
        }
        // Another packet of the flow was faster, or the flow's life is over.
        let life = Life(entry.life.load());
        if !life.is_same(found.life) {
            return false;
        }
        let new = after(life);
        // If this fails as well, a third packet was faster, and the entry may still be the flow's.
        new == life || entry.life.replace_if(life.0, new.0) || Life(entry.life.load()).is_same(found.life)
    }

    /// Stores another sequence number with a flow that was just touched.
    #[inline(always)]
    pub fn remember(&self, entry: &Entry<M::Words>, sequence: u32) {
        entry.remember(sequence);
    }

    /// Changes the backend of a flow that was just touched, so that its entry is not taken meanwhile; false if another
    /// packet has changed it already. The flow keeps the number that its client must quote.
    #[inline(always)]
    pub fn serve(&self, found: &EntryState, served: Served) -> bool {
        let entry = self.memory.entry(found.number);
        entry.is_some_and(|entry| entry.served.replace_if(found.served.word(), served.word()))
    }

    /// Adds a flow that was not found, at one of the claim's places; returns its entry's number.
    ///
    /// # Errors
    /// No entry could be taken, or another CPU is adding the same flow.
    #[inline(always)]
    pub fn insert(&self, flow: &Flow, hash: Hash, birth: &Birth, claim: &impl Claim<M::Words>) -> Result<u32, Refused> {
        let (number, entry, life) = self.claim(claim)?;
        entry.fill(flow, birth);
        if !self.publish(number, entry, hash) {
            entry.give_back(life);
            return Err(Refused::Full);
        }
        let born = life.born(birth.stage, birth.class, birth.certainty);
        if !entry.life.replace_if(life.0, born.0) {
            return Err(Refused::Raced);
        }
        if self.search(flow, hash, number).is_some() {
            self.end(number, born);
            return Err(Refused::Raced);
        }
        Ok(number)
    }

    /// Removes a flow.
    #[inline(always)]
    pub fn remove(&self, found: &EntryState) {
        self.end(found.number, found.life);
    }

    /// The flow and the content of an entry, if it is live: for user space, which goes through all entries.
    pub fn read(&self, number: u32) -> Option<(Flow, EntryState)> {
        // An entry that changed during the read is seen at the next pass.
        self.at(number).map(|(found, _, flow)| (flow, found))
    }

    /// Frees an entry whose life was `life`, if it still is, as a collector would. Its slot stays until the entry or the
    /// slot is needed, so that a collector that sleeps in between holds nothing.
    pub fn forget(&self, number: u32, life: Life) -> bool {
        life.is_live() && self.memory.entry(number).is_some_and(|entry| entry.life.replace_if(life.0, life.freed().0))
    }
}

/// Stands for no entry.
const NONE: u32 = u32::MAX;
