//! Report on services in transition, for `status`.

use std::time::Duration;

use edge_common::abi::BackendNumber;

use super::{
    collect::Reading,
    progress::{Held, Transition},
    reconcile::Handover,
    service::ServiceTransition,
};
use crate::bpf::{
    BpfError, NatBackend, PinnedMaps,
    clock::{boot_time, monotonic_time},
    notes::text_of,
    picks::Picks,
    slots::Slots,
    view::{Copies, Picker},
};

impl PinnedMaps {
    /// Looks at all services once and changes nothing, so that [`transition`](Self::transition) and [`held`](Self::held)
    /// can report what the maps show without a daemon. Needs no lock.
    pub(crate) fn survey(&mut self) -> Result<(), BpfError> {
        let Some((bank, generation)) = self.maps.published() else { return Ok(()) };
        let known = self.known()?;
        let copies = Copies::take(&self.maps, bank, &generation);
        let picker = Picker::new(&self.maps, &copies);
        let mut picks = Picks::default();
        for record in &known.services {
            if !self.in_transition(record.number) {
                continue;
            }
            let Some(service) = self.maps.service(bank, record.number) else { continue };
            picks.start(&service, 0);
            picks.go_on(&picker, u32::MAX);
            let looked = ServiceTransition::survey(&Slots::of(&self.maps, &service), picks.all(), boot_time());
            self.handover.services.insert(record.number, looked);
        }
        self.survey_nat(monotonic_time())?;
        self.handover.tally = Some(Reading::new(&self.maps, bank, &generation, Duration::ZERO).count(&self.maps)?);
        Ok(())
    }

    /// Progress of a service in transition; `None` if the service is stable.
    pub(crate) fn transition(&self, service: u32) -> Option<Transition> {
        if !self.in_transition(service) {
            return None;
        }
        let Handover { services, tally, .. } = &self.handover;
        let last = services.get(&service).and_then(ServiceTransition::last);
        let ms = |(boot, rest): (Duration, Duration)| u64::try_from((boot + rest).as_millis()).unwrap_or(u64::MAX);
        let note = self.transition_note(service);
        Some(Transition {
            changed_ms: note.changed_ms,
            why: text_of(&note).into_owned(),
            differing: last.map(|last| last.differing),
            records: tally.as_ref().map_or(0, |tally| tally.of_service(service)),
            next_ms: last.and_then(|last| Some(ms((last.boot, last.next?)))),
            last_ms: last.and_then(|last| Some(ms((last.boot, last.last?)))),
        })
    }

    /// Number of slots and records that name a backend without new flows, as of the last looks; `None` before the first
    /// look.
    pub(crate) fn held(&self, backend: BackendNumber) -> Option<Held> {
        let records = self.handover.tally.as_ref()?.of_backend(backend);
        let mut slots = 0;
        // Stable services are left out: the owner of a stable slot takes its new flows, so it is not retired.
        for looked in self.handover.services.values() {
            let owned = looked.last()?.owned.iter().find(|(number, _)| *number == backend);
            slots += owned.map_or(0, |(_, slots)| u64::from(*slots));
        }
        let of_it = |counted: &&NatBackend| counted.backend == backend;
        let translated = self
            .nat_use()
            .map_or(0, |nat| nat.backends.iter().filter(of_it).map(|counted| u64::from(counted.counts.flows)).sum());
        Some(Held { slots, records: records + translated })
    }
}
