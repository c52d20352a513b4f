//! Services are settled, or they are not: said before each change that could make a slot's owner the wrong answer.

use std::{
    mem::offset_of,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use edge_common::abi::{Note, Service};

use super::{Kernel, KernelError, maps::position, states::note};
use crate::model::Snapshot;

impl Kernel {
    /// Whether packets of a service may find the owner of their slot wrong, or a record of their flow.
    pub(crate) fn is_unsettled(&self, service: u32) -> bool {
        self.unsettled_word(self.maps.half(), service).is_some_and(|word| word.load(Ordering::Acquire) != 0)
    }

    /// Since when a service is not settled, and what came first; nothing while it is.
    pub(crate) fn transition_note(&self, service: u32) -> Note {
        self.maps.transitions.read(service).unwrap_or(note(0, ""))
    }

    /// Says that the services are not settled any more, and returns those that were. To be done before the change that is
    /// the reason, which is counted with this; [`note_transitions`](Self::note_transitions) has time until after it.
    pub(super) fn unsettle(&mut self, services: &[u32]) -> Vec<u32> {
        let half = self.maps.half();
        let unsettles = |&&service: &&u32| {
            self.unsettled_word(half, service).is_some_and(|word| word.swap(1, Ordering::AcqRel) == 0)
        };
        let were_settled = services.iter().filter(unsettles).copied().collect();
        self.following.count_change(services);
        were_settled
    }

    /// Writes down since when services are not settled, and why.
    pub(super) fn note_transitions(&self, services: &[u32], why: &str) {
        for &service in services {
            // It is for people: where there is no room for it there is nothing to be said.
            let _past_the_end = self.maps.transitions.write(service, note(now_ms(), why));
        }
    }

    /// Says that a service is settled. Its owners are its picks, it has no records, and no packet is on its way that saw
    /// anything else.
    pub(super) fn set_settled(&mut self, service: u32) {
        // Nobody looks at the note of a settled service; what is unsettled by the packet path must not find this one.
        let _past_the_end = self.maps.transitions.write(service, note(0, ""));
        if let Some(word) = self.unsettled_word(self.maps.half(), service) {
            word.store(0, Ordering::Release);
        }
    }

    /// The services of the published half that list the pool. Those that have left it may be among them.
    pub(super) fn services_of(&self, pool: u16) -> Vec<u32> {
        let half = self.maps.half();
        let lists =
            |service: &Service| service.pools.iter().take(service.pool_count.into()).any(|&listed| listed == pool);
        (0..self.capacity.services)
            .filter(|&number| self.maps.service(half, number).is_some_and(|service| lists(&service)))
            .collect()
    }

    /// What is published; read once in a generation.
    pub(super) fn known(&mut self) -> Result<Arc<Snapshot>, KernelError> {
        let (_, generation) = self.maps.published().ok_or(KernelError::Unpublished)?;
        match &self.known {
            Some(known) if known.generation == generation.number => Ok(Arc::clone(known)),
            _ => {
                let known = Arc::new(self.snapshot()?.ok_or(KernelError::Unpublished)?);
                self.known = Some(Arc::clone(&known));
                Ok(known)
            }
        }
    }

    pub(super) fn unsettled_word(&self, half: u32, service: u32) -> Option<&AtomicU32> {
        self.maps.services.word(position(half, service)?, offset_of!(Service, in_transition))
    }
}

fn now_ms() -> u64 {
    u64::try_from(super::boot_time().as_millis()).unwrap_or(u64::MAX)
}
