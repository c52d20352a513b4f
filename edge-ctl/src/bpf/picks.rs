//! The pick of each slot, found step by step, and once for all services that are alike.

use edge_common::abi::{BackendNumber, Service, Slot, SlotCell};

use super::view::Picker;

/// The picks of all slots, or of the first ones so far. Picking for a slot takes some 80 ns.
#[derive(Debug, Default)]
pub(super) struct Picks {
    /// The service, reduced by [`alike`], and the change that the picks are for.
    of: Option<(Service, u64)>,
    picks: Vec<BackendNumber>,
}

impl Picks {
    /// Continues with the picks for services like this one as of `change`, or starts anew.
    pub(super) fn start(&mut self, service: &Service, change: u64) {
        let of = Some((alike(service), change));
        if self.of != of {
            self.of = of;
            self.picks.clear();
        }
    }

    /// Picks for up to `slots` more slots. Returns the number of picks made.
    pub(super) fn go_on(&mut self, picker: &Picker<'_>, slots: u32) -> u32 {
        let Some((service, _)) = self.of else { return 0 };
        let from = u32::try_from(self.picks.len()).unwrap_or(u32::MAX);
        let to = service.slot_mask.saturating_add(1).min(from.saturating_add(slots));
        self.picks.extend((from..to).map(|slot| picker.pick(&service, slot).unwrap_or(0)));
        to.saturating_sub(from)
    }

    /// The picks in slot order; 0 where a slot has no pick.
    pub(super) fn all(&self) -> &[BackendNumber] {
        &self.picks
    }

    /// Cells of slots whose owners are the picks, with `look` set.
    pub(super) fn cells(&self) -> impl Iterator<Item = SlotCell> {
        let slot = |owner| Slot { look: 1, ..Slot::of(owner) };
        self.picks.as_chunks().0.iter().map(move |owners| SlotCell(owners.map(slot)))
    }
}

/// The fields of a service that selection depends on. Services that are equal in these have the same picks, and picking
/// takes ten times as long as looking at an owner.
pub(super) const fn alike(service: &Service) -> Service {
    Service {
        slots: 0,
        in_transition: 0,
        redirected: 0,
        servers: 0,
        server_mask: 0,
        cid_offset: 0,
        cid_length: 0,
        ..*service
    }
}
