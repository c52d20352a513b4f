//! Owners follow their picks: a round over the services that are not settled, in small steps, until they are.
//!
//! ```text
//! every second    look at each unsettled service: its slots whose time has come move
//!                   -> read the records: those that are needed no more are deleted, the others counted
//!                      -> is there a service without differing slots, without records? wait for packets on their way
//!                         -> read the records again: still none, and nothing changed since the look: it is settled
//! ```
//!
//! Whoever calls has other things to do between two steps. A change in the middle of a round makes picks be found anew,
//! and keeps what it concerns from being settled in this round. What is not done when the controller dies is done by the
//! next one, which knows nothing and waits a whole linger.

mod service;

use std::{collections::BTreeMap, thread, time::Duration};

use edge_common::abi::{BackendNumber, Generation};

use self::service::Followed;
use super::{
    Kernel, KernelError, boot_time,
    collect::{Reading, Tally},
    maps::Maps,
    owners::Owners,
    picks::Picks,
    states, sys,
    view::{Copies, Picker},
};

/// Slots of work in a step, as much as takes some milliseconds: to look at a slot is one, to pick for it several.
const STEP: u32 = 1 << 17;
/// How much longer it takes to pick for a slot than to look at it.
const PICK: u32 = 16;
/// Records are read again after this many times as long as it took.
const PAUSE: u32 = 9;

/// How long a service's flows are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waits {
    /// How long a slot's pick must have been the same before it becomes the owner.
    pub(crate) linger: Duration,
    /// How long a flow's record is kept when no packet of it comes.
    pub(crate) expiry: Duration,
}

impl Waits {
    /// Of a service that nobody has said anything of.
    pub(super) const UNKNOWN: Self = Self { linger: Duration::from_mins(5), expiry: Duration::from_secs(301) };
}

/// What is under way in a service that is not settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transition {
    /// Since when: milliseconds of `CLOCK_BOOTTIME`; 0: not known.
    pub(crate) changed_ms: u64,
    pub(crate) why: String,
    /// Slots whose owner is not who takes their new flows; `None` before the first look.
    pub(crate) differing: Option<u32>,
    /// Flow records of the service, as of the last time that they were read.
    pub(crate) records: u64,
    /// When the first and the last of these slots move if nothing changes: milliseconds of `CLOCK_BOOTTIME`.
    pub(crate) next_ms: Option<u64>,
    pub(crate) last_ms: Option<u64>,
}

/// What still names a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Slots, of all services, whose owner it is.
    pub(crate) slots: u64,
    /// Flow records.
    pub(crate) records: u64,
}

/// How far a round has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing is to be done until the next round.
    #[default]
    Idle,
    /// There is more.
    GoOn,
    /// Packets are waited for, some milliseconds.
    Wait,
    /// The round has ended with this.
    Done {
        /// Services in which slots differ, and did not when last looked at.
        begun: Vec<u32>,
        settled: Vec<Settled>,
    },
}

/// A service that is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) service: u32,
    /// Since when it was not: milliseconds of `CLOCK_BOOTTIME`; 0: not known.
    pub(crate) since_ms: u64,
    /// Slots that have got another owner, as far as this controller knows. Zero where nothing differed.
    pub(crate) moved: u64,
    /// Whether its beginning was told.
    pub(crate) begun: bool,
}

/// What this controller knows of services that are not settled, and how far it is with them.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// By number.
    services: BTreeMap<u32, Followed>,
    /// Counts changes of states, failovers and generations.
    change: u64,
    round: Option<Round>,
    picks: Picks,
    copies: Option<(u64, Copies)>,
    /// What the last reading of the records has counted; `None` before the first.
    tally: Option<Tally>,
    /// When records may be read again.
    next_reading: Duration,
}

#[derive(Debug)]
struct Round {
    half: u32,
    generation: Generation,
    waits: BTreeMap<u32, Waits>,
    stage: Stage,
    begun: Vec<u32>,
}

#[derive(Debug)]
enum Stage {
    /// At these services, the last one first.
    Look(Vec<u32>),
    Read(Box<Reading>),
    Wait(thread::JoinHandle<()>),
    /// Records are read once more, after the wait.
    Confirm(Box<Reading>),
}

impl Following {
    /// One change, which concerns these services.
    pub(super) fn count_change(&mut self, services: &[u32]) {
        self.change += 1;
        for number in services {
            if let Some(followed) = self.services.get_mut(number) {
                followed.count_change();
            }
        }
    }

    /// Another generation is published: a change for all services, and a round over the one before has no end.
    pub(super) fn published(&mut self) {
        self.change += 1;
        self.round = None;
        self.tally = None;
        self.services.values_mut().for_each(Followed::count_change);
    }

    /// Pools and backends as of the last change.
    fn copies<'a>(copies: &'a mut Option<(u64, Copies)>, change: u64, maps: &Maps, round: &Round) -> &'a Copies {
        if copies.as_ref().is_some_and(|(of, _)| *of != change) {
            *copies = None;
        }
        &copies.get_or_insert_with(|| (change, Copies::take(maps, round.half, round.generation))).1
    }
}

impl Kernel {
    /// Begins a round over the services that are not settled; `waits` are those of all services. A round that has not
    /// ended goes on.
    pub(crate) fn begin_round(&mut self, waits: &[(u32, Waits)]) -> Result<(), KernelError> {
        if self.following.round.is_some() {
            return Ok(());
        }
        let Some((half, generation)) = self.maps.published() else { return Ok(()) };
        let known = self.known()?;
        let unsettled = known.services.iter().map(|record| record.number).filter(|number| self.is_unsettled(*number));
        let mut services: Vec<_> =
            unsettled.filter_map(|number| Some((number, self.maps.service(half, number)?))).collect();
        let following = &mut self.following;
        following.services.retain(|number, _| services.iter().any(|(unsettled, _)| unsettled == number));
        if services.is_empty() && following.tally.as_ref().is_some_and(Tally::is_empty) {
            return Ok(());
        }
        // Those that are alike one after the other, so that they share their picks.
        services.sort_by_key(|(number, service)| (service.pools, service.failover, service.when_exhausted, *number));
        let services: Vec<_> = services.into_iter().map(|(number, _)| number).collect();
        for number in &services {
            following.services.entry(*number).or_default();
        }
        following.round = Some(Round {
            half,
            generation,
            waits: waits.iter().copied().collect(),
            stage: Stage::Look(services),
            begun: Vec::new(),
        });
        Ok(())
    }

    /// Does a few milliseconds' work of the round. `now` is `CLOCK_MONOTONIC`, the clock of flow records.
    ///
    /// # Errors
    /// The round ends with it; the next one begins anew.
    pub(crate) fn go_on(&mut self, now: Duration) -> Result<Progress, KernelError> {
        let Some(mut round) = self.following.round.take() else { return Ok(Progress::Idle) };
        Ok(match self.step(&mut round, now)? {
            Progress::Done { settled, .. } => Progress::Done { begun: round.begun, settled },
            more => {
                self.following.round = Some(round);
                more
            }
        })
    }

    fn step(&mut self, round: &mut Round, now: Duration) -> Result<Progress, KernelError> {
        match &mut round.stage {
            Stage::Look(_) => {
                let all = self.look_on(round, now);
                if all && now < self.following.next_reading {
                    return Ok(Progress::Done { begun: Vec::new(), settled: Vec::new() });
                }
                if all {
                    round.stage = Stage::Read(Box::new(Reading::new(&self.maps, round.half, &round.generation, now)));
                }
                Ok(Progress::GoOn)
            }
            Stage::Read(_) | Stage::Confirm(_) => self.read_on(round, now),
            Stage::Wait(waiting) => {
                if !waiting.is_finished() {
                    return Ok(Progress::Wait);
                }
                round.stage = Stage::Confirm(Box::new(Reading::new(&self.maps, round.half, &round.generation, now)));
                Ok(Progress::GoOn)
            }
        }
    }

    /// Looks at as many services as a step has time for, at least at one, or at a part of its picks. Returns whether all
    /// were looked at.
    fn look_on(&mut self, round: &mut Round, now: Duration) -> bool {
        let mut work = 0;
        while work < STEP {
            let Stage::Look(left) = &mut round.stage else { return true };
            let Some(&number) = left.last() else { return true };
            let Following { services, change, picks, copies, .. } = &mut self.following;
            let (Some(followed), Some(service)) = (services.get_mut(&number), self.maps.service(round.half, number))
            else {
                left.pop();
                continue;
            };
            if !followed.is_due(now) {
                left.pop();
                continue;
            }
            let picker = Picker::new(&self.maps, Following::copies(copies, *change, &self.maps, round));
            picks.start(&service, *change);
            work += picks.go_on(&picker, (STEP - work) / PICK) * PICK;
            if picks.all().len() < picker.slots() as usize {
                return false;
            }
            let Stage::Look(left) = &mut round.stage else { return true };
            left.pop();
            work = work.saturating_add(picker.slots());
            let waits = round.waits.get(&number).copied().unwrap_or(Waits::UNKNOWN);
            let owners = Owners::of(&self.maps, &service);
            if followed.look(&service, &owners, picks.all(), waits, now, boot_time()) {
                round.begun.push(number);
            }
        }
        false
    }

    /// Reads a run of records more, and sees what becomes of the round after the last one.
    fn read_on(&mut self, round: &mut Round, now: Duration) -> Result<Progress, KernelError> {
        let following = &mut self.following;
        let copies = Following::copies(&mut following.copies, following.change, &self.maps, round);
        let (Stage::Read(reading) | Stage::Confirm(reading)) = &mut round.stage else { return Ok(Progress::GoOn) };
        if !reading.go_on(&self.maps, copies, &round.waits, now)? {
            return Ok(Progress::GoOn);
        }
        following.next_reading = now + now.saturating_sub(reading.began()) * PAUSE;
        let tally = following.tally.insert(reading.finish());
        let calm = following.services.iter().filter(|(number, followed)| {
            // Nothing was left of it when it was looked at, nothing has changed since, and it has no record.
            followed.is_calm() && tally.of_service(**number) == 0
        });
        let calm: Vec<_> = calm.map(|(number, _)| *number).collect();
        if calm.is_empty() {
            return Ok(Progress::Done { begun: Vec::new(), settled: Vec::new() });
        }
        if let Stage::Read(_) = round.stage {
            let at_once = |_| {
                // Without a thread of its own the wait takes its time here.
                sys::wait_for_packets();
                Stage::Confirm(Box::new(Reading::new(&self.maps, round.half, &round.generation, now)))
            };
            round.stage = thread::Builder::new().spawn(sys::wait_for_packets).map_or_else(at_once, Stage::Wait);
            return Ok(Progress::Wait);
        }
        let settled = calm.into_iter().filter_map(|service| {
            let since_ms = self.transition_note(service).changed_ms;
            self.set_settled(service);
            let Followed { moved, begun, .. } = self.following.services.remove(&service)?;
            Some(Settled { service, since_ms, moved, begun })
        });
        Ok(Progress::Done { begun: Vec::new(), settled: settled.collect() })
    }

    /// Looks at everything once and changes nothing, for who has no daemon to ask: then [`transition`](Self::transition)
    /// and [`held`](Self::held) know what can be told from the maps. Needs no lock.
    pub(crate) fn glance(&mut self) -> Result<(), KernelError> {
        let Some((half, generation)) = self.maps.published() else { return Ok(()) };
        let known = self.known()?;
        let copies = Copies::take(&self.maps, half, generation);
        let picker = Picker::new(&self.maps, &copies);
        let mut picks = Picks::default();
        for record in &known.services {
            if !self.is_unsettled(record.number) {
                continue;
            }
            let Some(service) = self.maps.service(half, record.number) else { continue };
            picks.start(&service, 0);
            picks.go_on(&picker, u32::MAX);
            let followed = Followed::glance(&Owners::of(&self.maps, &service), picks.all(), boot_time());
            self.following.services.insert(record.number, followed);
        }
        self.following.tally = Some(Reading::new(&self.maps, half, &generation, Duration::ZERO).count(&self.maps)?);
        Ok(())
    }

    /// What is under way in a service; `None` when it is settled.
    pub(crate) fn transition(&self, service: u32) -> Option<Transition> {
        if !self.is_unsettled(service) {
            return None;
        }
        let Following { services, tally, .. } = &self.following;
        let last = services.get(&service).and_then(Followed::last);
        let ms = |(boot, rest): (Duration, Duration)| u64::try_from((boot + rest).as_millis()).unwrap_or(u64::MAX);
        let note = self.transition_note(service);
        Some(Transition {
            changed_ms: note.changed_ms,
            why: states::text_of(&note).into_owned(),
            differing: last.map(|last| last.differing),
            records: tally.as_ref().map_or(0, |tally| tally.of_service(service)),
            next_ms: last.and_then(|last| Some(ms((last.boot, last.next?)))),
            last_ms: last.and_then(|last| Some(ms((last.boot, last.last?)))),
        })
    }

    /// What still names a backend that takes no new flows, as of the last looks; `None` before the first.
    pub(crate) fn held(&self, backend: BackendNumber) -> Option<Held> {
        let records = self.following.tally.as_ref()?.of_backend(backend);
        let mut slots = 0;
        // Who owns a slot of a settled service is who takes its new flows: nobody who is leaving.
        for followed in self.following.services.values() {
            let owned = followed.last()?.owned.iter().find(|(number, _)| *number == backend);
            slots += owned.map_or(0, |(_, slots)| u64::from(*slots));
        }
        Some(Held { slots, records })
    }
}
