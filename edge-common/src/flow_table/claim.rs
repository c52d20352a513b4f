//! Who takes which entry, and gives it back.

use super::{
    Entry, FlowMemory, FlowTable, Life, Refused, Served,
    words::{Word, Words},
};
use crate::hash::Hash;

/// Where a flow's entry may be, and whom it may displace there.
pub trait Claim<W: Words> {
    /// How many places are looked at for one that can be taken.
    const PROBES: u32 = 16;

    /// The place that is tried as the `probe`-th.
    fn place(&self, probe: u32) -> u32;

    /// The last probe, after which places come again.
    fn last(&self) -> u32;

    /// How willingly an entry is taken that is not gone, before half-open flows are: 0, unless whoever is asked knows better than
    /// its [`Life::weakness`].
    #[inline(always)]
    fn weakness(&self, _life: Life, _entry: &Entry<W>) -> u32 {
        0
    }

    /// Whether a flow that was seen once may make room. If it may not, nobody asks that of this one again.
    fn may_displace(&self, served: Served) -> bool;
}

/// All places of a table, each flow in an order of its own (double hashing): flows that meet once part again, where in
/// neighbouring places they would heap up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anywhere {
    /// Entries of the table, less one; a power of two less one.
    mask: u32,
    first: u32,
    /// Odd, so that it comes by all.
    step: u32,
}

impl Anywhere {
    /// Of a table of `mask` and one entries.
    #[inline(always)]
    pub const fn new(hash: Hash, mask: u32) -> Self {
        // Other bits than those that the index has taken.
        let mixed = (hash.0 ^ hash.0 >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self { mask, first: (mixed >> 32) as u32 & mask, step: (mixed >> 8) as u32 | 1 }
    }
}

/// Who asks nobody takes what can be taken.
impl<W: Words> Claim<W> for Anywhere {
    #[inline(always)]
    fn place(&self, probe: u32) -> u32 {
        self.first.wrapping_add(probe.wrapping_mul(self.step)) & self.mask
    }

    #[inline(always)]
    fn last(&self) -> u32 {
        self.mask
    }

    #[inline(always)]
    fn may_displace(&self, _served: Served) -> bool {
        true
    }
}

impl<M: FlowMemory> FlowTable<'_, M> {
    /// Takes the first of the claim's places that is gone, or else the weakest of them.
    ///
    /// The search has one end: a verifier follows all that comes after it once for each.
    #[inline(always)]
    pub(super) fn claim<C: Claim<M::Words>>(&self, claim: &C) -> Result<(u32, &Entry<M::Words>, Life), Refused> {
        let (mut number, mut life, mut weakness) = (0, Life(0), 0);
        for probe in 0..C::PROBES {
            // Each place once.
            if probe > claim.last() || weakness == Life::GONE {
                break;
            }
            let this = claim.place(probe);
            let Some(entry) = self.memory.entry(this) else { break };
            let there = Life(entry.life.load());
            let weak = there.weakness(self.now, self.timeouts).max(claim.weakness(there, entry));
            let weak = self.memory.merge_paths(weak.into()) as u32;
            if weak > weakness {
                (number, life, weakness) = (this, there, weak);
            }
            // Or it is followed once for each of those that may have been the weakest so far.
            number = self.memory.merge_paths(number.into()) as u32;
            life = Life(self.memory.merge_paths(life.0));
            weakness = self.memory.merge_paths(weakness.into()) as u32;
        }
        if weakness == 0 {
            return Err(Refused::Full);
        }
        let entry = self.memory.entry(number).ok_or(Refused::Full)?;
        if weakness != Life::GONE && life.is_seen_once() && !claim.may_displace(entry.read()) {
            entry.life.replace_if(life.0, life.certain().0);
            return Err(Refused::Raced);
        }
        let taken = self.take(number, entry, life).ok_or(Refused::Raced)?;
        Ok((number, entry, taken))
    }

    /// Takes an entry whose life is `life`, and erases the slot that named it.
    #[inline(always)]
    pub(super) fn take(&self, number: u32, entry: &Entry<M::Words>, life: Life) -> Option<Life> {
        let taken = life.taken(self.now);
        if !entry.life.replace_if(life.0, taken.0) {
            return None;
        }
        self.erase(number, entry);
        Some(taken)
    }

    /// Ends this life of an entry, however far it is by now.
    #[inline(always)]
    pub(super) fn end(&self, number: u32, life: Life) {
        let Some(entry) = self.memory.entry(number) else { return };
        // Only packets of the flow that come at this moment change it, and few of those.
        for _ in 0..ENDINGS {
            let now = Life(entry.life.load());
            if !now.is_same(life) {
                return;
            }
            if let Some(taken) = self.take(number, entry, now) {
                entry.give_back(taken);
                return;
            }
        }
    }
}

/// How often it is tried to end a life.
const ENDINGS: u32 = 2;
