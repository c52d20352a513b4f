//! Operators' requests, the same with and without the daemon.

#![deny(clippy::wildcard_enum_match_arm)]

mod force;

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use edge_common::abi::{BackendNumber, Failover};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    data_plane::DataPlane,
    events::{EventKind, Events},
    inventory::{Inventory, NameError, Named},
    selection::{self, Counts, Serving},
};
use crate::{
    bpf::BpfError,
    config::{Service, is_meant, joined_names},
    health::{Condition, Health},
    plan::{self, Admin},
};

/// An operator's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Drain {
        backend: String,
        reason: Option<String>,
    },
    Enable {
        backend: String,
        reason: Option<String>,
    },
    Disable {
        backend: String,
        reason: Option<String>,
    },
    /// Sets a backend's health; `None` returns it to its probes.
    Health {
        backend: String,
        health: Option<Health>,
        reason: Option<String>,
    },
    Failover {
        service: String,
        to: String,
        evacuate: bool,
        terms: Terms,
    },
    Failback {
        service: String,
    },
}

/// Why an operator fails a service over, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) reason: Option<String>,
    /// Milliseconds until the failover is taken back.
    pub(crate) for_ms: Option<u64>,
}

/// Longest reason, bytes.
pub(crate) const MAX_REASON: usize = 256;

impl Operation {
    fn reason(&self) -> Option<&str> {
        match self {
            Self::Drain { reason, .. }
            | Self::Enable { reason, .. }
            | Self::Disable { reason, .. }
            | Self::Health { reason, .. } => reason.as_deref(),
            Self::Failover { terms, .. } => terms.reason.as_deref(),
            Self::Failback { .. } => None,
        }
    }
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// False if the state was already as requested.
    pub(crate) changed: bool,
    pub(crate) message: String,
    /// Consequences of which the operator is warned.
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug, Error)]
pub(crate) enum OperationError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the reason has {length} bytes, and may have {MAX_REASON}")]
    Reason { length: usize },
    #[error("the maximum number of pools is evacuated: end an evacuation first")]
    Evacuations,
    #[error("{weight} is no weight, which is 1 to 65535; `edge-ctl drain BACKEND` sends a backend no new flows")]
    Weight { weight: u32 },
    #[error("{name} is retired: it gets no new flows, whatever its weight")]
    Retired { name: String },
    #[error("the maps could not be changed")]
    Maps(#[from] BpfError),
}

/// Carries out the operation. `condition` returns the condition of a backend by its probes.
pub(crate) fn operate(
    inventory: &Inventory,
    plane: &mut impl DataPlane,
    condition: impl Fn(BackendNumber) -> Condition,
    events: &Events,
    operation: &Operation,
) -> Result<Outcome, OperationError> {
    let length = operation.reason().map_or(0, str::len);
    if length > MAX_REASON {
        return Err(OperationError::Reason { length });
    }
    let before = selection::all(inventory, plane);
    let mut outcome = match operation {
        Operation::Drain { backend, reason } => {
            set_admin(inventory, plane, condition, events, backend, Admin::Drained, reason.as_deref())
        }
        Operation::Enable { backend, reason } => {
            set_admin(inventory, plane, condition, events, backend, Admin::Enabled, reason.as_deref())
        }
        Operation::Disable { backend, reason } => {
            set_admin(inventory, plane, condition, events, backend, Admin::Disabled, reason.as_deref())
        }
        Operation::Health { backend, health, reason } => {
            force::force(inventory, plane, condition, events, backend, *health, reason.as_deref())
        }
        Operation::Failover { service, to, evacuate, terms } => {
            fail_over(inventory, plane, events, service, to, *evacuate, terms)
        }
        Operation::Failback { service } => fail_back(inventory, plane, events, service),
    }?;
    outcome.warnings.extend(consequences(inventory, plane, &before, operation));
    Ok(outcome)
}

fn set_admin(
    inventory: &Inventory,
    plane: &mut impl DataPlane,
    condition: impl Fn(BackendNumber) -> Condition,
    events: &Events,
    backend: &str,
    admin: Admin,
    reason: Option<&str>,
) -> Result<Outcome, OperationError> {
    let Named { name, numbers, retired } = inventory.backend(backend)?;
    let (kind, done) = match admin {
        Admin::Drained => (EventKind::BackendDrained, "drained"),
        Admin::Disabled => (EventKind::BackendDisabled, "disabled"),
        Admin::Enabled => (EventKind::BackendEnabled, "enabled"),
    };
    if numbers.iter().all(|number| plan::admin(plane.state(*number)) == admin) {
        let message = format!("{name} is {done} already");
        return Ok(Outcome { changed: false, message, warnings: Vec::new() });
    }
    let why = match reason {
        Some(reason) => format!("{done} by an operator: {reason}"),
        None => format!("{done} by an operator"),
    };
    let (mut healths, mut forced_down) = (HashSet::new(), false);
    for number in numbers {
        let condition = condition(number);
        let forced = plan::forced(plane.state(number)).filter(|_| !condition.cut_off);
        forced_down |= forced == Some(Health::Down);
        healths.insert(forced.unwrap_or(condition.health));
        if plan::admin(plane.state(number)) != admin {
            plane.change_state(number, |before| plan::changed(before, admin, condition), &why)?;
        }
    }
    events.report(kind, &name, why);
    let is = |health| healths.contains(&health);
    let message = match admin {
        Admin::Drained => format!("{name} is drained: it gets no new flows, and keeps its established ones"),
        Admin::Disabled => format!("{name} is disabled: it gets no packets"),
        Admin::Enabled if retired => {
            format!("{name} is enabled; it is retired: it keeps its flows and gets no new ones")
        }
        Admin::Enabled if forced_down => {
            format!(
                "{name} is enabled, but forced down by an operator: `edge-ctl health {name} auto` removes the override"
            )
        }
        Admin::Enabled if is(Health::Down) && healths.len() > 1 => {
            format!("{name} is enabled, but one of its addresses is down: that serves once its probes pass")
        }
        Admin::Enabled if is(Health::Down) => {
            format!("{name} is enabled, but down: it serves once its probes pass")
        }
        Admin::Enabled if is(Health::Unknown) => {
            format!("{name} is enabled; it is not known to be up or down, and serves")
        }
        Admin::Enabled => format!("{name} is enabled, and up"),
    };
    Ok(Outcome { changed: true, message, warnings: Vec::new() })
}

fn fail_over(
    inventory: &Inventory,
    plane: &mut impl DataPlane,
    events: &Events,
    service: &str,
    to: &str,
    evacuate: bool,
    terms: &Terms,
) -> Result<Outcome, OperationError> {
    let services = inventory.service(service)?;
    let name = name_of(&services);
    // The parts of a service have the same pools in the same order.
    let (service, _) = services[0];
    let position = inventory.position(service, to)?;
    if position == 0 {
        // Without a failover a service goes to its first pool.
        let mut outcome = fail_back(inventory, plane, events, &name)?;
        if !outcome.changed {
            outcome.message = format!("{to} is the first pool of service {name}: there is nothing to fail over");
        }
        return Ok(outcome);
    }
    let wanted = Failover { first: u8::try_from(position).unwrap_or(u8::MAX), evacuate };
    if services.iter().all(|(_, number)| plane.failover(*number) == wanted) {
        let message = format!("service {name} is failed over to pool {to} already");
        return Ok(Outcome { changed: false, message, warnings: Vec::new() });
    }
    for (_, number) in &services {
        plane.set_failover(*number, wanted)?;
    }
    let left = inventory.pool_names(service)[..position].join(", ");
    let message = if evacuate {
        format!("service {name} is failed over to pool {to}, and the established flows of {left} with it")
    } else {
        format!("service {name} is failed over to pool {to}; the established flows of {left} stay there")
    };
    let back = terms.for_ms.map_or(String::new(), |ms| {
        format!("; it is taken back in {}", humantime::format_duration(Duration::from_millis(ms)))
    });
    let message = message + &back;
    let reason = terms.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    events.report(EventKind::Failover, &name, format!("{message}{reason}"));
    Ok(Outcome { changed: true, message, warnings: Vec::new() })
}

fn fail_back(
    inventory: &Inventory,
    plane: &mut impl DataPlane,
    events: &Events,
    service: &str,
) -> Result<Outcome, OperationError> {
    let services = inventory.service(service)?;
    let name = name_of(&services);
    let waiting: Vec<_> = services.iter().flat_map(|(service, _)| inventory.waiting(service, plane)).collect();
    let is_over = |(_, number): &(&Service, u32)| plane.failover(*number) != Failover::default();
    if !services.iter().any(is_over) && waiting.is_empty() {
        let message = format!("service {name} is not failed over");
        return Ok(Outcome { changed: false, message, warnings: Vec::new() });
    }
    for pool in waiting {
        plane.set_withheld(pool, 0, "failback");
    }
    for (_, number) in &services {
        plane.set_failover(*number, Failover::default())?;
    }
    let counts = Counts::take(inventory, plane);
    let described = services.iter().map(|(service, _)| {
        selection::described(inventory, service, selection::serving(&counts, Failover::default(), service))
    });
    let goes = each(&services, described);
    let message = format!("the failover of service {name} is taken back: it {goes}");
    events.report(EventKind::Failback, &name, message.clone());
    Ok(Outcome { changed: true, message, warnings: Vec::new() })
}

/// The name that an operator uses for these parts of one service.
pub(super) fn name_of(services: &[(&Service, u32)]) -> String {
    joined_names(services.iter().map(|(service, _)| service.name.as_str())).join(", ")
}

/// The text for a service, or for each of its parts if they differ.
fn each(services: &[(&Service, u32)], texts: impl Iterator<Item = String>) -> String {
    let mut texts: Vec<_> = texts.collect();
    if texts.windows(2).any(|pair| pair[0] != pair[1]) {
        let part = |(text, (service, _)): (String, &(&Service, u32))| format!("{text} ({})", service.name);
        return texts.into_iter().zip(services).map(part).collect::<Vec<_>>().join(", and ");
    }
    texts.pop().unwrap_or_default()
}

/// Effects of the change on services beyond the request, as warnings.
fn consequences(
    inventory: &Inventory,
    plane: &impl DataPlane,
    before: &[Serving],
    operation: &Operation,
) -> Vec<String> {
    let after = selection::all(inventory, plane);
    // Grouped by consequence, since the parts of a service mostly share it.
    let mut worse: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (position, (service, now)) in inventory.config.services.iter().zip(after).enumerate() {
        let is_worse = match operation {
            Operation::Failover { service: word, to, .. } => {
                is_meant(word, &service.name) && inventory.position(service, to).map(Serving::Pool) != Ok(now)
            }
            Operation::Enable { .. } | Operation::Failback { .. } => false,
            // An improvement needs no warning.
            Operation::Health { .. } => before.get(position).is_some_and(|before| now.rank() > before.rank()),
            Operation::Drain { .. } | Operation::Disable { .. } => before.get(position) != Some(&now),
        };
        if is_worse {
            worse.entry(selection::described(inventory, service, now)).or_default().push(&service.name);
        }
    }
    let why = match operation {
        Operation::Failover { to, .. } => format!("pool {to} has too few backends that take new flows"),
        Operation::Drain { .. }
        | Operation::Disable { .. }
        | Operation::Enable { .. }
        | Operation::Health { .. }
        | Operation::Failback { .. } => "its pool has too few backends left that take new flows".to_owned(),
    };
    let warning = |name: String, described: &str| format!("{why}: service {name} {described}");
    let all = worse.iter().flat_map(|(described, names)| {
        joined_names(names.iter().copied()).into_iter().map(|name| warning(name, described))
    });
    all.collect()
}
