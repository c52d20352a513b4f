//! Candidate tables: the backends for the flows of each slot of a pool, best first.
//!
//! A table is a function of the members' identities and weights and of the number of slots, nothing else, in integers only:
//! every edge with the same pool has the same table, whatever numbers its backends have and in whatever order they were
//! configured.
//!
//! | candidate | made by | property |
//! |---|---|---|
//! | first | `first`: members and slots are matched, as many slots for each as its weight gives | within one slot of its share; adding or removing a member moves few other slots |
//! | second | `second`: for each member, the slots that its death frees are dealt out by weight | within one slot of the share in what is freed, for *each* member that can die |
//! | third, fourth | `further`: drawn by weight | distinct; balanced as far as chance goes |

mod draws;
mod first;
mod further;
mod mix;
mod permutation;
mod quota;
mod roster;
mod second;
#[cfg(test)]
mod tests;

use draws::Draws;
use roster::Roster;

use crate::abi::{BackendNumber, CELL, Cell};

/// The most slots that a table can have.
pub const MAX_SLOTS: u32 = 1 << 20;

/// A backend as its pool's table sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The number stored in the table for this member; not 0. It does not influence the table otherwise.
    pub number: BackendNumber,
    /// Its share of the slots is its weight divided by the sum of weights; 1 to 65,535.
    pub weight: u32,
    /// The member's identity, equal on every edge and in every configuration: its address, IPv4 as v4-mapped.
    pub identity: [u8; 16],
}

/// Builds the table of a pool: cell `i` has the candidates of slot `i`, best first and distinct, and 0 where there are none.
///
/// `slots` is a power of two, at most [`MAX_SLOTS`]. For a member with fewer than 100 slots, rounding to whole slots costs
/// more than 1 % of balance.
///
/// # Panics
///
/// If `slots` is no such number, a weight is out of its range, or there are more than 65,535 members. These are limits of
/// the configuration and checked there.
pub fn build(members: &[Member], slots: u32) -> Vec<Cell> {
    assert!(slots.is_power_of_two() && slots <= MAX_SLOTS, "{slots} slots: not a power of two up to {MAX_SLOTS}");
    let roster = Roster::new(members);
    if roster.is_empty() {
        return vec![Cell::default(); slots as usize];
    }
    let first = first::match_slots(&roster, slots);
    let draws = Draws::from_slots(slots);
    let second = second::deal_out(&roster, &first, draws);
    let candidates = further::complete(&roster, &first, &second, draws);
    candidates.into_iter().map(|slot| Cell(slot.map(|candidate| roster.number(candidate)))).collect()
}

/// A member's place in the [`Roster`], which the steps of building use in place of backend numbers.
type MemberIndex = u16;

/// The candidates of one slot while the table is built; [`NOBODY`] where there is none.
type Candidates = [MemberIndex; CELL];

/// In place of a [`MemberIndex`]: no member. It is not the index of a member, as there are 65,535 members at most.
const NOBODY: MemberIndex = MemberIndex::MAX;
