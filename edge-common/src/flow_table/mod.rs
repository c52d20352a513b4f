//! A dense table of flows: an index of short tags, and beside it the entries, each one cache line.
//!
//! ```text
//! hash -> bucket of 16 slots (one line): tag | number -> entry (one line): life, flow, backend
//! ```
//!
//! A packet reads one line of the index and one entry, where a hash map costs it three lines and a call. Both are arrays that
//! are made once and mapped into user space's memory.
//!
//! An entry's life is one word that only a compare-exchange changes. Nobody has to collect anything: who needs a place takes
//! one whose flow is gone, or under pressure the least alive one. An established flow that is not idle is never taken. When
//! nothing can be taken the table is full and says so.
//!
//! Any number of CPUs and user space use the table at once, and any of them may stop at any point:
//!
//! - What is read of an entry counts only if its life was the same before and after.
//! - A slot names an entry only while the entry names the slot, which it does first. So whoever takes an entry next erases
//!   the slot that a writer left behind.
//! - Of two that add one flow at a time each first publishes its entry and then looks again; who finds another one gives
//!   its own up. Both may do so. No rule may tell who wins: while the winner is looked for, one of the two may be gone.
//! - Who has taken an entry and is not heard of for [`life::ABANDONED`] has lost it. Should it go on all the same, its flow is not
//!   added, but it may write into the next flow's entry, and leave a slot behind for good. A packet takes a microsecond, and
//!   user space only ever frees an entry, in one step.

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

/// Where a table's memory is.
pub trait FlowMemory {
    type Words: Words;

    /// The slots of a bucket: [`SLOTS`], of which each is 0 or names an entry.
    fn bucket(&self, number: u32) -> Option<&[<Self::Words as Words>::U32]>;
    fn entry(&self, number: u32) -> Option<&Entry<Self::Words>>;

    /// `value`, of which a verifier then knows nothing: what follows is looked at once, and not for each value that it can
    /// have.
    #[inline(always)]
    fn merge_paths(&self, value: u64) -> u64 {
        value
    }
}

/// A table at one time, as one packet sees it.
#[derive(Clone, Copy)]
pub struct FlowTable<'a, M> {
    pub memory: &'a M,
    /// Entries, less one; a power of two less one. There are twice as many slots, in at least two buckets.
    pub mask: u32,
    pub timeouts: &'a Timeouts,
    /// In the units of [`life`].
    pub now: u32,
}

/// An entry that was found: what it said, all of it at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The entry's number, which is its place.
    pub number: u32,
    pub life: Life,
    pub served: Served,
}

/// How a flow begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    pub stage: Stage,
    /// Of the time-outs.
    pub class: Class,
    pub certainty: Certainty,
    pub served: Served,
}

/// Why a flow was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No place could be taken.
    Full,
    /// Another CPU added the same flow at the same time, or took the same place; of one flow perhaps neither is there. The next
    /// packet will see.
    Raced,
}

impl<M: FlowMemory> FlowTable<'_, M> {
    /// The flow's entry. It may have been silent for any time: as long as nobody has taken its place it is there.
    #[inline(always)]
    pub fn find(&self, flow: &Flow, hash: Hash) -> Option<Found> {
        self.search(flow, hash, NONE).map(|(found, _)| found)
    }

    /// The same, with the entry itself.
    #[inline(always)]
    pub fn look(&self, flow: &Flow, hash: Hash) -> Option<(Found, &Entry<M::Words>)> {
        self.search(flow, hash, NONE)
    }

    /// What stands in an entry of which only the place is known, if it is a live one's.
    #[inline(always)]
    pub fn at(&self, number: u32) -> Option<(Found, &Entry<M::Words>, Flow)> {
        let entry = self.memory.entry(number)?;
        let life = Life(entry.life.load());
        let (flow, served) = (entry.flow(), entry.read());
        let after = Life(entry.life.load());
        if life.is_live() && after.is_same(life) {
            Some((Found { number, life: after, served }, entry, flow))
        } else {
            None
        }
    }

    /// [`Self::find`] and [`Self::touch`] at once: the flow's entry, of which a packet was seen now.
    #[inline(always)]
    pub fn see(&self, flow: &Flow, hash: Hash, signal: Signal, sequence: u32) -> Option<Found> {
        let (found, entry) = self.search(flow, hash, NONE)?;
        if self.touch_entry(&found, entry, signal, sequence) { Some(found) } else { None }
    }

    /// Notes that a packet of a flow was seen now; false if the entry is not the flow's any more.
    ///
    /// Costs a write only where that is new: once in a unit of time, or when it changes the flow's stage. Then `sequence` is
    /// remembered, too, unless the flow is tentative.
    #[inline(always)]
    pub fn touch(&self, found: &Found, signal: Signal, sequence: u32) -> bool {
        self.memory.entry(found.number).is_some_and(|entry| self.touch_entry(found, entry, signal, sequence))
    }

    #[inline(always)]
    fn touch_entry(&self, found: &Found, entry: &Entry<M::Words>, signal: Signal, sequence: u32) -> bool {
        self.advance(found, entry, |stage| stage.after(signal), Some(sequence))
    }

    /// The same of a flow whose packets show more than a [`Signal`]: `after` says in which stage it is after this one.
    #[inline(always)]
    pub fn advance(
        &self,
        found: &Found,
        entry: &Entry<M::Words>,
        after: impl Fn(Stage) -> Stage,
        sequence: Option<u32>,
    ) -> bool {
        let new = found.life.seen_again(after(found.life.stage()), self.now);
        if new == found.life {
            return true;
        }
        if entry.life.replace_if(found.life.0, new.0) {
            // After the life: who still sees a tentative one has read what that quotes.
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
        let new = life.seen_again(after(life.stage()), self.now);
        new == life || entry.life.replace_if(life.0, new.0)
    }

    /// Remembers another sequence number with a flow that was just touched.
    #[inline(always)]
    pub fn remember(&self, entry: &Entry<M::Words>, sequence: u32) {
        entry.remember(sequence);
    }

    /// Lets another backend serve a flow that was just touched, so that nobody takes its entry meanwhile; false if the flow
    /// has another one already. It quotes what it did before.
    #[inline(always)]
    pub fn serve(&self, found: &Found, served: Served) -> bool {
        let entry = self.memory.entry(found.number);
        entry.is_some_and(|entry| entry.served.replace_if(found.served.word(), served.word()))
    }

    /// Adds a flow that was not found, at one of the claim's places; returns its entry's number.
    ///
    /// # Errors
    /// No place could be taken, or the flow is being added by another CPU.
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

    /// Takes a flow out.
    #[inline(always)]
    pub fn remove(&self, found: &Found) {
        self.end(found.number, found.life);
    }

    /// The flow of an entry and what stands there of it, if it is a live one's: for user space, which goes from entry to entry.
    pub fn read(&self, number: u32) -> Option<(Flow, Found)> {
        // What was read in part of another life is seen at the next reading.
        self.at(number).map(|(found, _, flow)| (flow, found))
    }

    /// Frees an entry whose life was `life`, if it still is: what a collector does, if there is one. Its slot stays until
    /// somebody needs the entry or the slot, so that a collector that sleeps in between holds nothing.
    pub fn forget(&self, number: u32, life: Life) -> bool {
        life.is_live() && self.memory.entry(number).is_some_and(|entry| entry.life.replace_if(life.0, life.freed().0))
    }
}

/// No entry's number.
const NONE: u32 = u32::MAX;
