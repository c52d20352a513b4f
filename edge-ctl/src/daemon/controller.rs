//! The daemon's decisions: probe reports and operators' requests in, states out. No I/O but that of the [`DataPlane`].

#![deny(clippy::wildcard_enum_match_arm)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use edge_common::abi::{BackendNumber, State};

use super::{
    certificates::Certificates,
    judgement::Judgement,
    narrow,
    probed::Probed,
    reach::Reach,
    scarce, transitions,
    unrecorded::{self, Unrecorded},
};
use crate::{
    bpf::{BpfError, Held, Progress},
    config::Service,
    control::{
        self,
        data_plane::DataPlane,
        events::{EventKind, Events},
        inventory::Inventory,
        operations::{self, Operation, OperationError, Outcome},
        selection::{self, Serving},
        status::{self, Status},
    },
    health::{Health, HealthChange},
    plan::{self, Admin},
};

/// The configuration in force, the health of its backends, and the maps. The only writer of states.
#[derive(Debug)]
pub(crate) struct Controller<P> {
    pub(crate) inventory: Inventory,
    pub(crate) plane: P,
    pub(crate) events: Events,
    pub(super) judgement: Judgement,
    reach: Reach,
    certificates: Certificates,
    unrecorded: Unrecorded,
    scarce: scarce::Told,
    narrow: narrow::Told,
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
            certificates: Certificates::default(),
            unrecorded: Unrecorded::default(),
            scarce: scarce::Told::default(),
            narrow: narrow::Told::default(),
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
        // Each with the pool that serves it: its position may be another one's from now on.
        let Self { inventory: old, serving, .. } = self;
        let served = |service: &Service, serving: Serving| {
            serving.position().and_then(|position| old.pool_names(service).into_iter().nth(position))
        };
        let services = old.config.services.iter().zip(serving.drain(..));
        let before: BTreeMap<String, (Serving, Option<String>)> =
            services.map(|(service, serving)| (service.name.clone(), (serving, served(service, serving)))).collect();
        self.inventory = inventory;
        let known: BTreeSet<_> = self.inventory.addresses().map(|(backend, ..)| backend).collect();
        self.reach.keep(|backend| known.contains(&backend));
        self.rebuild_probed()?;
        let now = selection::all(&self.inventory, &self.plane);
        // Only services that lost or found any pool at all are reported.
        self.serving = now
            .iter()
            .zip(&self.inventory.config.services)
            .map(|(now, service)| match before.get(&service.name) {
                Some((worse @ (Serving::Panic(_) | Serving::Open(_) | Serving::Exhausted), pool)) => {
                    let names = self.inventory.pool_names(service);
                    let position = names.iter().position(|name| Some(name) == pool.as_ref());
                    // One that is no longer there is worse than all that are.
                    worse.at(position.unwrap_or(names.len()))
                }
                Some((Serving::Pool(_) | Serving::Short(_) | Serving::PassedOver(_), _)) | None => *now,
            })
            .collect();
        self.report_moves();
        Ok(())
    }

    /// An operator's request.
    pub(crate) fn operate(&mut self, operation: &Operation) -> Result<Outcome, OperationError> {
        let (judgement, reach) = (&self.judgement, &self.reach);
        let condition = |backend| judgement.condition(reach, backend);
        let outcome = operations::operate(&self.inventory, &mut self.plane, condition, &self.events, operation)?;
        self.judgement.heed(&self.inventory, &self.plane);
        if let Operation::Failback { service } = operation
            && let Ok(services) = self.inventory.service(service)
        {
            for pool in services.iter().flat_map(|(service, _)| &service.pools) {
                self.judgement.ways.release(*pool);
            }
        }
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
                self.enact(backend, &HealthChange { from: Health::Down, to, reason })?;
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
            moved |= self.enact(backend, &HealthChange { from, to: Health::Down, reason })?;
        }
        if moved {
            self.report_moves();
        }
        Ok(())
    }

    /// Tells when new flows of services in transition can't be recorded, and when all are again.
    pub(crate) fn look_at_records(&mut self) {
        let Self { inventory, plane, events, unrecorded, now, .. } = self;
        for (service, number) in inventory.services() {
            let change = if plane.transition(number).is_some() {
                unrecorded.look(number, plane.flow_counts(number), *now)
            } else {
                unrecorded.forget(number)
            };
            match change {
                Some(unrecorded::Change::Begun(text)) => events.report(EventKind::FlowsUnrecorded, &service.name, text),
                Some(unrecorded::Change::Over(text)) => events.report(EventKind::FlowsRecorded, &service.name, text),
                None => {}
            }
        }
    }

    /// Frees what translated flows have left, and tells when ports or entries run out, and when there are plenty again.
    pub(crate) fn look_at_ports(&mut self) -> Result<(), BpfError> {
        let Self { inventory, plane, events, scarce, now, .. } = self;
        plane.sweep_nat(*now)?;
        if let Some(found) = plane.nat_use() {
            for (kind, subject, message) in scarce.look(&found, |number| inventory.name(number)) {
                events.report(kind, &subject, message);
            }
        }
        Ok(())
    }

    /// Reports paths that are too narrow for IPv6 in a tunnel, and those that no longer are.
    pub(crate) fn look_at_paths(&mut self) {
        let Self { inventory, plane, events, narrow, now, .. } = self;
        let found = control::narrow::narrow(inventory, plane);
        for (kind, subject, message) in narrow.look(&found, *now, |number| inventory.name(number)) {
            events.report(kind, &subject, message);
        }
    }

    /// Shows the services some of whose new flows are not recorded where they are sent.
    pub(super) fn show_unrecorded(&self, status: &mut Status) {
        let at = status.at;
        for (service, number) in self.inventory.services() {
            if let Some(shown) = self.unrecorded.status(number, self.now, at) {
                status::show_unrecorded(&mut status.services, &service.name, &shown);
            }
        }
    }

    /// Compares what the maps say with what is known here, and repairs and reports what differs. What operators want is
    /// the maps' own knowledge; health is that of the probes.
    pub(crate) fn reconcile(&mut self) -> Result<(), BpfError> {
        self.judgement.heed(&self.inventory, &self.plane);
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
            if plan::health(state) == Health::Unknown || plan::forced(state).is_some() {
                // As the command line leaves a backend that it has enabled or spoken of, which knows of no probes and no ways.
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
                    // The bits of a disabled backend lack its health, and so do those of one that nothing can be sent to or that
                    // an operator has spoken of: its machine has it. Without one nothing is known of it.
                    if admin == Admin::Disabled || plan::forced(state).is_some() || self.reach.is_out(number) {
                        let health = known.as_ref().map_or(Health::Unknown, Probed::health);
                        state = plan::state(Admin::Enabled, health);
                    }
                    let position = positions.get(pool.name.as_str()).copied().filter(|_| !retired.contains(&number));
                    let probed = known.and_then(|known| known.go_on(probe, &pool.judging, position));
                    let probed = probed.unwrap_or_else(|| Probed::new(probe, &pool.judging, position, state));
                    self.judgement.probed.insert(number, probed);
                }
                Some((_, None))
                    if plan::health(state) != Health::Unknown
                        && plan::forced(state).is_none()
                        && !self.reach.is_out(number) =>
                {
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
        self.judgement.heed(&self.inventory, &self.plane);
        self.judgement.ways.restart(&self.inventory, &self.plane, self.now);
        Ok(())
    }

    /// Reports services whose new flows go elsewhere than when last looked at.
    fn report_moves(&mut self) {
        let now = selection::all(&self.inventory, &self.plane);
        moves::report(&self.inventory, &self.plane, &self.events, &self.serving, &now);
        self.serving = now;
    }
}

mod judging;
mod certificates;
mod moves;
mod evacuating;
#[cfg(test)]
mod tests;
