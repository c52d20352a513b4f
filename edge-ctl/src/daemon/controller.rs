//! The daemon's decisions: takes probe reports and operators' requests, and sets states. No I/O except that of the
//! [`DataPlane`].

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
        status::{self, LatencyStatus, Status},
    },
    health::{Health, HealthChange},
    plan::{self, Admin},
};

/// The configuration in force, the health of its backends, and the maps. Only the controller writes states.
#[derive(Debug)]
pub(crate) struct Controller<P> {
    pub(crate) inventory: Inventory,
    pub(crate) plane: P,
    pub(crate) events: Events,
    pub(super) judgement: Judgement,
    reach: Reach,
    certificates: Certificates,
    unrecorded: Unrecorded,
    scarce: scarce::Reported,
    narrow: narrow::Reported,
    /// Times of probes, by the pool's name.
    latencies: BTreeMap<String, LatencyStatus>,
    /// `CLOCK_MONOTONIC` at the last message.
    pub(crate) now: Duration,
    /// Destination of new flows of each service, as last checked.
    serving: Vec<Serving>,
    /// How often the maps differed from the controller's state and were repaired.
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
            scarce: scarce::Reported::default(),
            narrow: narrow::Reported::default(),
            latencies: BTreeMap::new(),
            now: Duration::ZERO,
            serving: Vec::new(),
            repaired: 0,
        };
        controller.rebuild_probed()?;
        controller.serving = selection::all(&controller.inventory, &controller.plane);
        Ok(controller)
    }

    /// Continues with a configuration that has just been published.
    pub(crate) fn replace(&mut self, inventory: Inventory) -> Result<(), BpfError> {
        // Paired with the name of the serving pool, since positions may change.
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
        // Reports only services that have lost all pools, or have got one again.
        self.serving = now
            .iter()
            .zip(&self.inventory.config.services)
            .map(|(now, service)| match before.get(&service.name) {
                Some((worse @ (Serving::Panic(_) | Serving::Open(_) | Serving::Exhausted), pool)) => {
                    let names = self.inventory.pool_names(service);
                    let position = names.iter().position(|name| Some(name) == pool.as_ref());
                    // A pool that no longer exists counts as worse than all that do.
                    worse.at(position.unwrap_or(names.len()))
                }
                Some((Serving::Pool(_) | Serving::Short(_) | Serving::PassedOver(_), _)) | None => *now,
            })
            .collect();
        self.report_moves();
        Ok(())
    }

    /// Carries out an operator's request.
    pub(crate) fn operate(&mut self, operation: &Operation) -> Result<Outcome, OperationError> {
        let (judgement, reach) = (&self.judgement, &self.reach);
        let condition = |backend| judgement.condition(reach, backend);
        let outcome = operations::operate(&self.inventory, &mut self.plane, condition, &self.events, operation)?;
        self.judgement.heed(&self.inventory, &self.plane);
        if let Operation::Failback { service } = operation
            && let Ok(services) = self.inventory.service(service)
        {
            for pool in services.iter().flat_map(|(service, _)| &service.pools) {
                self.judgement.returns.release(*pool);
            }
        }
        self.report_moves();
        // The operation may have left too few backends in a pool.
        self.judge(Vec::new())?;
        Ok(outcome)
    }

    /// Takes note of whether backends can be reached: `None`, or the reason why not.
    pub(crate) fn reach(&mut self, changes: Vec<(BackendNumber, Option<String>)>) -> Result<(), BpfError> {
        let mut cut_off = Vec::new();
        for (backend, why) in changes {
            let is_new = why.is_some() && self.reach.why(backend).is_none();
            if self.reach.note(backend, why) {
                let to = self.judgement.health(backend);
                let reason = "reachable from this host again".to_owned();
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
            let message = format!(
                "unreachable from this host: {why}; no service has another one, so it stays as it \
                                   was"
            );
            self.events.report(EventKind::Unreachable, &name, message);
        }
        Ok(())
    }

    /// Whether packets can be sent to a backend, as far as is known.
    pub(crate) fn is_reachable(&self, backend: BackendNumber) -> bool {
        self.reach.why(backend).is_none()
    }

    /// Whether a backend's probes, or what replaces them, do not say that it is down.
    pub(crate) fn is_well(&self, backend: BackendNumber) -> bool {
        self.is_reachable(backend) && self.judgement.health(backend) != Health::Down
    }

    /// Takes unreachable backends out if there are others.
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
            let reason = format!("unreachable from this host: {}", self.reach.why(backend).unwrap_or_default());
            let from = self.judgement.health(backend);
            moved |= self.enact(backend, &HealthChange { from, to: Health::Down, reason })?;
        }
        if moved {
            self.report_moves();
        }
        Ok(())
    }

    /// Reports when new flows of services in transition cannot be recorded, and when all can be again.
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

    /// Frees the ports and entries of ended translated flows, and reports when either run short, and when there are
    /// enough again.
    pub(crate) fn look_at_ports(&mut self) -> Result<(), BpfError> {
        let Self { inventory, plane, events, scarce, now, .. } = self;
        plane.sweep_nat(&inventory.nat_idle(), *now)?;
        if let Some(found) = plane.nat_use() {
            for (kind, subject, message) in scarce.look(&found, |number| inventory.name(number)) {
                events.report(kind, &subject, message);
            }
        }
        Ok(())
    }

    /// Reports paths that are too narrow for IPv6 in a tunnel, and paths that no longer are.
    pub(crate) fn look_at_paths(&mut self) {
        let Self { inventory, plane, events, narrow, now, .. } = self;
        let found = control::narrow::narrow(inventory, plane);
        for (kind, subject, message) in narrow.look(&found, *now, |number| inventory.name(number)) {
            events.report(kind, &subject, message);
        }
    }

    /// Adds the services with unrecorded new flows to the status.
    pub(super) fn show_unrecorded(&self, status: &mut Status) {
        let at = status.at;
        for (service, number) in self.inventory.services() {
            if let Some(shown) = self.unrecorded.status(number, self.now, at) {
                status::show_unrecorded(&mut status.services, &service.name, &shown);
            }
        }
    }

    /// Compares the maps with the controller's state, and repairs and reports differences. Operators' decisions are
    /// taken from the maps; health from the probes.
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
                // This is the state that the command line leaves after enabling a backend or forcing its health, since
                // it has neither results of probes nor routes.
                continue;
            }
            let health = condition.health;
            let name = self.inventory.name(backend).unwrap_or_default();
            let message = format!("it was {} in the maps, and is {health} by its probes", plan::health(state));
            self.repaired += 1;
            self.events.report(EventKind::Repaired, &name, message);
        }
        for pool in self.plane.repair_counts()? {
            self.repaired += 1;
            self.events.report(EventKind::Repaired, &pool, "its counts were not those of its backends' states");
        }
        // Also covers changes that an operator made while this daemon did not answer.
        self.report_moves();
        Ok(())
    }

    /// Begins a reconcile pass over the services in transition.
    pub(crate) fn begin_pass(&mut self) -> Result<(), BpfError> {
        let waits = self.inventory.waits();
        self.plane.begin_pass(&waits)
    }

    /// Does a few milliseconds' work of the pass, and reports the results. `now` is `CLOCK_MONOTONIC`.
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
                    // The bits of a disabled, unreachable or forced backend do not show its health, which its state
                    // machine holds. Without one nothing is known of it.
                    if admin == Admin::Disabled || plan::forced(state).is_some() || self.reach.is_out(number) {
                        let health = known.as_ref().map_or(Health::Unknown, Probed::health);
                        state = plan::state(Admin::Enabled, health);
                    }
                    let position = positions.get(pool.name.as_str()).copied().filter(|_| !retired.contains(&number));
                    let probed = known.and_then(|known| known.go_on(probe, &pool.judging, position));
                    let probed = probed.unwrap_or_else(|| Probed::new(probe, &pool.judging, position, state));
                    self.judgement.probed.insert(number, probed);
                }
                // Nothing is found out about it, so that what an operator has forced is in force.
                Some((_, None)) if !self.reach.is_out(number) => {
                    let unknown = plan::changed(state, admin, Health::Unknown);
                    if unknown != state {
                        let reason = self.operators_reason(number);
                        unprobed.push((number, unknown, reason.unwrap_or_else(|| "its pool has no probe".to_owned())));
                    }
                }
                // For a backend whose pool was removed, the last result stands.
                Some((_, None)) | None => {}
            }
        }
        for (number, state, reason) in unprobed {
            self.plane.set_state(number, state, &reason)?;
        }
        self.forget_latencies();
        self.judgement.restart(&self.inventory);
        self.judgement.heed(&self.inventory, &self.plane);
        self.judgement.returns.restart(&self.inventory, &self.plane, self.now);
        Ok(())
    }

    /// Reports services whose new flows have another destination than when last checked.
    fn report_moves(&mut self) {
        let now = selection::all(&self.inventory, &self.plane);
        moves::report(&self.inventory, &self.plane, &self.events, &self.serving, &now);
        self.serving = now;
    }
}

mod judging;
mod latencies;
mod certificates;
mod moves;
mod evacuating;
#[cfg(test)]
mod tests;
