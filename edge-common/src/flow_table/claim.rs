//! Taking entries for new flows, and freeing them.

use super::{
    Entry, FlowMemory, FlowTable, Life, Refused, Served,
    words::{Word, Words},
};
use crate::hash::Hash;

/// The entries that a new flow may take, and the flows that it may displace there.
pub trait Claim<W: Words> {
    /// Number of places that are examined for one that can be taken.
    const PROBES: u32 = 16;

    /// The place examined at probe number `probe`.
    fn place(&self, probe: u32) -> u32;

    /// The last probe, after which the places repeat.
    fn last(&self) -> u32;

    /// The claim's own weakness of a live entry, on the scale of [`Life::weakness`]; the larger of the two counts. 0 if the
    /// claim knows no more than the entry's life.
    #[inline(always)]
    fn weakness(&self, _life: Life, _entry: &Entry<W>) -> u32 {
        0
    }

    /// Whether a flow that was seen once may be displaced. If not, the entry counts as that of a certain flow
    /// from then on.
    fn may_displace(&self, served: Served) -> bool;
}

/// All places of a table, in an order of each flow's own (double hashing): flows that share one place have different next
/// ones, where with neighbouring places they would cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anywhere {
    /// Number of the table's entries less one; a power of two less one.
    mask: u32,
    first: u32,
    /// Odd, so that the sequence visits all places.
    step: u32,
}

impl Anywhere {
    /// The places of a flow with this hash, in a table of `mask` + 1 entries.
    #[inline(always)]
    pub const fn new(hash: Hash, mask: u32) -> Self {
        // Uses other bits than the index does.
        let mixed = (hash.0 ^ hash.0 >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self { mask, first: (mixed >> 32) as u32 & mask, step: (mixed >> 8) as u32 | 1 }
    }
}

/// A claim without a policy of its own takes any entry that can be taken.
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
    /// The search has a single exit: a verifier follows all code after it once for each exit.
    #[inline(always)]
    pub(super) fn claim<C: Claim<M::Words>>(&self, claim: &C) -> Result<(u32, &Entry<M::Words>, Life), Refused> {
        let (mut number, mut life, mut weakness) = (0, Life(0), 0);
        for probe in 0..C::PROBES {
            // Examines each place once.
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
            // Without this, the verifier follows the next round once for each entry that may have been the weakest so far.
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

    /// Takes an entry whose life is `life`, and erases the slot that named it; `None` if its life has changed.
    #[inline(always)]
    pub(super) fn take(&self, number: u32, entry: &Entry<M::Words>, life: Life) -> Option<Life> {
        let taken = life.taken(self.now);
        if !entry.life.replace_if(life.0, taken.0) {
            return None;
        }
        self.erase(number, entry);
        Some(taken)
    }

    /// Ends this life of an entry, whatever its stage by now.
    #[inline(always)]
    pub(super) fn end(&self, number: u32, life: Life) {
        let Some(entry) = self.memory.entry(number) else { return };
        // Only packets of the flow that arrive at this moment change the life, and few of those do.
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

/// Number of attempts to end a life.
const ENDINGS: u32 = 2;
