//! The reconcile pass: over all services in transition, in small steps, until each is stable.
//!
//! ```text
//! every second    look at each service in transition: slots that have waited long enough change owner
//!                   -> read the records: delete needless ones, count the others
//!                      -> if a service has no differing slot and no record: wait for packets on their way
//!                         -> read the records again: if there is still none, and no change, the service is stable
//! ```
//!
//! The caller does other work between two steps. After a change in the middle of a pass all picks are found anew, and
//! the services concerned stay in transition for this pass. If a controller dies, its successor continues the work; it
//! has no timers, and so waits a whole idle timeout.

use std::{collections::BTreeMap, thread, time::Duration};

use edge_common::abi::Generation;

use super::{
    collect::{Reading, Tally},
    progress::{Finished, Progress, Waits},
    service::ServiceTransition,
};
use crate::bpf::{
    BpfError, PinnedMaps,
    clock::boot_time,
    maps::Maps,
    picks::Picks,
    slots::Slots,
    sys,
    view::{Copies, Picker},
};

/// Work of one step in slots, some milliseconds' worth: looking at a slot counts as one, picking for it as several.
const STEP: u32 = 1 << 17;
/// Cost of picking for a slot, relative to looking at it.
const PICK: u32 = 16;
/// Pause between two readings of the records, as a multiple of the duration of a reading.
const PAUSE: u32 = 9;

/// This controller's state of the services in transition, and of its pass.
#[derive(Debug, Default)]
pub(in crate::bpf) struct Handover {
    /// By service number.
    pub(super) services: BTreeMap<u32, ServiceTransition>,
    /// Counts changes of states, failovers and generations.
    change: u64,
    pass: Option<Pass>,
    /// Slots whose picks were searched before changes, since a pass was to begin.
    pub(in crate::bpf) searched: u32,
    picks: Picks,
    copies: Option<(u64, Copies)>,
    /// Result of the last reading of the records; `None` before the first.
    pub(super) tally: Option<Tally>,
    /// When records may be read again.
    next_reading: Duration,
}

#[derive(Debug)]
struct Pass {
    bank: u32,
    generation: Generation,
    waits: BTreeMap<u32, Waits>,
    stage: Stage,
    started: Vec<u32>,
}

#[derive(Debug)]
enum Stage {
    /// Looks at these services, the last one first.
    Look(Vec<u32>),
    Read(Box<Reading>),
    Wait(thread::JoinHandle<()>),
    /// Reads the records once more after the wait.
    Confirm(Box<Reading>),
}

impl Handover {
    /// Counts a change that concerns these services.
    pub(in crate::bpf) fn count_change(&mut self, services: &[u32]) {
        self.change += 1;
        for number in services {
            if let Some(transition) = self.services.get_mut(number) {
                transition.count_change();
            }
        }
    }

    /// Notes that this controller has incremented the flag of a service from `before` to `after`.
    pub(in crate::bpf) fn raised(&mut self, service: u32, before: u32, after: u32) {
        if let Some(transition) = self.services.get_mut(&service)
            && transition.flag.is_none_or(|known| known == before)
        {
            transition.flag = Some(after);
        }
    }

    /// Compares a service's flag with its last known value. A difference is another writer's change.
    pub(in crate::bpf) fn heed(&mut self, service: u32, flag: u32) {
        let Some(transition) = self.services.get_mut(&service) else { return };
        let known = transition.flag.replace(flag);
        if known.is_some_and(|known| known != flag) {
            self.change += 1;
            transition.count_change();
            transition.count_change();
        }
    }

    /// Whether `look` is set in all slots of a service, as far as this controller has observed.
    pub(in crate::bpf) fn is_looked_at(&self, service: u32) -> bool {
        self.services.get(&service).is_some_and(|transition| transition.looked_at)
    }

    /// Notes that `look` is set in all slots of the service.
    pub(in crate::bpf) fn looked_at(&mut self, service: u32) {
        self.services.entry(service).or_default().looked_at = true;
    }

    /// The flag of a service as this controller last saw it.
    pub(in crate::bpf) fn flag(&self, service: u32) -> Option<u32> {
        self.services.get(&service)?.flag
    }

    /// Notes that another generation was published: a change for all services, which ends the pass over the previous
    /// generation.
    pub(in crate::bpf) fn published(&mut self) {
        self.change += 1;
        self.pass = None;
        self.tally = None;
        for transition in self.services.values_mut() {
            transition.count_change();
            (transition.flag, transition.looked_at) = (None, false);
        }
    }

    /// Pools and backends as of the last change.
    fn copies<'a>(copies: &'a mut Option<(u64, Copies)>, change: u64, maps: &Maps, pass: &Pass) -> &'a Copies {
        if copies.as_ref().is_some_and(|(of, _)| *of != change) {
            *copies = None;
        }
        &copies.get_or_insert_with(|| (change, Copies::take(maps, pass.bank, &pass.generation))).1
    }
}

impl PinnedMaps {
    /// Begins a pass over the services in transition, unless a pass is under way; `waits` are those of all services.
    pub(crate) fn begin_pass(&mut self, waits: &[(u32, Waits)]) -> Result<(), BpfError> {
        self.handover.searched = 0;
        if self.handover.pass.is_some() {
            return Ok(());
        }
        let Some((bank, generation)) = self.maps.published() else { return Ok(()) };
        let known = self.known()?;
        self.share_some()?;
        let changing = known.services.iter().map(|record| record.number).filter(|number| self.in_transition(*number));
        let mut services: Vec<_> =
            changing.filter_map(|number| Some((number, self.maps.service(bank, number)?))).collect();
        let handover = &mut self.handover;
        handover.services.retain(|number, _| services.iter().any(|(changing, _)| changing == number));
        if services.is_empty() && handover.tally.as_ref().is_some_and(Tally::is_empty) {
            return Ok(());
        }
        // Sorted so that services that are alike are neighbours and share their picks.
        services.sort_by_key(|(number, service)| (service.pools, service.failover, service.when_exhausted, *number));
        let services: Vec<_> = services.into_iter().map(|(number, _)| number).collect();
        self.separate_changing(&services);
        let handover = &mut self.handover;
        for number in &services {
            handover.services.entry(*number).or_default();
        }
        for number in &services {
            self.heed_others(*number);
        }
        let handover = &mut self.handover;
        handover.pass = Some(Pass {
            bank,
            generation,
            waits: waits.iter().copied().collect(),
            stage: Stage::Look(services),
            started: Vec::new(),
        });
        Ok(())
    }

    /// Does a few milliseconds' work of the pass. `now` is of `CLOCK_MONOTONIC`, the clock of flow records.
    ///
    /// # Errors
    /// An error ends the pass; the next pass begins anew.
    pub(crate) fn go_on(&mut self, now: Duration) -> Result<Progress, BpfError> {
        let Some(mut pass) = self.handover.pass.take() else { return Ok(Progress::Idle) };
        Ok(match self.step(&mut pass, now)? {
            Progress::Done { finished, .. } => Progress::Done { started: pass.started, finished },
            more => {
                self.handover.pass = Some(pass);
                more
            }
        })
    }

    fn step(&mut self, pass: &mut Pass, now: Duration) -> Result<Progress, BpfError> {
        match &mut pass.stage {
            Stage::Look(_) => {
                let all = self.look_on(pass, now);
                if all && now < self.handover.next_reading {
                    return Ok(Progress::Done { started: Vec::new(), finished: Vec::new() });
                }
                if all {
                    pass.stage = Stage::Read(Box::new(Reading::new(&self.maps, pass.bank, &pass.generation, now)));
                }
                Ok(Progress::GoOn)
            }
            Stage::Read(_) | Stage::Confirm(_) => self.read_on(pass, now),
            Stage::Wait(waiting) => {
                if !waiting.is_finished() {
                    return Ok(Progress::Wait);
                }
                pass.stage = Stage::Confirm(Box::new(Reading::new(&self.maps, pass.bank, &pass.generation, now)));
                Ok(Progress::GoOn)
            }
        }
    }

    /// Looks at services for the duration of a step, at least at one, or makes a part of its picks. Returns whether all
    /// services were looked at.
    fn look_on(&mut self, pass: &mut Pass, now: Duration) -> bool {
        let mut work = 0;
        while work < STEP {
            let Stage::Look(left) = &mut pass.stage else { return true };
            let Some(&number) = left.last() else { return true };
            self.heed_others(number);
            let Handover { services, change, picks, copies, .. } = &mut self.handover;
            let (Some(transition), Some(service)) = (services.get_mut(&number), self.maps.service(pass.bank, number))
            else {
                left.pop();
                continue;
            };
            if !transition.is_due(now) {
                left.pop();
                continue;
            }
            let picker = Picker::new(&self.maps, Handover::copies(copies, *change, &self.maps, pass));
            picks.start(&service, *change);
            work += picks.go_on(&picker, (STEP - work) / PICK) * PICK;
            if picks.all().len() <= service.slot_mask as usize {
                return false;
            }
            let Stage::Look(left) = &mut pass.stage else { return true };
            left.pop();
            work = work.saturating_add(service.slot_mask);
            let waits = pass.waits.get(&number).copied().unwrap_or(Waits::UNKNOWN);
            let slots = Slots::of(&self.maps, &service);
            if transition.look(&service, &slots, picks.all(), waits, now, boot_time()) {
                pass.started.push(number);
            }
        }
        false
    }

    /// Reads the next run of records, and decides after the last run how the pass continues.
    fn read_on(&mut self, pass: &mut Pass, now: Duration) -> Result<Progress, BpfError> {
        let handover = &mut self.handover;
        let copies = Handover::copies(&mut handover.copies, handover.change, &self.maps, pass);
        let (Stage::Read(reading) | Stage::Confirm(reading)) = &mut pass.stage else { return Ok(Progress::GoOn) };
        if !reading.go_on(&self.maps, copies, &pass.waits, now)? {
            return Ok(Progress::GoOn);
        }
        handover.next_reading = now + now.saturating_sub(reading.began()) * PAUSE;
        let tally = handover.tally.insert(reading.finish());
        let calm = handover.services.iter().filter(|(number, transition)| {
            // No slot differed at the last look, nothing has changed since, and the service has no record.
            transition.is_calm() && tally.of_service(**number) == 0
        });
        let calm: Vec<_> = calm.map(|(number, _)| *number).collect();
        let may_end_a_look =
            |(number, transition): (&u32, &ServiceTransition)| transition.may_end_a_look(tally.is_recorded(*number));
        if calm.is_empty() && !handover.services.iter().any(may_end_a_look) {
            return Ok(Progress::Done { started: Vec::new(), finished: Vec::new() });
        }
        if let Stage::Read(_) = pass.stage {
            let at_once = |_| {
                // If no thread can be started, this one waits.
                sys::wait_for_packets();
                Stage::Confirm(Box::new(Reading::new(&self.maps, pass.bank, &pass.generation, now)))
            };
            pass.stage = thread::Builder::new().spawn(sys::wait_for_packets).map_or_else(at_once, Stage::Wait);
            return Ok(Progress::Wait);
        }
        // These slots had no record, and can have none now: packets that saw another pick have left.
        for (number, transition) in &mut handover.services {
            if let Some(service) = self.maps.service(pass.bank, *number) {
                transition.end_looks(&Slots::of(&self.maps, &service), tally.is_recorded(*number));
            }
        }
        let finished = calm.into_iter().filter_map(|service| {
            let since_ms = self.transition_note(service).changed_ms;
            if !self.end_transition(service) {
                return None;
            }
            self.may_share(service);
            let ServiceTransition { moved, started, .. } = self.handover.services.remove(&service)?;
            Some(Finished { service, since_ms, moved, started })
        });
        Ok(Progress::Done { started: Vec::new(), finished: finished.collect() })
    }
}
