//! Pools: backends that fail together, and the cells that their tables are made of.

use bytemuck::{Pod, Zeroable};

/// Backend numbers in one cell.
pub const CELL: usize = 4;

/// Four backend numbers: 8 bytes, the least that an array map allocates for a value.
///
/// In a pool's candidate table, a cell has the candidates of one slot, best first; in its member list, four members. 0
/// stands for no backend.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Cell(pub [u16; CELL]);

/// A pool as the packet path needs it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Pool {
    /// First cell of the pool's candidate tables in `CANDIDATES`: one table for each number of slots of the services that
    /// use the pool, the largest first, with one cell per slot.
    pub table: u32,
    /// The numbers of slots for which the pool has a table, as a set of bits: each number is a power of two, and so one bit.
    pub sizes: u32,
    /// First cell of the member list in `CANDIDATES`: `members` numbers, four per cell. The `available` members come first,
    /// then the other `enabled` ones, then the rest, each part in the order of the members' addresses. The controller
    /// updates the list after each change of a state.
    pub member_list: u32,
    /// Number of backends in the pool.
    pub members: u16,
    /// The pool is left when fewer of its backends than this take new flows; at least 1.
    pub min_healthy: u16,
    /// Number of backends that take new flows (`State::NEW`), or fewer: it changes within a generation with one atomic
    /// store, before a state that makes it smaller and after one that makes it larger.
    pub available: u32,
    /// Number of backends that are not administratively disabled (`State::ENABLED`). Changes likewise.
    pub enabled: u32,
    /// Slots whose [place in the order of return](return_place) is below this number still pass over the pool, although it
    /// could serve, as long as a later pool has enough backends: a pool that was lost comes back by a share of slots. 0 if
    /// all slots use it; 256 if none does. Changes within a generation with one atomic store.
    pub withheld: u32,
    /// Zero.
    pub reserved: u32,
}

impl Pool {
    /// First cell of the candidate table for `slot_mask` + 1 slots.
    #[inline(always)]
    pub const fn table_of(&self, slot_mask: u32) -> u32 {
        // Larger tables come before it, and their cells are as many as the larger bits of `sizes` add up to.
        self.table.wrapping_add(self.sizes & !(slot_mask << 1 | 1))
    }
}

/// Number of places in the order in which slots return to a pool or backend that was lost.
pub const RETURN_PLACES: u32 = 256;

/// Place of a slot in the order in which slots return to a pool or backend that was lost; the last place returns first. It
/// is the same on every edge. Slots are hashes of flows, so any of their bits will do.
#[inline(always)]
pub const fn return_place(slot: u32) -> u32 {
    slot % RETURN_PLACES
}

impl Cell {
    /// The number at `place` modulo [`CELL`]. By a shift, since the verifier rejects a variable index into the stack.
    #[inline(always)]
    pub const fn number(self, place: u32) -> u16 {
        let Self([a, b, c, d]) = self;
        let all = a as u64 | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48;
        (all >> (16 * (place % CELL as u32))) as u16
    }
}
