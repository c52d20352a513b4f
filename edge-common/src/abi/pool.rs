//! Pools: backends that fail together, and the cells that their tables are made of.

use bytemuck::{Pod, Zeroable};

/// Backend numbers in one cell.
pub const CELL: usize = 4;

/// Four backend numbers, the 8 bytes that an array map gives to the smallest of its values.
///
/// In a pool's candidate table a cell is one slot: its candidates, best first; in its member list, four members; in a
/// service's owners, the owners of four consecutive slots. 0 stands for no backend.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Cell(pub [u16; CELL]);

/// A pool as the packet path needs it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Pool {
    /// First cell of the candidate table in `CANDIDATES`; it has one cell a slot.
    pub table: u32,
    /// First cell of the member list in `CANDIDATES`; it has `members` numbers, four a cell.
    pub member_list: u32,
    /// How many backends the pool has.
    pub members: u16,
    /// The pool is left when fewer of its backends than this take new flows; at least 1.
    pub min_healthy: u16,
    /// How many of its backends take new flows (`State::NEW`). Changes within a generation with one atomic store,
    /// after the state that it counts.
    pub available: u32,
    /// How many of its backends are not administratively disabled (`State::ENABLED`). Changes likewise.
    pub enabled: u32,
    /// Zero.
    pub reserved: u32,
}
