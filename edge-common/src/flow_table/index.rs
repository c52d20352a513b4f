//! The index: buckets of slots, two buckets for each flow.
//!
//! No entry has two slots, so at most half of all slots are taken, and few flows go to their second bucket: with all
//! entries in use one in a hundred, and one in ten thousand finds no slot.
//!
//! A slot is 0 if empty; otherwise it has an entry's number in its low bits and a tag of the flow above them. The tag is
//! odd, so that no slot that names an entry is 0. XOR of a slot and the flow's tag gives the entry's number if the tags are
//! equal, and a number beyond the table if they differ.

use super::{
    Entry, EntryState, Flow, FlowMemory, FlowTable, Life, NONE,
    words::{Word, Words},
};
use crate::hash::Hash;

/// Slots of a bucket: one cache line.
pub const SLOTS: u32 = 16;

/// Stands for no slot of the index.
const NOWHERE: u32 = u32::MAX;

/// The buckets and the tag of a flow.
#[derive(Clone, Copy)]
pub(super) struct Position {
    first: u32,
    second: u32,
    /// The slot that is examined first in each bucket.
    own: usize,
    /// The flow's tag, at its position above the entry's number.
    tag: u32,
}

impl Position {
    /// Each part is taken from other bits of the hash, and none from the weak low bits.
    #[inline(always)]
    const fn of(hash: Hash, mask: u32) -> Self {
        let buckets = mask / 8;
        Self {
            first: (hash.0 >> 32) as u32 & buckets,
            second: (hash.0 >> 12) as u32 & buckets,
            own: (hash.0 >> 28) as usize % SLOTS as usize,
            tag: ((hash.0 >> 32) as u32 | mask.wrapping_add(1)) & !mask,
        }
    }
}

impl<M: FlowMemory> FlowTable<'_, M> {
    /// The flow's entry, unless it is the entry `except`.
    ///
    /// The search has a single exit: a verifier follows all code after it once for each exit.
    #[inline(always)]
    pub(super) fn search(&self, flow: &Flow, hash: Hash, except: u32) -> Option<(EntryState, &Entry<M::Words>)> {
        let (number, life) = self.first_named(flow, hash, except).unwrap_or((NONE, Life(0)));
        let (number, life) = (self.memory.merge_paths(number.into()) as u32, Life(self.memory.merge_paths(life.0)));
        if number > self.mask {
            return None;
        }
        Self::whole(number, self.memory.entry(number)?, life)
    }

    /// The content of an entry whose life was `life`; `None` if another one began meanwhile.
    #[inline(always)]
    fn whole(number: u32, entry: &Entry<M::Words>, life: Life) -> Option<(EntryState, &Entry<M::Words>)> {
        let served = entry.read();
        // The reads are valid only if they were of one life.
        let life_after = Life(entry.life.load());
        if life_after.is_same(life) { Some((EntryState { number, life: life_after, served }, entry)) } else { None }
    }

    /// The flow's entry, if it is in the slot that a search reads first. It mostly is, and then nothing is read twice.
    #[inline(always)]
    pub fn first(&self, flow: &Flow, hash: Hash) -> Option<(EntryState, &Entry<M::Words>)> {
        let Position { first, own, tag, .. } = Position::of(hash, self.mask);
        let number = self.memory.bucket(first)?.get(own)?.load() ^ tag;
        if number > self.mask {
            return None;
        }
        let entry = self.memory.entry(number)?;
        let life = Life(entry.life.load());
        if !life.is_live() || !entry.is(flow) {
            return None;
        }
        Self::whole(number, entry, life)
    }

    /// The number of the flow's entry, and the entry's life before it was read.
    #[inline(always)]
    fn first_named(&self, flow: &Flow, hash: Hash, except: u32) -> Option<(u32, Life)> {
        let Position { first, second, own, tag } = Position::of(hash, self.mask);
        for is_second in [false, true] {
            let bucket = if is_second { second } else { first };
            let slots = self.memory.bucket(bucket)?;
            // Fast path: the flow is mostly in its own slot of the bucket.
            if let Some(slot) = slots.get(own)
                && let Some(named) = self.named(slot.load() ^ tag, flow, except)
            {
                return Some(named);
            }
            // Whether a slot has this tag is known without reading an entry; mostly none has.
            let mut is_named = false;
            for slot in slots {
                if slot.load() ^ tag <= self.mask {
                    is_named = true;
                }
            }
            if !is_named {
                continue;
            }
            for slot in slots {
                if let Some(named) = self.named(slot.load() ^ tag, flow, except) {
                    return Some(named);
                }
            }
        }
        None
    }

    /// `number` and the life of that entry, if `number` is an entry of the flow.
    #[inline(always)]
    fn named(&self, number: u32, flow: &Flow, except: u32) -> Option<(u32, Life)> {
        if number > self.mask || number == except {
            return None;
        }
        let entry = self.memory.entry(number)?;
        let life = Life(entry.life.load());
        if life.is_live() && entry.is(flow) { Some((number, life)) } else { None }
    }

    /// Makes a slot of the flow's buckets name an entry that was taken for it; false if no slot is free.
    #[inline(always)]
    pub(super) fn publish(&self, number: u32, entry: &Entry<M::Words>, hash: Hash) -> bool {
        let Position { first, second, own, tag } = Position::of(hash, self.mask);
        for attempt in 0..3 {
            let bucket = if attempt == 0 { first } else { second };
            // When every slot is taken, some name entries whose flows are gone, unless all of the table is in use.
            let forced = attempt == 2;
            let Some(slots) = self.memory.bucket(bucket) else { return false };
            let at = self.room(slots, own, forced) % SLOTS;
            let Some(slot) = slots.get(at as usize) else { continue };
            let there = slot.load();
            if there != 0 && !(forced && self.vacate(there & self.mask)) {
                continue;
            }
            // The entry names the slot first: should this writer stop here, the next one that takes the entry finds the slot.
            entry.slot.store(bucket * SLOTS + at);
            if slot.replace_if(0, tag | number) {
                return true;
            }
        }
        false
    }

    /// A free slot, the flow's own one first; if `forced`, also one that names an entry that is gone. Without any, the
    /// flow's own.
    #[inline(always)]
    fn room(&self, slots: &[<M::Words as Words>::U32], own: usize, forced: bool) -> u32 {
        let mut room = own as u32;
        if slots.get(own).is_none_or(|slot| slot.load() != 0) {
            for (at, slot) in (0..).zip(slots) {
                let there = slot.load();
                if there == 0 || forced && self.is_gone(there & self.mask) {
                    room = at;
                    break;
                }
            }
        }
        self.memory.merge_paths(room.into()) as u32
    }

    #[inline(always)]
    fn is_gone(&self, number: u32) -> bool {
        let entry = self.memory.entry(number);
        entry.is_some_and(|entry| Life(entry.life.load()).is_gone(self.now, self.timeouts))
    }

    /// Frees an entry that is gone, together with its slot.
    #[inline(always)]
    fn vacate(&self, number: u32) -> bool {
        let Some(entry) = self.memory.entry(number) else { return false };
        let life = Life(entry.life.load());
        if !life.is_gone(self.now, self.timeouts) {
            return false;
        }
        let Some(taken) = self.take(number, entry, life) else { return false };
        entry.give_back(taken);
        true
    }

    /// Erases the slot that names an entry; the caller must have taken the entry.
    #[inline(always)]
    pub(super) fn erase(&self, number: u32, entry: &Entry<M::Words>) {
        let at = entry.slot.load();
        let slots = self.memory.bucket(at / SLOTS);
        let Some(slot) = slots.and_then(|slots| slots.get((at % SLOTS) as usize)) else { return };
        let there = slot.load();
        if there != 0 && there & self.mask == number {
            slot.replace_if(there, 0);
            // The next one that takes the entry need not erase the slot again.
            entry.slot.store(NOWHERE);
        }
    }
}
