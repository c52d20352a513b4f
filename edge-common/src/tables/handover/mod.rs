//! Handover: when a slot's pick becomes its owner, and which flow records are redundant.
//!
//! A slot's owner serves the flows that are not recorded; its pick receives new flows. After a change the two differ in some
//! slots, and each packet of an established flow in such a slot records its flow at the owner. A live flow sends at least once
//! in a flow idle timeout. So once pick and owner have differed for longer than that, every live flow is recorded, and the pick
//! can become the owner without moving any.
//!
//! ```text
//!               owner != pick                   longer than the flow idle timeout
//!     stable ---------------> timer of the pick ---------------------------------> moves, and is stable
//!        ^                       |       ^  |
//!        +-- owner == pick ------+       +--+ restarts: the pick changed, an established flow could not be recorded,
//!                                        |  | or a pick may have come and gone between two passes
//!                                        +--+ waits for a handshake at least: a start could not be recorded
//! ```
//!
//! - *One timer per slot*: two slots of one backend differ since different times, and a flow that could not be recorded in one
//!   slot does not concern the other. A handover per backend, or of all slots at once, would move flows that are not recorded.
//! - *An established flow that could not be recorded restarts the slot's timer*: the flow went to the owner, and the table was full. The flow
//!   has a whole timeout to send once more, and if the table has room then, the handover does not move it.
//! - *A start that could not be recorded, and went to the owner, postpones the handover by the time of a handshake at most*: its
//!   next packet, if there is one, is an established flow's, and records the flow or restarts the timer. So a flood of starts,
//!   which have no next packets, postpones handovers for no longer than a few seconds after its end.
//! - *More than one change since the last pass restarts the timer of every slot that differs*: between the changes the pick may
//!   have been the owner, so that flows started there without a record, and a pass would not see it. After a single change a
//!   pass sees all there was.
//! - *A record that names the owner of its stable slot is redundant*: without it the packet goes to the same backend, and is
//!   recorded there again before the slot's next handover.
//!
//! Pure: time is an argument, and the caller applies the result of a pass.

use std::time::Duration;

use crate::abi::{BackendNumber, Unrecorded};

/// Time, in milliseconds, within which a client whose first packet was answered sends the next one. Flows of which only a SYN was seen are
/// forgotten after the same time ([`Timeouts::of_idle`](crate::abi::Timeouts::of_idle)).
const HANDSHAKE: u32 = 10_000;

/// A slot as a pass sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotState {
    pub owner: BackendNumber,
    /// The backend that receives new flows; `None` if none is left.
    pub pick: Option<BackendNumber>,
    /// Whether since the last pass a flow of this slot should have been recorded and was not.
    pub unrecorded: Unrecorded,
}

/// The handover of a slot, valid only while its owner is `from`, since the packet path may change the owner meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub slot: u32,
    pub from: BackendNumber,
    pub to: BackendNumber,
}

/// The result of a pass over all slots of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// The handovers that are due now, in ascending order of slots.
    pub moves: Vec<Move>,
    /// Number of slots that differ and are not handed over yet, including those without a pick, which are not handed over
    /// at all.
    pub differing: u32,
    /// Time from now until the first of these handovers, if nothing changes; `None` if there will be none.
    pub next: Option<Duration>,
    /// Time from now until the last of these handovers; `None` if there will be none.
    pub last: Option<Duration>,
}

/// The timers of a service's slots: six bytes per slot.
#[derive(Clone, Debug)]
pub struct SlotTimers {
    /// Milliseconds, rounded up. With 0, slots are handed over at once.
    flow_idle_timeout: u32,
    /// The latest time of all passes, since a clock that goes back must not advance any timer.
    now: Duration,
    /// By slot: the pick that is to become the owner; 0 if the slot is stable, or has no pick.
    awaited: Vec<BackendNumber>,
    /// By slot: start of the timer, in milliseconds of the clock modulo 2^32. A timer older than that looks younger than it
    /// is, never older, so its slot only waits longer.
    since: Vec<u32>,
}

impl SlotTimers {
    /// Timers without history: for a controller that has just started, or a service that was stable.
    ///
    /// With a `flow_idle_timeout` of zero, for services without records, slots are handed over at the first pass. `now` is
    /// the time of a monotonic clock.
    pub fn new(flow_idle_timeout: Duration, now: Duration) -> Self {
        let flow_idle_timeout = u32::try_from(flow_idle_timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        Self { flow_idle_timeout, now, awaited: Vec::new(), since: Vec::new() }
    }

    /// Does a reconcile pass over all slots, in order.
    ///
    /// `changes` is the number of changes of states, failovers or generations since the last pass.
    pub fn reconcile(&mut self, now: Duration, changes: u32, slots: impl IntoIterator<Item = SlotState>) -> Pass {
        self.now = self.now.max(now);
        let mut pass = Pass::default();
        for (slot, seen) in (0..).zip(slots) {
            self.reconcile_slot(slot, seen, changes > 1, &mut pass);
        }
        pass
    }

    fn reconcile_slot(&mut self, slot: u32, seen: SlotState, unseen: bool, pass: &mut Pass) {
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
        // How long a slot may have waited whose flow has just started.
        let past = self.flow_idle_timeout.saturating_sub(HANDSHAKE);
        if pick != *awaited || seen.unrecorded == Unrecorded::Flow || unseen {
            *awaited = pick;
            *since = now;
        } else if seen.unrecorded == Unrecorded::Start && now.wrapping_sub(*since) > past {
            *since = now.wrapping_sub(past);
        }
        if pick == 0 {
            pass.differing += 1;
            return;
        }
        // Both times are rounded down, so a difference of more than `flow_idle_timeout` exceeds it, however they were rounded.
        let age = now.wrapping_sub(*since);
        if self.flow_idle_timeout == 0 || age > self.flow_idle_timeout {
            pass.moves.push(Move { slot, from: seen.owner, to: pick });
            return;
        }
        pass.differing += 1;
        let rest = Duration::from_millis(u64::from(self.flow_idle_timeout - age) + 1);
        pass.next = Some(pass.next.map_or(rest, |next| next.min(rest)));
        pass.last = Some(pass.last.map_or(rest, |last| last.max(rest)));
    }
}

/// Milliseconds modulo 2^32.
fn milliseconds(time: Duration) -> u32 {
    (time.as_millis() % (1 << 32)) as u32
}

/// Whether a record at `backend` is redundant: it names the owner of its stable slot.
pub fn is_redundant(backend: BackendNumber, owner: BackendNumber, pick: Option<BackendNumber>) -> bool {
    backend == owner && pick == Some(owner)
}

#[cfg(test)]
mod tests;
