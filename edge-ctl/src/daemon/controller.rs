//! The daemon's decisions: probe reports and operators' requests in, states out. No I/O but that of the [`DataPlane`].

#![deny(clippy::wildcard_enum_match_arm)]

use std::{collections::BTreeMap, time::Duration};

use edge_common::abi::{BackendNumber, State};

use super::{probed::Probed, transitions};
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
    /// Where new flows of each service went when last looked at.
    serving: Vec<Serving>,
    /// How often the maps were not as they should be, and were repaired.
    pub(crate) repaired: u64,
}

impl<P: DataPlane> Controller<P> {
    /// Takes over the maps as they are: a backend that was down stays down until its probes pass.
    pub(crate) fn adopt(inventory: Inventory, plane: P, events: Events) -> Result<Self, BpfError> {
        let mut controller =
            Self { inventory, plane, events, probed: BTreeMap::new(), serving: Vec::new(), repaired: 0 };
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
        let probed = &self.probed;
        let health = |backend| probed.get(&backend).map_or(Health::Unknown, Probed::health);
        let outcome = operations::operate(&self.inventory, &mut self.plane, health, &self.events, operation)?;
        self.report_moves();
        Ok(outcome)
    }

    fn apply(&mut self, backend: BackendNumber, change: &HealthChange) -> Result<(), BpfError> {
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
        for (&backend, probed) in &self.probed {
            let state = self.plane.state(backend);
            let right = |state| plan::changed(state, plan::admin(state), probed.health());
            if right(state) == state {
                continue;
            }
            self.plane.change_state(backend, right, "its probes have found otherwise")?;
            if plan::health(state) == Health::Unknown {
                // As the command line leaves a backend that it has enabled, which knows of no probes.
                continue;
            }
            let name = self.inventory.name(backend).unwrap_or_default();
            let message = format!("the maps said {}, its probes say {}", plan::health(state), probed.health());
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
                    // The bits of a disabled backend lack its health; its machine has it, if there is one.
                    let health = match admin {
                        Admin::Disabled => before.get(&number).map_or(pinned, Probed::health),
                        Admin::Enabled | Admin::Drained => pinned,
                    };
                    self.probed.insert(number, Probed::go_on(before.remove(&number), probe, health));
                }
                Some(None) if pinned != Health::Unknown => {
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

#[cfg(test)]
mod tests;
