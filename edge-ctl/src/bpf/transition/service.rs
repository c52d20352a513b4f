//! One service in transition: a look at its slots, and what is known from the last one.

use std::{mem, time::Duration};

use edge_common::{
    abi::{BackendNumber, Service},
    tables::handover::{SlotState, SlotTimers},
};

use super::progress::Waits;
use crate::bpf::slots::Slots;

/// A service in which slots differ is looked at as often as this if nothing changes, so that `status` stays fresh.
const REPEAT: Duration = Duration::from_secs(10);

/// What is known of a service in transition.
#[derive(Debug, Default)]
pub(super) struct ServiceTransition {
    /// Timers of the slots, with the owners and the idle timeout that they are for; `None` while no slot differs.
    timers: Option<(u32, Duration, SlotTimers)>,
    /// Changes since the last look.
    changes: u32,
    /// The flag of the service as this controller last saw it; `None` before the first look at it.
    pub(super) flag: Option<u32>,
    last: Option<LastLook>,
    /// Slots that were handed over.
    pub(super) moved: u64,
    /// Whether slots were seen to differ.
    pub(super) started: bool,
    /// Whether packets look at all of its slots.
    pub(super) looked_at: bool,
}

/// What a look has found.
#[derive(Clone, Debug)]
pub(super) struct LastLook {
    at: Duration,
    /// Slots that differ and have not moved.
    pub(super) differing: u32,
    /// Whether no slot differed, not even one that has moved.
    calm: bool,
    /// By slot: its owner where that was its pick, and packets may go by it alone once no flow of the slot is recorded; 0: not
    /// so, or they do.
    ending: Vec<BackendNumber>,
    /// How long from then until the first and the last of these slots move.
    pub(super) next: Option<Duration>,
    pub(super) last: Option<Duration>,
    /// The same moment of `CLOCK_BOOTTIME`.
    pub(super) boot: Duration,
    /// How many slots each backend owned, those that have moved with their new ones.
    pub(super) owned: Vec<(BackendNumber, u32)>,
}

impl ServiceTransition {
    pub(super) fn count_change(&mut self) {
        self.changes = self.changes.saturating_add(1);
    }

    /// Whether a look would see anything new. Nothing but a change, or the time that a slot has waited, makes slots move.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        let Some(LastLook { at, differing, calm, next, .. }) = &self.last else { return true };
        // That slots which have moved are calm is for the next look to see.
        let waits = if *differing == 0 { Duration::ZERO } else { next.unwrap_or(REPEAT).min(REPEAT) };
        self.changes > 0 || (!calm && now >= *at + waits)
    }

    /// Whether each owner was its slot's pick at the last look, and nothing has changed since.
    pub(super) fn is_calm(&self) -> bool {
        self.changes == 0 && self.last.as_ref().is_some_and(|last| last.calm)
    }

    /// Slots in which packets may go by the owner alone once no flow is recorded, each with its owner; none after a change.
    fn ending(&self) -> impl Iterator<Item = (u32, BackendNumber)> {
        let last = self.last.as_ref().filter(|_| self.changes == 0);
        let slots = last.into_iter().flat_map(|last| (0..).zip(last.ending.iter().copied()));
        slots.filter(|(_, owner)| *owner != 0)
    }

    /// Whether there is one of these without a record.
    pub(super) fn may_end_a_look(&self, is_recorded: impl Fn(u32) -> bool) -> bool {
        self.ending().any(|(slot, _)| !is_recorded(slot))
    }

    /// Ends the look at those without a record.
    pub(super) fn end_looks(&mut self, slots: &Slots<'_>, is_recorded: impl Fn(u32) -> bool) {
        let free: Vec<_> = self.ending().filter(|(slot, _)| !is_recorded(*slot)).collect();
        let Some(last) = &mut self.last else { return };
        for (slot, owner) in free {
            // Where it can't be, somebody has changed it: the next look finds out.
            if slots.end_look(slot, owner) {
                last.ending[slot as usize] = 0;
                self.looked_at = false;
            }
        }
    }

    pub(super) const fn last(&self) -> Option<&LastLook> {
        self.last.as_ref()
    }

    /// Counts what differs, for a caller that changes nothing: no owner is moved, and nothing remembered.
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

    /// Looks at all slots, and moves those whose time has come. Returns whether slots differ that did not before.
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
                // Who made the change did not come to it.
                slots.look(number);
            }
            ending.push(if slot.owner == pick && slot.look != 0 { pick } else { 0 });
            let unrecorded = slot.unrecorded != 0 && slots.take_unrecorded(number);
            SlotState { owner: slot.owner, pick: (pick != 0).then_some(pick), unrecorded }
        });
        let look = timers.reconcile(now, changes, seen);
        for to_move in &look.moves {
            // Where a flow found no room since the look, the slot is not to move yet.
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

/// Counts `more` slots of a backend.
fn count(owned: &mut Vec<u32>, backend: BackendNumber, more: i32) {
    let at = usize::from(backend);
    if owned.len() <= at {
        owned.resize(at + 1, 0);
    }
    owned[at] = owned[at].saturating_add_signed(more);
}
