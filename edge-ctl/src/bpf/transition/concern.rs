//! The slots that a change concerns: packets look at these before the change is made, and because of it at no others.
//!
//! In a slot at which packets do not look, the owner is the pick, and no flow is recorded. If it is the pick after the
//! change as well, the slot's packets go where they went before. So the drain of one backend of ten concerns a tenth of the
//! slots, and a change in a pool that no slot uses concerns none.
//!
//! A slot may be marked too late, if another writer has changed something else meanwhile. The next pass marks it. Until then
//! all of its flows go to its owner, where they stay: none breaks.
//!
//! A publication also concerns all slots of a service to which flows may come that had another slot before: such a flow may
//! be recorded, while its new slot is unmarked.

use edge_common::abi::{BackendNumber, Failover, Service, State};

use super::collect::Destinations;
use crate::{
    bpf::{
        BpfError, PinnedMaps,
        picks::{Picks, alike},
        slots::Slots,
        view::{Copies, Picker},
    },
    plan::{Image, NewOwners},
};

/// Slots for which changes may search the picks between two passes, some 40 ms' worth. After that, a change concerns all
/// slots of its services: a hundred backends that come back at once must not delay the death of another one.
const SEARCHED: u32 = 1 << 19;
/// Slots for which a publication may search the picks, some 700 ms' worth: 128 lists of pools with 65,536 slots each. After
/// that, it concerns all slots of the services that are left.
const SEARCHED_TO_PUBLISH: u32 = 1 << 23;

/// Pools, backends and services as they will be after a change.
pub(in crate::bpf) struct Foreseen {
    copies: Copies,
    /// The services whose picks may change, by number.
    services: Vec<(u32, Service)>,
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
        self.look_at_foreseen(services, foresee);
        self.separate(services);
        were_stable
    }

    /// Sets `look` in the slots that an announced change concerns. If `foresee` fails, these are all.
    pub(in crate::bpf) fn look_at_foreseen(
        &mut self,
        services: &[u32],
        foresee: impl FnOnce(&mut Self) -> Result<Foreseen, BpfError>,
    ) {
        if services.iter().all(|number| self.handover.is_looked_at(*number)) {
            return;
        }
        match foresee(self) {
            Ok(foreseen) => {
                let left = SEARCHED.saturating_sub(self.handover.searched);
                self.handover.searched += self.look_at_concerned(foreseen, left);
            }
            Err(_in_doubt) => self.look_at(services),
        }
    }

    /// Sets `look` in the slots that a staged generation concerns once it is in force, of the services that keep their
    /// slots: in new slots it is set. A service whose pools stay as they are keeps its picks, without a search.
    pub(in crate::bpf) fn look_at_staged(&mut self, image: &Image, bank: u32) {
        let Some((in_force, generation)) = self.maps.published() else { return };
        let was = Copies::take(&self.maps, in_force, &generation);
        let copies = Copies::take(&self.maps, bank, &image.generation);
        let destinations = |bank, generation| Destinations::of(&self.maps, bank, generation);
        let regrouped = destinations(bank, &image.generation).regrouped(&destinations(in_force, &generation));
        let is_hashed_anew = image.generation.hash_key != generation.hash_key;
        let mut services = Vec::new();
        for new in image.services.iter().filter(|new| new.owners == NewOwners::Kept) {
            let keeps_picks = |old| alike(&old) == alike(&new.service) && copies.has_pools_of(&was, &new.service);
            if is_hashed_anew || regrouped.contains(&new.number) {
                Slots::of(&self.maps, &new.service).look_at_all();
            } else if !self.maps.service(in_force, new.number).is_some_and(keeps_picks) {
                services.push((new.number, new.service));
            }
        }
        self.look_at_concerned(Foreseen { copies, services }, SEARCHED_TO_PUBLISH);
    }

    /// Sets `look` in the slots whose owner will not be the pick, and in those whose owner is dead: packets look at these
    /// in any case, and may change the owner meanwhile. Picks for `most` slots at most, and returns for how many.
    fn look_at_concerned(&mut self, Foreseen { copies, mut services }: Foreseen, most: u32) -> u32 {
        // Services that are alike are neighbours and share their picks.
        services.sort_by_key(|(number, service)| {
            (service.pools, service.failover, service.when_exhausted, service.slot_mask, *number)
        });
        let (mut picks, mut searched) = (Picks::default(), 0);
        for (number, service) in services {
            if self.handover.is_looked_at(number) {
                continue;
            }
            picks.start(&service, 0);
            if picks.all().is_empty() && service.slot_mask >= most - searched {
                self.look_at(&[number]);
                continue;
            }
            searched += picks.go_on(&Picker::new(&self.maps, &copies), u32::MAX);
            let is_concerned = |slot: u32, owner| {
                picks.all().get(slot as usize) != Some(&owner) || !self.state(owner).has_all(State::ALIVE)
            };
            Slots::of(&self.maps, &service).look_where(is_concerned);
        }
        searched
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
