//! The daemon's decisions: probe reports and operators' requests in, states out. No I/O but that of the [`DataPlane`].

#![deny(clippy::wildcard_enum_match_arm)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use edge_common::abi::{BackendNumber, State};

use super::{
    judgement::{Judgement, Ruling},
    probed::Probed,
    reach::Reach,
    transitions,
};
use crate::{
    bpf::{BpfError, Held, Progress},
    control::{
        data_plane::DataPlane,
        events::{EventKind, Events},
        inventory::Inventory,
        operations::{self, Operation, OperationError, Outcome},
        selection::{self, Serving},
        status::FrozenStatus,
    },
    health::{Health, HealthChange, Verdict},
    plan::{self, Admin},
    probe::{Report, Subject},
};

/// The configuration in force, the health of its backends, and the maps. The only writer of states.
#[derive(Debug)]
pub(crate) struct Controller<P> {
    pub(crate) inventory: Inventory,
    pub(crate) plane: P,
    pub(crate) events: Events,
    pub(super) judgement: Judgement,
    reach: Reach,
    /// `CLOCK_MONOTONIC`, as of the last message.
    pub(crate) now: Duration,
    /// Where new flows of each service went when last looked at.
    serving: Vec<Serving>,
    /// How often the maps were not as they should be, and were repaired.
    pub(crate) repaired: u64,
}

impl<P: DataPlane> Controller<P> {
    /// Takes over the maps as they are: a backend that was down stays down until its probes pass.
    pub(crate) fn adopt(inventory: Inventory, plane: P, events: Events) -> Result<Self, BpfError> {
        let mut controller = Self {
            inventory,
            plane,
            events,
            judgement: Judgement::default(),
            reach: Reach::default(),
            now: Duration::ZERO,
            serving: Vec::new(),
            repaired: 0,
        };
        controller.rebuild_probed()?;
        controller.serving = selection::all(&controller.inventory, &controller.plane);
        Ok(controller)
    }

    /// Goes on with a configuration that has just been published.
    pub(crate) fn replace(&mut self, inventory: Inventory) -> Result<(), BpfError> {
        let before: BTreeMap<String, Serving> = self
            .inventory
            .config
            .services
            .iter()
            .map(|service| service.name.clone())
            .zip(self.serving.drain(..))
            .collect();
        self.inventory = inventory;
        let known: BTreeSet<_> = self.inventory.addresses().map(|(backend, ..)| backend).collect();
        self.reach.keep(|backend| known.contains(&backend));
        self.rebuild_probed()?;
        let now = selection::all(&self.inventory, &self.plane);
        // Positions may mean other pools than before: only services that lost or found any pool at all are reported.
        self.serving = now
            .iter()
            .zip(&self.inventory.config.services)
            .map(|(now, service)| match before.get(&service.name) {
                Some(worse @ (Serving::Open(_) | Serving::Exhausted)) => *worse,
                Some(Serving::Pool(_) | Serving::Short(_) | Serving::PassedOver(_)) | None => *now,
            })
            .collect();
        self.report_moves();
        Ok(())
    }

    /// Verdicts of probes, in their order. Together, since each change is judged by all that is known.
    pub(crate) fn report(&mut self, reports: &[Report]) -> Result<(), BpfError> {
        let (now, deaf) = (self.now, self.judgement.is_frozen());
        let (mut changes, mut held) = (Vec::new(), false);
        for report in reports {
            let backend = match report.subject {
                Subject::Backend(backend) => backend,
                Subject::Reference(position) => {
                    self.judgement.note_reference(position, &report.verdict);
                    continue;
                }
            };
            let Some(probed) = self.judgement.probed.get_mut(&backend) else { continue };
            if let Some(change) = probed.observe(&report.verdict, now, deaf) {
                changes.push((backend, change));
            }
            // It may be the last one by now.
            held |= probed.machine().held(now).is_some();
            if report.verdict != Verdict::Pass {
                self.judgement.disturb();
            }
        }
        if changes.is_empty() && !held { Ok(()) } else { self.judge(changes) }
    }

    /// A second has passed: verdicts that are too old are forgotten.
    pub(crate) fn age(&mut self) -> Result<(), BpfError> {
        let now = self.now;
        let aged = self.judgement.probed.iter_mut();
        let aged: Vec<_> = aged.filter_map(|(backend, probed)| Some((*backend, probed.age(now)?))).collect();
        if aged.is_empty() { Ok(()) } else { self.judge(aged) }
    }

    /// Some time has passed: what was in doubt may be clear by now.
    pub(crate) fn reconsider(&mut self) -> Result<(), BpfError> {
        if self.judgement.is_restless() { self.judge(Vec::new()) } else { Ok(()) }
    }

    /// For `status`.
    pub(crate) fn frozen(&self) -> Option<FrozenStatus> {
        let frozen = self.judgement.frozen()?;
        Some(FrozenStatus { for_seconds: self.now.saturating_sub(frozen.since).as_secs(), why: frozen.why.reason() })
    }

    /// Judges what is known of all backends, writes what follows from it, and reports it.
    fn judge(&mut self, mut changes: Vec<(BackendNumber, HealthChange)>) -> Result<(), BpfError> {
        let Self { judgement, inventory, reach, plane, now, .. } = self;
        changes.extend(judgement.release(inventory, reach, *now));
        let ruling = judgement.judge(inventory, reach, plane, changes, *now);
        self.announce(&ruling);
        let Ruling { changes, others, .. } = ruling;
        // First what gives, then what takes: established flows must not lose in between what they have in the end.
        let (gives, takes): (Vec<_>, Vec<_>) = changes.into_iter().partition(|(_, change)| change.to != Health::Down);
        let mut moved = false;
        for (backend, change) in gives {
            moved |= self.apply(backend, &change)?;
        }
        for (backend, why) in others {
            moved |= self.adjust(backend, &why)?;
        }
        for (backend, change) in takes {
            moved |= self.apply(backend, &change)?;
        }
        if moved {
            self.report_moves();
        }
        Ok(())
    }

    /// Reports what concerns more than one backend.
    fn announce(&self, ruling: &Ruling) {
        if let Some(frozen) = &ruling.frozen {
            let message = format!(
                "{}: this host may be to blame, so health stays as it was until half of the pools are heard again",
                frozen.why.reason()
            );
            self.events.report(EventKind::Frozen, "health", message);
        }
        if let Some(time) = ruling.thawed {
            let message = format!("enough is heard again, after {} s: probes count", time.as_secs());
            self.events.report(EventKind::Thawed, "health", message);
        }
        for (pool, panics) in &ruling.panic {
            let Some(pool) = self.inventory.config.pools.get(*pool) else { continue };
            if *panics {
                let message = "too much of it is down, and there is no other pool: all of it serves, up or not";
                self.events.report(EventKind::Panic, &pool.name, message);
            } else {
                let message = "no longer all of it serves, but what is up: enough is, or there is another pool";
                self.events.report(EventKind::PanicOver, &pool.name, message);
            }
        }
    }

    /// An operator's request.
    pub(crate) fn operate(&mut self, operation: &Operation) -> Result<Outcome, OperationError> {
        let (judgement, reach) = (&self.judgement, &self.reach);
        let condition = |backend| judgement.condition(reach, backend);
        let outcome = operations::operate(&self.inventory, &mut self.plane, condition, &self.events, operation)?;
        self.report_moves();
        // What one pool has lost may be too much for it.
        self.judge(Vec::new())?;
        Ok(outcome)
    }

    /// Whether something can be sent to these backends: why not, or `None`.
    pub(crate) fn reach(&mut self, changes: Vec<(BackendNumber, Option<String>)>) -> Result<(), BpfError> {
        let mut cut_off = Vec::new();
        for (backend, why) in changes {
            let is_new = why.is_some() && self.reach.why(backend).is_none();
            if self.reach.note(backend, why) {
                let to = self.judgement.health(backend);
                let reason = "something can be sent there again".to_owned();
                self.settle(backend, &HealthChange { from: Health::Down, to, reason })?;
            } else if is_new {
                cut_off.push(backend);
            }
        }
        self.take_out()?;
        self.judge(Vec::new())?;
        self.report_moves();
        for backend in cut_off.into_iter().filter(|backend| !self.reach.is_out(*backend)) {
            let (Some(name), Some(why)) = (self.inventory.name(backend), self.reach.why(backend)) else { continue };
            let message =
                format!("nothing can be sent there: {why}; no service has another one, so it stays as it was");
            self.events.report(EventKind::Unreachable, &name, message);
        }
        Ok(())
    }

    /// Takes backends out that nothing can be sent to, where there are others.
    fn take_out(&mut self) -> Result<(), BpfError> {
        let (plane, judgement) = (&self.plane, &self.judgement);
        let serves = |backend| {
            let state = plane.state(backend);
            plan::admin(state) == Admin::Enabled
                && !state.has_all(State::RETIRED)
                && judgement.health(backend) != Health::Down
        };
        let mut moved = false;
        for backend in self.reach.judge(&self.inventory, serves) {
            let reason = format!("nothing can be sent there: {}", self.reach.why(backend).unwrap_or_default());
            let from = self.judgement.health(backend);
            moved |= self.settle(backend, &HealthChange { from, to: Health::Down, reason })?;
        }
        if moved {
            self.report_moves();
        }
        Ok(())
    }

    /// What its probes have found counts as long as something can be sent there.
    fn apply(&mut self, backend: BackendNumber, change: &HealthChange) -> Result<bool, BpfError> {
        if self.reach.is_out(backend) { Ok(false) } else { self.settle(backend, change) }
    }

    /// Writes what is known of a backend now, and reports it. Returns whether that changes what it does.
    fn settle(&mut self, backend: BackendNumber, change: &HealthChange) -> Result<bool, BpfError> {
        let (before, after) = self.write(backend, &change.reason)?;
        let Some(name) = self.inventory.name(backend) else { return Ok(false) };
        let kind = match change.to {
            Health::Up => EventKind::BackendUp,
            Health::Down => EventKind::BackendDown,
            Health::Unknown => EventKind::BackendUnknown,
        };
        let but = match plan::admin(after) {
            Admin::Enabled if after.has_all(State::RETIRED) => "; it stays retired",
            Admin::Enabled if after.has_all(State::DOWN | State::NEW) => "; it serves on, since too few are up",
            Admin::Enabled if after.has_all(State::DOWN | State::ALIVE) => {
                "; it keeps its flows until it is clear who is to blame"
            }
            Admin::Enabled => "",
            Admin::Drained => "; it stays drained",
            Admin::Disabled => "; it stays disabled",
        };
        self.events.report(kind, &name, format!("{}{but}", change.reason));
        Ok(after != before)
    }

    /// Writes what follows for a backend from what is known of others.
    fn adjust(&mut self, backend: BackendNumber, why: &str) -> Result<bool, BpfError> {
        let note = self.plane.why(backend).reason;
        let said = if why.is_empty() { note } else { format!("{note}; {why}") };
        let (before, after) = self.write(backend, &said)?;
        if after != before
            && !why.is_empty()
            && let Some(name) = self.inventory.name(backend)
        {
            self.events.report(EventKind::BackendDown, &name, why);
        }
        Ok(after != before)
    }

    /// Writes the state that follows from all that is known of a backend. Returns the one before, and this one.
    fn write(&mut self, backend: BackendNumber, reason: &str) -> Result<(State, State), BpfError> {
        let condition = self.judgement.condition(&self.reach, backend);
        let changed = |before| plan::changed(before, plan::admin(before), condition);
        let mut before = self.plane.state(backend);
        if changed(before) != before {
            let operators = self.operators_reason(backend);
            before = self.plane.change_state(backend, changed, operators.as_deref().unwrap_or(reason))?;
        }
        Ok((before, changed(before)))
    }

    /// Why an operator has taken a backend out. What its probes find meanwhile does not take the place of that.
    fn operators_reason(&self, backend: BackendNumber) -> Option<String> {
        match plan::admin(self.plane.state(backend)) {
            Admin::Enabled => None,
            Admin::Drained | Admin::Disabled => {
                Some(self.plane.why(backend).reason).filter(|reason| !reason.is_empty())
            }
        }
    }

    /// Compares what the maps say with what is known here, and repairs and reports what differs. What operators want is
    /// the maps' own knowledge; health is that of the probes.
    pub(crate) fn reconcile(&mut self) -> Result<(), BpfError> {
        self.take_out()?;
        self.reconsider()?;
        let watched: BTreeSet<_> = self.judgement.probed.keys().copied().chain(self.reach.out()).collect();
        for backend in watched {
            let (state, condition) = (self.plane.state(backend), self.judgement.condition(&self.reach, backend));
            let right = |state| plan::changed(state, plan::admin(state), condition);
            if right(state) == state {
                continue;
            }
            let reason = self.operators_reason(backend);
            self.plane.change_state(backend, right, reason.as_deref().unwrap_or("its probes have found otherwise"))?;
            if plan::health(state) == Health::Unknown {
                // As the command line leaves a backend that it has enabled, which knows of no probes.
                continue;
            }
            let health = condition.health;
            let name = self.inventory.name(backend).unwrap_or_default();
            let message = format!("the maps said {}, its probes say {health}", plan::health(state));
            self.repaired += 1;
            self.events.report(EventKind::Repaired, &name, message);
        }
        for pool in self.plane.repair_counts()? {
            self.repaired += 1;
            self.events.report(EventKind::Repaired, &pool, "its counts were not those of its backends' states");
        }
        // Also what an operator has changed while this daemon did not answer.
        self.report_moves();
        Ok(())
    }

    /// Begins a reconcile pass over the services in transition.
    pub(crate) fn begin_pass(&mut self) -> Result<(), BpfError> {
        let waits = self.inventory.waits();
        self.plane.begin_pass(&waits)
    }

    /// Does a few milliseconds' work of the pass, and reports what came of it. `now` is `CLOCK_MONOTONIC`.
    pub(crate) fn go_on(&mut self, now: Duration) -> Result<Progress, BpfError> {
        let progress = self.plane.go_on(now)?;
        if let Progress::Done { started, finished } = &progress {
            transitions::report(&self.inventory, &self.plane, &self.events, started, finished);
            let plane = &self.plane;
            self.inventory.retired.retain(|retired| plane.held(retired.number) != Some(Held::default()));
        }
        Ok(progress)
    }

    fn rebuild_probed(&mut self) -> Result<(), BpfError> {
        let mut before = std::mem::take(&mut self.judgement.probed);
        let mut unprobed = Vec::new();
        let pools = self.inventory.config.pools.iter().enumerate();
        let positions: BTreeMap<_, _> = pools.map(|(position, pool)| (pool.name.as_str(), position)).collect();
        let retired: BTreeSet<_> = self.inventory.retired.iter().map(|retired| retired.number).collect();
        for (number, _, pool) in self.inventory.addresses() {
            let mut state = self.plane.state(number);
            let admin = plan::admin(state);
            match pool.map(|pool| (pool, &pool.probe)) {
                Some((pool, Some(probe))) => {
                    let known = before.remove(&number);
                    // The bits of a disabled backend lack its health, and so do those of one that nothing can be sent to; its
                    // machine has it, if there is one.
                    if admin == Admin::Disabled || self.reach.is_out(number) {
                        state = known.as_ref().map_or(state, |known| plan::state(Admin::Enabled, known.health()));
                    }
                    let position = positions.get(pool.name.as_str()).copied().filter(|_| !retired.contains(&number));
                    let probed = known.and_then(|known| known.go_on(probe, &pool.judging, position));
                    let probed = probed.unwrap_or_else(|| Probed::new(probe, &pool.judging, position, state));
                    self.judgement.probed.insert(number, probed);
                }
                Some((_, None)) if plan::health(state) != Health::Unknown && !self.reach.is_out(number) => {
                    unprobed.push((number, plan::changed(state, admin, Health::Unknown)));
                }
                // The last evidence of a backend whose pool was removed stands.
                Some((_, None)) | None => {}
            }
        }
        for (number, state) in unprobed {
            self.plane.set_state(number, state, "its pool has no probe")?;
        }
        self.judgement.restart(&self.inventory);
        Ok(())
    }

    /// Reports services whose new flows go elsewhere than when last looked at.
    fn report_moves(&mut self) {
        let now = selection::all(&self.inventory, &self.plane);
        for ((service, before), after) in self.inventory.config.services.iter().zip(&self.serving).zip(&now) {
            let kind = match after.rank().cmp(&before.rank()) {
                std::cmp::Ordering::Less => EventKind::PoolReturned,
                std::cmp::Ordering::Equal => continue,
                std::cmp::Ordering::Greater => EventKind::PoolLeft,
            };
            let message =
                format!("service {} {}", service.name, selection::described(&self.inventory, service, *after));
            self.events.report(kind, &service.name, message);
        }
        self.serving = now;
    }
}

#[cfg(test)]
mod tests;
