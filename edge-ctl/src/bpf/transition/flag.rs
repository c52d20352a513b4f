//! The flag of a service in transition: raised before each change after which an owner may differ from its pick.

use std::{
    mem::offset_of,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use edge_common::abi::{Note, Service};

use crate::{
    bpf::{BpfError, PinnedMaps, clock::boot_ms, maps::position, notes::note},
    plan::Snapshot,
};

impl PinnedMaps {
    /// Whether the owner of a service's slot may be the wrong backend for a packet, or a flow of it recorded elsewhere.
    pub(crate) fn in_transition(&self, service: u32) -> bool {
        self.transition_flag(self.maps.bank(), service).is_some_and(|flag| flag.load(Ordering::Acquire) != 0)
    }

    /// Since when a service is in transition, and the first reason; empty while it is stable.
    pub(crate) fn transition_note(&self, service: u32) -> Note {
        self.maps.transitions.read(service).unwrap_or(note(0, ""))
    }

    /// Flags the services as in transition, counts the change, and returns the services that were stable.
    ///
    /// The caller makes its change after this; [`note_transitions`](Self::note_transitions) has time until after that.
    pub(in crate::bpf) fn begin_transition(&mut self, services: &[u32]) -> Vec<u32> {
        let bank = self.maps.bank();
        let begins = |&&service: &&u32| {
            self.transition_flag(bank, service).is_some_and(|flag| flag.swap(1, Ordering::AcqRel) == 0)
        };
        let were_stable = services.iter().filter(begins).copied().collect();
        self.handover.count_change(services);
        were_stable
    }

    /// Notes since when the services are in transition, and why.
    pub(in crate::bpf) fn note_transitions(&self, services: &[u32], why: &str) {
        for &service in services {
            // The note is for people: a service beyond the map goes without.
            let _past_the_end = self.maps.transitions.write(service, note(boot_ms(), why));
        }
    }

    /// Flags a service as stable. Its owners are its picks, it has no records, and every packet that saw another state
    /// has left the packet path.
    pub(in crate::bpf) fn end_transition(&mut self, service: u32) {
        // A stable service's note is never read. It is cleared first: the packet path may begin the next transition, and
        // must not find this one's note.
        let _past_the_end = self.maps.transitions.write(service, note(0, ""));
        if let Some(flag) = self.transition_flag(self.maps.bank(), service) {
            flag.store(0, Ordering::Release);
        }
    }

    /// The services of the published generation that list the pool. Services that were removed may be among them.
    pub(in crate::bpf) fn services_of(&self, pool: u16) -> Vec<u32> {
        let bank = self.maps.bank();
        let lists =
            |service: &Service| service.pools.iter().take(service.pool_count.into()).any(|&listed| listed == pool);
        (0..self.capacity.services)
            .filter(|&number| self.maps.service(bank, number).is_some_and(|service| lists(&service)))
            .collect()
    }

    /// The published snapshot, read once in a generation.
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
