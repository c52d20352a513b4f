//! The slots that a change concerns: packets look at these before the change is made, and because of it at no others.
//!
//! In a slot at which packets do not look, the owner is the pick, and no flow is recorded. If it is the pick after the
//! change as well, the slot's packets go where they went before. So the drain of one backend of ten concerns a tenth of the
//! slots, and a change in a pool that no slot uses concerns none.
//!
//! A slot may be marked too late, if another writer has changed something else meanwhile. The next pass marks it. Until then
//! all of its flows go to its owner, where they stay: none breaks.

use edge_common::abi::{BackendNumber, Failover, Service, State};

use super::reconcile::Handover;
use crate::bpf::{
    BpfError, PinnedMaps,
    picks::Picks,
    slots::Slots,
    view::{Copies, Picker},
};

/// Slots for which changes may search the picks between two passes, some 40 ms' worth. After that, a change concerns all
/// slots of its services: a hundred backends that come back at once must not delay the death of another one.
const SEARCHED: u32 = 1 << 19;

/// Pools, backends and services as they will be after a change.
pub(in crate::bpf) struct Foreseen {
    copies: Copies,
    /// The services whose picks may change, by number.
    services: Vec<(u32, Service)>,
}

impl Handover {
    /// Whether the picks of this many slots may be searched before a change. If so, they count as searched.
    fn may_search(&mut self, slots: u32) -> bool {
        let searched = self.searched.saturating_add(slots);
        let may = searched <= SEARCHED;
        if may {
            self.searched = searched;
        }
        may
    }
}

impl PinnedMaps {
    /// As [`begin_transition`](Self::begin_transition), but sets `look` only in the slots that the change concerns. If
    /// `foresee` fails, that is all of them.
    pub(in crate::bpf) fn begin_change(
        &mut self,
        services: &[u32],
        foresee: impl FnOnce(&mut Self) -> Result<Foreseen, BpfError>,
    ) -> Vec<u32> {
        let were_stable = self.announce_change(services);
        if services.iter().any(|number| !self.handover.is_looked_at(*number)) {
            match foresee(self) {
                Ok(foreseen) => self.look_at_concerned(foreseen),
                Err(_in_doubt) => self.look_at(services),
            }
        }
        self.separate(services);
        were_stable
    }

    /// Sets `look` in the slots whose owner will not be the pick, and in those whose owner is dead: packets look at these
    /// in any case, and may change the owner meanwhile.
    fn look_at_concerned(&mut self, Foreseen { copies, mut services }: Foreseen) {
        // Services that are alike are neighbours and share their picks.
        services.sort_by_key(|(number, service)| {
            (service.pools, service.failover, service.when_exhausted, service.slot_mask, *number)
        });
        let mut picks = Picks::default();
        for (number, service) in services {
            if self.handover.is_looked_at(number) {
                continue;
            }
            picks.start(&service, 0);
            if picks.all().is_empty() && !self.handover.may_search(service.slot_mask.saturating_add(1)) {
                self.look_at(&[number]);
                continue;
            }
            picks.go_on(&Picker::new(&self.maps, &copies), u32::MAX);
            let is_concerned = |slot: u32, owner| {
                picks.all().get(slot as usize) != Some(&owner) || !self.state(owner).has_all(State::ALIVE)
            };
            Slots::of(&self.maps, &service).look_where(is_concerned);
        }
    }

    /// The published generation once a backend of `pool` is in `state`, with these services.
    ///
    /// # Errors
    /// If nothing is published, or the snapshot cannot be read.
    pub(in crate::bpf) fn foresee_state(
        &mut self,
        (pool, number): (u16, BackendNumber),
        state: State,
        services: &[u32],
    ) -> Result<Foreseen, BpfError> {
        let (bank, generation) = self.maps.published().ok_or(BpfError::Unpublished)?;
        let mut copies = Copies::take(&self.maps, bank, &generation);
        self.foresee_members(&mut copies, (pool, number), state)?;
        let service = |&number: &u32| Some((number, self.maps.service(bank, number)?));
        Ok(Foreseen { copies, services: services.iter().filter_map(service).collect() })
    }

    /// The published generation once a service has this failover.
    ///
    /// # Errors
    /// If nothing is published, or there is no such service.
    pub(in crate::bpf) fn foresee_failover(&self, number: u32, failover: Failover) -> Result<Foreseen, BpfError> {
        let (bank, generation) = self.maps.published().ok_or(BpfError::Unpublished)?;
        let service = self.maps.service(bank, number).ok_or(BpfError::NoSuchService(number))?;
        let service = Service { failover: failover.to_raw(), ..service };
        Ok(Foreseen { copies: Copies::take(&self.maps, bank, &generation), services: vec![(number, service)] })
    }
}
