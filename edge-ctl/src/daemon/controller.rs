//! The daemon's decisions: probe reports and operators' requests in, states out. No I/O but that of the [`DataPlane`].

#![deny(clippy::wildcard_enum_match_arm)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use edge_common::abi::{BackendNumber, State};

use super::{probed::Probed, reach::Reach, transitions};
use crate::{
    bpf::{BpfError, Held, Progress},
    control::{
        data_plane::DataPlane,
        events::{EventKind, Events},
        inventory::Inventory,
        operations::{self, Operation, OperationError, Outcome},
        selection::{self, Serving},
    },
    health::{Health, HealthChange},
    plan::{self, Admin},
    probe::Report,
};

/// The configuration in force, the health of its backends, and the maps. The only writer of states.
#[derive(Debug)]
pub(crate) struct Controller<P> {
    pub(crate) inventory: Inventory,
    pub(crate) plane: P,
    pub(crate) events: Events,
    /// One for each backend whose pool has a probe.
    probed: BTreeMap<BackendNumber, Probed>,
    reach: Reach,
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
            probed: BTreeMap::new(),
            reach: Reach::default(),
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

    /// A probe's verdict.
    pub(crate) fn report(&mut self, report: &Report) -> Result<(), BpfError> {
        let Some(probed) = self.probed.get_mut(&report.backend) else { return Ok(()) };
        let Some(change) = probed.observe(&report.verdict) else { return Ok(()) };
        self.apply(report.backend, &change)
    }

    /// A second has passed: verdicts that are too old are forgotten.
    pub(crate) fn age(&mut self) -> Result<(), BpfError> {
        let aged = self.probed.iter_mut().filter_map(|(backend, probed)| Some((*backend, probed.age()?)));
        for (backend, change) in aged.collect::<Vec<_>>() {
            self.apply(backend, &change)?;
        }
        Ok(())
    }

    /// An operator's request.
    pub(crate) fn operate(&mut self, operation: &Operation) -> Result<Outcome, OperationError> {
        let (probed, reach) = (&self.probed, &self.reach);
        let health = |backend| known(probed, reach, backend);
        let outcome = operations::operate(&self.inventory, &mut self.plane, health, &self.events, operation)?;
        self.report_moves();
        Ok(outcome)
    }

    /// Whether something can be sent to these backends: why not, or `None`.
    pub(crate) fn reach(&mut self, changes: Vec<(BackendNumber, Option<String>)>) -> Result<(), BpfError> {
        let mut cut_off = Vec::new();
        for (backend, why) in changes {
            let is_new = why.is_some() && self.reach.why(backend).is_none();
            if self.reach.note(backend, why) {
                let to = self.health(backend);
                let reason = "something can be sent there again".to_owned();
                self.apply(backend, &HealthChange { from: Health::Down, to, reason })?;
            } else if is_new {
                cut_off.push(backend);
            }
        }
        self.take_out()?;
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
        let (plane, probed) = (&self.plane, &self.probed);
        let serves = |backend| {
            let state = plane.state(backend);
            plan::admin(state) == Admin::Enabled
                && !state.has_all(State::RETIRED)
                && probes(probed, backend) != Health::Down
        };
        for backend in self.reach.judge(&self.inventory, serves) {
            let reason = format!("nothing can be sent there: {}", self.reach.why(backend).unwrap_or_default());
            let from = probes(&self.probed, backend);
            self.settle(backend, &HealthChange { from, to: Health::Down, reason })?;
        }
        Ok(())
    }

    /// What is known of a backend: by its probes, and by whether something can be sent there.
    fn health(&self, backend: BackendNumber) -> Health {
        known(&self.probed, &self.reach, backend)
    }

    /// What its probes have found counts as long as something can be sent there.
    fn apply(&mut self, backend: BackendNumber, change: &HealthChange) -> Result<(), BpfError> {
        if self.reach.is_out(backend) { Ok(()) } else { self.settle(backend, change) }
    }

    /// Writes what is known of a backend now, and reports it.
    fn settle(&mut self, backend: BackendNumber, change: &HealthChange) -> Result<(), BpfError> {
        let changed = |before| plan::changed(before, plan::admin(before), change.to);
        let mut before = self.plane.state(backend);
        if changed(before) != before {
            before = self.plane.change_state(backend, changed, &change.reason)?;
        }
        let after = changed(before);
        let Some(name) = self.inventory.name(backend) else { return Ok(()) };
        let kind = match change.to {
            Health::Up => EventKind::BackendUp,
            Health::Down => EventKind::BackendDown,
            Health::Unknown => EventKind::BackendUnknown,
        };
        let but = match plan::admin(after) {
            Admin::Enabled if after.has_all(State::RETIRED) => "; it stays retired",
            Admin::Enabled => "",
            Admin::Drained => "; it stays drained",
            Admin::Disabled => "; it stays disabled",
        };
        self.events.report(kind, &name, format!("{}{but}", change.reason));
        if after != before {
            self.report_moves();
        }
        Ok(())
    }

    /// Compares what the maps say with what is known here, and repairs and reports what differs. What operators want is
    /// the maps' own knowledge; health is that of the probes.
    pub(crate) fn reconcile(&mut self) -> Result<(), BpfError> {
        self.take_out()?;
        let watched: BTreeSet<_> = self.probed.keys().copied().chain(self.reach.out()).collect();
        for backend in watched {
            let (state, health) = (self.plane.state(backend), self.health(backend));
            let right = |state| plan::changed(state, plan::admin(state), health);
            if right(state) == state {
                continue;
            }
            self.plane.change_state(backend, right, "its probes have found otherwise")?;
            if plan::health(state) == Health::Unknown {
                // As the command line leaves a backend that it has enabled, which knows of no probes.
                continue;
            }
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
        let mut before = std::mem::take(&mut self.probed);
        let mut unprobed = Vec::new();
        for (number, _, pool) in self.inventory.addresses() {
            let state = self.plane.state(number);
            let (admin, pinned) = (plan::admin(state), plan::health(state));
            match pool.map(|pool| &pool.probe) {
                Some(Some(probe)) => {
                    // The bits of a disabled backend lack its health, and so do those of one that nothing can be sent to; its
                    // machine has it, if there is one.
                    let health = match admin {
                        Admin::Enabled | Admin::Drained if !self.reach.is_out(number) => pinned,
                        Admin::Enabled | Admin::Drained | Admin::Disabled => {
                            before.get(&number).map_or(pinned, Probed::health)
                        }
                    };
                    self.probed.insert(number, Probed::go_on(before.remove(&number), probe, health));
                }
                Some(None) if pinned != Health::Unknown && !self.reach.is_out(number) => {
                    unprobed.push((number, plan::changed(state, admin, Health::Unknown)));
                }
                // The last evidence of a backend whose pool was removed stands.
                Some(None) | None => {}
            }
        }
        for (number, state) in unprobed {
            self.plane.set_state(number, state, "its pool has no probe")?;
        }
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

/// What probes and ways say of a backend together.
fn known(probed: &BTreeMap<BackendNumber, Probed>, reach: &Reach, backend: BackendNumber) -> Health {
    if reach.is_out(backend) { Health::Down } else { probes(probed, backend) }
}

/// What its probes say of a backend.
fn probes(probed: &BTreeMap<BackendNumber, Probed>, backend: BackendNumber) -> Health {
    probed.get(&backend).map_or(Health::Unknown, Probed::health)
}

#[cfg(test)]
mod tests;
