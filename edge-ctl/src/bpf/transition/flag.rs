//! The flag of a service in transition: raised before each change after which an owner may differ from its pick.

use std::{
    mem::offset_of,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use edge_common::{
    abi::{Note, Service},
    flow_table::units,
};

use crate::{
    bpf::{
        BpfError, PinnedMaps,
        clock::{boot_ms, monotonic_time},
        maps::position,
        notes::note,
        slots::Slots,
    },
    plan::Snapshot,
};

impl PinnedMaps {
    /// Whether a service is in transition: a slot's owner may be the wrong backend for a packet, or a flow may be
    /// recorded at another backend.
    pub(crate) fn in_transition(&self, service: u32) -> bool {
        self.transition_flag(self.maps.bank(), service).is_some_and(|flag| flag.load(Ordering::Acquire) != 0)
    }

    /// Since when a service is in transition, and the first reason; empty while the service is stable.
    pub(crate) fn transition_note(&self, service: u32) -> Note {
        self.maps.transitions.read(service).unwrap_or(note(0, ""))
    }

    /// Flags the services as in transition, sets `look` in all their slots, counts the change, and returns the services
    /// that were stable. [`begin_change`](Self::begin_change) sets `look` in the slots alone that the change concerns.
    ///
    /// The caller makes its change after this; [`note_transitions`](Self::note_transitions) may follow the change.
    pub(in crate::bpf) fn begin_transition(&mut self, services: &[u32]) -> Vec<u32> {
        let were_stable = self.announce_change(services);
        self.look_at(services);
        // Their own slots are ready to be looked at.
        self.separate(services);
        were_stable
    }

    /// As [`begin_transition`](Self::begin_transition), but for a death, which must not wait for the slots: packets look
    /// at a slot whose owner is dead anyway. [`separate`](Self::separate) follows the change at once, and
    /// [`look_at`](Self::look_at) for the other slots may follow it.
    pub(in crate::bpf) fn announce_change(&mut self, services: &[u32]) -> Vec<u32> {
        let were_stable = self.raise_flags(services);
        self.handover.count_change(services);
        were_stable
    }

    /// Sets `look` in all slots of the services.
    pub(in crate::bpf) fn look_at(&mut self, services: &[u32]) {
        let bank = self.maps.bank();
        for &number in services {
            // If no `look` was cleared since the last time, all are still set.
            if !self.handover.is_looked_at(number)
                && let Some(service) = self.maps.service(bank, number)
            {
                Slots::of(&self.maps, &service).look_at_all();
                self.handover.looked_at(number);
            }
        }
    }

    /// Sets `look` in the services' slots with these places in the order of return: before a change of a share, which is a
    /// number of places. Only slots between the old and the new share can have another pick afterwards, since a slot's
    /// search compares its own place with the share.
    pub(in crate::bpf) fn look_at_places(&mut self, services: &[u32], places: &Range<u32>) {
        let bank = self.maps.bank();
        for service in services.iter().filter_map(|&number| self.maps.service(bank, number)) {
            Slots::of(&self.maps, &service).look_at_places(places);
        }
        self.separate(services);
    }

    /// Increments the flags and returns the services that were stable.
    pub(in crate::bpf) fn raise_flags(&mut self, services: &[u32]) -> Vec<u32> {
        let bank = self.maps.bank();
        let mut were_stable = Vec::new();
        for &service in services {
            // The value 1 is reserved for the packet path.
            let raised = |flag: u32| flag.checked_add(1).unwrap_or(2).max(2);
            let flag = self.transition_flag(bank, service);
            let before = flag.and_then(|flag| {
                flag.fetch_update(Ordering::AcqRel, Ordering::Acquire, |flag| Some(raised(flag))).ok()
            });
            let Some(before) = before else { continue };
            self.handover.raised(service, before, raised(before));
            if before == 0 {
                were_stable.push(service);
            }
        }
        were_stable
    }

    /// Records the time at which services start to send new flows elsewhere ([`Service::redirected`]), before a change
    /// after which the old backends stay alive. A return by shares does not do so at each step: services would be marked
    /// all the time.
    pub(in crate::bpf) fn note_redirection(&self, bank: u32, services: &[u32]) {
        let now = u64::try_from(monotonic_time().as_nanos()).map_or(0, units).max(1);
        let word = |service| self.maps.services.atomic_u32(position(bank, service)?, offset_of!(Service, redirected));
        for word in services.iter().filter_map(|&service| word(service)) {
            word.store(now, Ordering::Release);
        }
    }

    /// Detects changes to the service by other writers since this controller last looked. A detected change counts as
    /// several, since there may have been more than one.
    pub(in crate::bpf) fn heed_others(&mut self, service: u32) {
        let flag = self.transition_flag(self.maps.bank(), service).map(|flag| flag.load(Ordering::Acquire));
        if let Some(flag) = flag {
            self.handover.heed(service, flag);
        }
    }

    /// Writes since when and why the services are in transition.
    pub(in crate::bpf) fn note_transitions(&self, services: &[u32], why: &str) {
        for &service in services {
            // The note is only displayed: a service past the end of the map has none.
            let _past_the_end = self.maps.transitions.write(service, note(boot_ms(), why));
        }
    }

    /// Flags a service as stable unless another writer has changed it. The caller ensures that its owners are its picks,
    /// that it has no records, and that every packet that saw another state has left the packet path.
    pub(in crate::bpf) fn end_transition(&mut self, service: u32) -> bool {
        // A stable service's note is never read. The note is cleared first: the packet path may begin the next
        // transition, which must not inherit it.
        let before = self.transition_note(service);
        let _past_the_end = self.maps.transitions.write(service, note(0, ""));
        let (flag, known) = (self.transition_flag(self.maps.bank(), service), self.handover.flag(service));
        let ended = flag
            .zip(known)
            .is_some_and(|(flag, known)| flag.compare_exchange(known, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok());
        if !ended {
            let _past_the_end = self.maps.transitions.write(service, before);
        }
        ended
    }

    /// The services of the published generation that list the pool. Removed services may be among them.
    pub(in crate::bpf) fn services_of(&self, pool: u16) -> Vec<u32> {
        let bank = self.maps.bank();
        let lists =
            |service: &Service| service.pools.iter().take(service.pool_count.into()).any(|&listed| listed == pool);
        (0..self.capacity.services)
            .filter(|&number| self.maps.service(bank, number).is_some_and(|service| lists(&service)))
            .collect()
    }

    /// The published snapshot, read once per generation.
    pub(in crate::bpf) fn known(&mut self) -> Result<Arc<Snapshot>, BpfError> {
        let (_, generation) = self.maps.published().ok_or(BpfError::Unpublished)?;
        match &self.known {
            Some(known) if known.generation == generation.number => Ok(Arc::clone(known)),
            _ => {
                let known = Arc::new(self.snapshot()?.ok_or(BpfError::Unpublished)?);
                self.known = Some(Arc::clone(&known));
                Ok(known)
            }
        }
    }

    pub(in crate::bpf) fn transition_flag(&self, bank: u32, service: u32) -> Option<&AtomicU32> {
        self.maps.services.atomic_u32(position(bank, service)?, offset_of!(Service, in_transition))
    }
}
