//! Pools: backends that fail together, and the cells that their tables are made of.

use bytemuck::{Pod, Zeroable};

/// Backend numbers in one cell.
pub const CELL: usize = 4;

/// Four backend numbers, the 8 bytes that an array map gives to the smallest of its values.
///
/// In a pool's candidate table a cell is one slot: its candidates, best first; in its member list, four members. 0 stands for
/// no backend.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Cell(pub [u16; CELL]);

/// A pool as the packet path needs it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Pool {
    /// First cell of the candidate tables in `CANDIDATES`: one for each number of slots that services have with which it is
    /// used, the largest first, with one cell a slot.
    pub table: u32,
    /// These numbers of slots, all in one: each is a power of two, and so a bit.
    pub sizes: u32,
    /// First cell of the member list in `CANDIDATES`: `members` numbers, four a cell. The `available` ones stand first,
    /// then the other `enabled` ones, then the rest, each part in the order of the members' addresses. The controller
    /// brings it up to date after each change of a state.
    pub member_list: u32,
    /// How many backends the pool has.
    pub members: u16,
    /// The pool is left when fewer of its backends than this take new flows; at least 1.
    pub min_healthy: u16,
    /// How many of its backends take new flows (`State::NEW`), or fewer: it changes within a generation with one atomic store,
    /// before a state that makes it smaller and after one that makes it larger.
    pub available: u32,
    /// How many of its backends are not administratively disabled (`State::ENABLED`). Changes likewise.
    pub enabled: u32,
    /// Slots whose [place in the order of return](return_place) is below this do not take the pool, although it could serve,
    /// as long as a later one has enough backends: a pool that was lost comes back by a share of slots. 0: all take it; 256: none.
    /// Changes within a generation with one atomic store.
    pub withheld: u32,
    /// Zero.
    pub reserved: u32,
}

impl Pool {
    /// First cell of the candidate table for as many slots as `slot_mask` has, and one.
    #[inline(always)]
    pub const fn table_of(&self, slot_mask: u32) -> u32 {
        // What stands before it has as many cells as the larger bits say.
        self.table.wrapping_add(self.sizes & !(slot_mask << 1 | 1))
    }
}

/// Places that slots have in the order in which they return to what was lost.
pub const RETURN_PLACES: u32 = 256;

/// Where a slot stands in the order in which slots return to what was lost; the last place returns first. The same on every
/// edge. Slots are hashes of flows, so that any bits of theirs do.
#[inline(always)]
pub const fn return_place(slot: u32) -> u32 {
    slot % RETURN_PLACES
}

impl Cell {
    /// The number at `place`, counted modulo [`CELL`]. A shift, since the verifier lets no variable index point into what
    /// lies on the stack.
    #[inline(always)]
    pub const fn number(self, place: u32) -> u16 {
        let Self([a, b, c, d]) = self;
        let all = a as u64 | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48;
        (all >> (16 * (place % CELL as u32))) as u16
    }
}
