//! When the owner of a slot follows its pick, and which flow records are needed no more.
//!
//! A slot's owner has the flows that are not recorded; its pick takes those that start now. After a change the two differ
//! in some slots, and each packet of a running flow that comes meanwhile records its flow at the owner. A flow that lives
//! sends at least once in a linger. So once the pick has been another one than the owner for longer than that, every such
//! flow is recorded, and the pick can become the owner without moving any.
//!
//! ```text
//!               owner != pick                   longer than the linger
//!     stable ---------------> waits for pick -----------------------> moves, and is stable
//!        ^                       |       ^  |
//!        +-- owner == pick ------+       +--+ anew: the pick is another one, a record was unrecorded,
//!                                             or a pick may have come and gone unseen
//! ```
//!
//! - *Per slot*: two slots of one backend differ since different times, and a record unrecorded in the one says nothing about
//!   the other. Owners that follow per backend, or all at once, take flows with them that nobody has recorded.
//! - *A unrecorded record makes the slot wait anew*: a flow went to the owner and there was no room to say so. It has as much
//!   time as any to send once more, and if there is room then, the move will not hurt it.
//! - *More than one change since the last look makes every slot that differs wait anew*: between them the pick may have
//!   been the owner, so that flows started there without a record, and looks the same now. After a single change what is
//!   seen is all there was.
//! - *A record that says what the owner of its stable slot says is needless*: without it the packet goes to the same
//!   backend, and is recorded there again before the owner can follow anybody else.
//!
//! Pure: time is an argument, and whoever looks does what the look says.

use std::time::Duration;

use crate::abi::{BackendNumber, FlowRecord};

/// What was seen in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub owner: BackendNumber,
    /// Who takes the flows that start now; `None`: nobody is left.
    pub pick: Option<BackendNumber>,
    /// Whether a flow of this slot should have been recorded and was not, since the last look.
    pub unrecorded: bool,
}

/// A slot's owner is to change. Only if it still is `from`: the packet path may have given the slot to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub slot: u32,
    pub from: BackendNumber,
    pub to: BackendNumber,
}

/// What a look at all slots of a service gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The slots that move now, ascending.
    pub moves: Vec<Move>,
    /// How many slots differ and don't move yet; those without a pick among them, which don't move at all.
    pub differing: u32,
    /// How long from now until the first of these moves, if nothing changes; `None`: none of them will.
    pub next: Option<Duration>,
    /// How long from now until the last of those that will has moved.
    pub last: Option<Duration>,
}

/// What is known of a service's slots from one look to the next: six bytes each.
#[derive(Clone, Debug)]
pub struct Follower {
    /// Milliseconds, rounded up. Zero: slots don't wait.
    linger: u32,
    /// The latest time of all looks: a clock that goes back must not make anybody older.
    now: Duration,
    /// By slot: the pick that is to become the owner; 0: the slot is stable, or there is no pick.
    awaited: Vec<BackendNumber>,
    /// By slot: since when, in milliseconds of the clock modulo 2^32. What is older than 2^32 looks younger than it is,
    /// never the other way round, so it waits once more.
    since: Vec<u32>,
}

impl Follower {
    /// A controller that has just started, or a service that was stable: it knows nothing, and waits anew.
    ///
    /// `linger` zero is for services without records: their owners follow at the first look. `now` is of a clock that only
    /// goes forward.
    pub fn new(linger: Duration, now: Duration) -> Self {
        let linger = u32::try_from(linger.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        Self { linger, now, awaited: Vec::new(), since: Vec::new() }
    }

    /// Looks at all slots, in order.
    ///
    /// `changes`: how many changes of states, failovers or generations there were since the last look.
    pub fn look(&mut self, now: Duration, changes: u32, slots: impl IntoIterator<Item = Seen>) -> Look {
        self.now = self.now.max(now);
        let mut look = Look::default();
        for (slot, seen) in (0..).zip(slots) {
            self.look_at(slot, seen, changes > 1, &mut look);
        }
        look
    }

    fn look_at(&mut self, slot: u32, seen: Seen, unseen: bool, look: &mut Look) {
        let index = slot as usize;
        if index >= self.awaited.len() {
            self.awaited.push(0);
            self.since.push(0);
        }
        let (awaited, since) = (&mut self.awaited[index], &mut self.since[index]);
        let pick = seen.pick.unwrap_or_default();
        if pick == seen.owner {
            *awaited = 0;
            return;
        }
        let now = milliseconds(self.now);
        if pick != *awaited || seen.unrecorded || unseen {
            *awaited = pick;
            *since = now;
        }
        if pick == 0 {
            look.differing += 1;
            return;
        }
        // Both times are rounded down, so one that differs by more than the linger is past it, however they were rounded.
        let age = now.wrapping_sub(*since);
        if self.linger == 0 || age > self.linger {
            look.moves.push(Move { slot, from: seen.owner, to: pick });
            return;
        }
        look.differing += 1;
        let rest = Duration::from_millis(u64::from(self.linger - age) + 1);
        look.next = Some(look.next.map_or(rest, |next| next.min(rest)));
        look.last = Some(look.last.map_or(rest, |last| last.max(rest)));
    }
}

/// Modulo 2^32.
fn milliseconds(time: Duration) -> u32 {
    (time.as_millis() % (1 << 32)) as u32
}

/// Whether a record is needed no more: silent for longer than `expiry`, or saying what the owner of its stable slot says.
pub fn is_done(
    record: &FlowRecord,
    owner: BackendNumber,
    pick: Option<BackendNumber>,
    silent: Duration,
    expiry: Duration,
) -> bool {
    silent > expiry || (record.backend == owner && pick == Some(owner))
}

#[cfg(test)]
mod tests;
