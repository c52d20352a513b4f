//! One service in transition: a look at its slots, and the result of the last look.

use std::{mem, time::Duration};

use edge_common::{
    abi::{BackendNumber, Service, Unrecorded},
    tables::handover::{SlotState, SlotTimers},
};

use super::progress::Waits;
use crate::bpf::slots::Slots;

/// Interval of looks at a service with differing slots if nothing changes, so that `status` stays fresh.
const REPEAT: Duration = Duration::from_secs(10);

/// State of a service in transition.
#[derive(Debug, Default)]
pub(super) struct ServiceTransition {
    /// Timers of the slots, with the owners and the idle timeout that they are for; `None` while no slot differs.
    timers: Option<(u32, Duration, SlotTimers)>,
    /// Changes since the last look.
    changes: u32,
    /// The service's flag as last seen by this controller; `None` before the first look.
    pub(super) flag: Option<u32>,
    last: Option<LastLook>,
    /// Slots handed over so far.
    pub(super) moved: u64,
    /// Whether any slot has differed so far.
    pub(super) started: bool,
    /// Whether `look` is set in all slots of the service.
    pub(super) looked_at: bool,
}

/// Result of a look at all slots.
#[derive(Clone, Debug)]
pub(super) struct LastLook {
    at: Duration,
    /// Slots that differ and were not handed over.
    pub(super) differing: u32,
    /// Whether no slot differed, including those that were handed over during the look.
    calm: bool,
    /// By slot: the owner, if it was also the pick and `look` was set, so that `look` can be cleared once the slot has
    /// no record; otherwise 0.
    ending: Vec<BackendNumber>,
    /// Time from the look until the first and the last of the differing slots are handed over.
    pub(super) next: Option<Duration>,
    pub(super) last: Option<Duration>,
    /// The time of the look, of `CLOCK_BOOTTIME`.
    pub(super) boot: Duration,
    /// Number of slots of each owner, with handovers of the look included.
    pub(super) owned: Vec<(BackendNumber, u32)>,
}

impl ServiceTransition {
    pub(super) fn count_change(&mut self) {
        self.changes = self.changes.saturating_add(1);
    }

    /// Whether another look could find anything new: slots move only after a change, or once they have waited long
    /// enough.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        let Some(LastLook { at, differing, calm, next, .. }) = &self.last else { return true };
        // After a look that handed slots over, the next look has to confirm that all is calm.
        let waits = if *differing == 0 { Duration::ZERO } else { next.unwrap_or(REPEAT).min(REPEAT) };
        self.changes > 0 || (!calm && now >= *at + waits)
    }

    /// Whether each owner was its slot's pick at the last look, and nothing has changed since.
    pub(super) fn is_calm(&self) -> bool {
        self.changes == 0 && self.last.as_ref().is_some_and(|last| last.calm)
    }

    /// Slots in which `look` can be cleared once they have no record, each with its owner; none after a change.
    fn ending(&self) -> impl Iterator<Item = (u32, BackendNumber)> {
        let last = self.last.as_ref().filter(|_| self.changes == 0);
        let slots = last.into_iter().flat_map(|last| (0..).zip(last.ending.iter().copied()));
        slots.filter(|(_, owner)| *owner != 0)
    }

    /// Whether one of these slots has no record.
    pub(super) fn may_end_a_look(&self, is_recorded: impl Fn(u32) -> bool) -> bool {
        self.ending().any(|(slot, _)| !is_recorded(slot))
    }

    /// Clears `look` in those of these slots that have no record.
    pub(super) fn end_looks(&mut self, slots: &Slots<'_>, is_recorded: impl Fn(u32) -> bool) {
        let free: Vec<_> = self.ending().filter(|(slot, _)| !is_recorded(*slot)).collect();
        let Some(last) = &mut self.last else { return };
        for (slot, owner) in free {
            // If this fails, the slot has changed, and the next look will see it.
            if slots.end_look(slot, owner) {
                last.ending[slot as usize] = 0;
                self.looked_at = false;
            }
        }
    }

    pub(super) const fn last(&self) -> Option<&LastLook> {
        self.last.as_ref()
    }

    /// Counts the differing slots, for a caller that changes nothing: no slot is handed over, and no timer started.
    pub(super) fn survey(slots: &Slots<'_>, picks: &[BackendNumber], boot: Duration) -> Self {
        let (mut owned, mut differing) = (Vec::new(), 0);
        for (slot, &pick) in (0..).zip(picks) {
            let owner = slots.owner(slot);
            count(&mut owned, owner, 1);
            differing += u32::from(owner != pick);
        }
        let owned = (0..).zip(owned).filter(|(_, slots)| *slots > 0).collect();
        let last = LastLook {
            at: Duration::ZERO,
            differing,
            calm: differing == 0,
            ending: Vec::new(),
            next: None,
            last: None,
            boot,
            owned,
        };
        Self { last: Some(last), ..Self::default() }
    }

    /// Looks at all slots and hands over those that have waited long enough. Returns whether slots differ for the first
    /// time.
    pub(super) fn look(
        &mut self,
        service: &Service,
        slots: &Slots<'_>,
        picks: &[BackendNumber],
        waits: Waits,
        now: Duration,
        boot: Duration,
    ) -> bool {
        let changes = mem::take(&mut self.changes);
        let mut timers = match self.timers.take() {
            Some((first, idle_timeout, timers))
                if first == service.slots && idle_timeout == waits.flow_idle_timeout =>
            {
                timers
            }
            _ => SlotTimers::new(waits.flow_idle_timeout, now),
        };
        let mut owned = Vec::new();
        let mut ending = Vec::with_capacity(picks.len());
        let seen = (0..).zip(picks).map(|(number, &pick)| {
            let slot = slots.get(number);
            count(&mut owned, slot.owner, 1);
            if slot.owner != pick && slot.look == 0 {
                // The writer that made the change did not get to this slot.
                slots.look(number);
            }
            ending.push(if slot.owner == pick && slot.look != 0 { pick } else { 0 });
            let unrecorded = if slot.unrecorded == 0 { Unrecorded::Nothing } else { slots.take_unrecorded(number) };
            SlotState { owner: slot.owner, pick: (pick != 0).then_some(pick), unrecorded }
        });
        let look = timers.reconcile(now, changes, seen);
        for to_move in &look.moves {
            // A slot with a failed insert since the look is not to be handed over yet.
            if !slots.change(to_move.slot, to_move.from, to_move.to) {
                continue;
            }
            self.moved += 1;
            count(&mut owned, to_move.to, 1);
            count(&mut owned, to_move.from, -1);
        }
        let differs = look.differing > 0 || !look.moves.is_empty();
        let starts = differs && !self.started;
        self.started |= differs;
        self.timers = (look.differing > 0).then_some((service.slots, waits.flow_idle_timeout, timers));
        self.last = Some(LastLook {
            at: now,
            differing: look.differing,
            calm: !differs,
            ending,
            next: look.next,
            last: look.last,
            boot,
            owned: (0..).zip(owned).filter(|(_, slots)| *slots > 0).collect(),
        });
        starts
    }
}

/// Adds `more` to a backend's number of slots.
fn count(owned: &mut Vec<u32>, backend: BackendNumber, more: i32) {
    let at = usize::from(backend);
    if owned.len() <= at {
        owned.resize(at + 1, 0);
    }
    owned[at] = owned[at].saturating_add_signed(more);
}
