//! What an operator can do, the same with and without the daemon.

#![deny(clippy::wildcard_enum_match_arm)]

use edge_common::abi::{BackendNumber, Failover};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    data_plane::DataPlane,
    events::{EventKind, Events},
    inventory::{Inventory, Known, NameError},
    selection::{self, Counts, Serving},
};
use crate::{
    bpf::BpfError,
    health::{Condition, Health},
    plan::{self, Admin},
};

/// An operator's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Drain { backend: String, reason: Option<String> },
    Enable { backend: String, reason: Option<String> },
    Disable { backend: String, reason: Option<String> },
    Failover { service: String, to: String, evacuate: bool },
    Failback { service: String },
}

/// Bytes of a reason, at most.
pub(crate) const MAX_REASON: usize = 256;

impl Operation {
    fn reason(&self) -> Option<&str> {
        match self {
            Self::Drain { reason, .. } | Self::Enable { reason, .. } | Self::Disable { reason, .. } => {
                reason.as_deref()
            }
            Self::Failover { .. } | Self::Failback { .. } => None,
        }
    }
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// False where the state was already as requested.
    pub(crate) changed: bool,
    pub(crate) message: String,
    /// What the operator should know about the consequences.
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug, Error)]
pub(crate) enum OperationError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the reason has {length} bytes, and may have {MAX_REASON}")]
    Reason { length: usize },
    #[error("the maps could not be changed")]
    Maps(#[from] BpfError),
}

/// Does the operation. `condition` is what probes have found of a backend, and what follows from it.
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
        Operation::Failover { service, to, evacuate } => fail_over(inventory, plane, events, service, to, *evacuate),
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
    let Known { number, name, retired } = inventory.backend(backend)?;
    let (kind, done) = match admin {
        Admin::Drained => (EventKind::BackendDrained, "drained"),
        Admin::Disabled => (EventKind::BackendDisabled, "disabled"),
        Admin::Enabled => (EventKind::BackendEnabled, "enabled"),
    };
    let before = plane.state(number);
    if plan::admin(before) == admin {
        let message = format!("{name} is {done} already");
        return Ok(Outcome { changed: false, message, warnings: Vec::new() });
    }
    let condition = condition(number);
    let why = match reason {
        Some(reason) => format!("{done} by an operator: {reason}"),
        None => format!("{done} by an operator"),
    };
    plane.change_state(number, |before| plan::changed(before, admin, condition), &why)?;
    events.report(kind, &name, why);
    let message = match (admin, condition.health) {
        (Admin::Drained, _) => format!("{name} is drained: it gets no new flows, and keeps its established ones"),
        (Admin::Disabled, _) => format!("{name} is disabled: it gets no packets"),
        (Admin::Enabled, _) if retired => {
            format!("{name} is enabled; it is retired: it keeps its flows and gets no new ones")
        }
        (Admin::Enabled, Health::Up) => format!("{name} is enabled, and up"),
        (Admin::Enabled, Health::Unknown) => format!("{name} is enabled; it is not known to be up or down, and serves"),
        (Admin::Enabled, Health::Down) => format!("{name} is enabled, but down: it serves once its probes pass"),
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
) -> Result<Outcome, OperationError> {
    let (service, number) = inventory.service(service)?;
    let position = inventory.position(service, to)?;
    let name = &service.name;
    if position == 0 {
        // Its first pool is where it goes without a failover.
        let mut outcome = fail_back(inventory, plane, events, name)?;
        if !outcome.changed {
            outcome.message = format!("{to} is the first pool of service {name}: there is nothing to fail over");
        }
        return Ok(outcome);
    }
    let wanted = Failover { first: u8::try_from(position).unwrap_or(u8::MAX), evacuate };
    if plane.failover(number) == wanted {
        let message = format!("service {name} is failed over to pool {to} already");
        return Ok(Outcome { changed: false, message, warnings: Vec::new() });
    }
    plane.set_failover(number, wanted)?;
    let left = inventory.pool_names(service)[..position].join(", ");
    let message = if evacuate {
        format!("service {name} is failed over to pool {to}, and the established flows of {left} with it")
    } else {
        format!("service {name} is failed over to pool {to}; the established flows of {left} stay there")
    };
    events.report(EventKind::Failover, name, message.clone());
    Ok(Outcome { changed: true, message, warnings: Vec::new() })
}

fn fail_back(
    inventory: &Inventory,
    plane: &mut impl DataPlane,
    events: &Events,
    service: &str,
) -> Result<Outcome, OperationError> {
    let (service, number) = inventory.service(service)?;
    let name = &service.name;
    let waiting: Vec<_> = inventory.waiting(service, plane).collect();
    if plane.failover(number) == Failover::default() && waiting.is_empty() {
        let message = format!("service {name} is not failed over");
        return Ok(Outcome { changed: false, message, warnings: Vec::new() });
    }
    for pool in waiting {
        plane.set_withheld(pool, 0, "failback");
    }
    plane.set_failover(number, Failover::default())?;
    let serving = selection::serving(&Counts::take(inventory, plane), Failover::default(), service);
    let message = format!(
        "the failover of service {name} is taken back: it {}",
        selection::described(inventory, service, serving)
    );
    events.report(EventKind::Failback, name, message.clone());
    Ok(Outcome { changed: true, message, warnings: Vec::new() })
}

/// Effects of the change on services beyond the request, as warnings.
fn consequences(
    inventory: &Inventory,
    plane: &impl DataPlane,
    before: &[Serving],
    operation: &Operation,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let after = selection::all(inventory, plane);
    for (position, (service, now)) in inventory.config.services.iter().zip(after).enumerate() {
        let described = selection::described(inventory, service, now);
        match operation {
            Operation::Failover { service: name, to, .. } if *name == service.name => {
                if inventory.position(service, to).map(Serving::Pool) != Ok(now) {
                    warnings.push(format!(
                        "pool {to} has too few backends that take new flows: service {name} {described}"
                    ));
                }
            }
            Operation::Enable { .. } | Operation::Failback { .. } | Operation::Failover { .. } => {}
            Operation::Drain { .. } | Operation::Disable { .. } => {
                if before.get(position) != Some(&now) {
                    warnings.push(format!(
                        "its pool has too few backends left that take new flows: service {} {described}",
                        service.name
                    ));
                }
            }
        }
    }
    warnings
}
