//! Reasons and deadlines of operators' failovers. The failover itself is a word in the maps, which has no room for them; a
//! note about it counts while the word leads to the pool that the note names.

#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::{
    data_plane::DataPlane,
    deadline::Deadline,
    evacuation::{Evacuation, Moment, displaces},
    inventory::Inventory,
    operations::{Operation, Terms, name_of},
};

/// A failover with a reason or a deadline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FailoverNote {
    /// The service's name, as an operator uses it.
    pub(crate) service: String,
    /// The pool that it is failed over to.
    pub(crate) to: String,
    /// Milliseconds since 1970, UTC. For display only.
    pub(crate) since: u64,
    pub(crate) reason: Option<String>,
    #[serde(flatten)]
    pub(crate) deadline: Deadline,
}

/// Notes the terms of an operation that was carried out; returns whether the notes have changed.
pub(crate) fn note(
    notes: &mut Vec<FailoverNote>,
    inventory: &Inventory,
    plane: &impl DataPlane,
    operation: &Operation,
    now: Moment,
) -> bool {
    let (service, new) = match operation {
        Operation::Failover { service, to, terms, .. } => (service, Some((to, terms))),
        Operation::Failback { service } => (service, None),
        Operation::Drain { .. } | Operation::Enable { .. } | Operation::Disable { .. } | Operation::Health { .. } => {
            return false;
        }
    };
    let before = notes.clone();
    // The operation was carried out, so the service exists.
    let name = inventory.service(service).map_or_else(|_| service.clone(), |services| name_of(&services));
    notes.retain(|note| note.service != name);
    if let Some((to, Terms { reason, for_ms })) = new.filter(|(_, terms)| **terms != Terms::default()) {
        let (since, deadline) = (now.unix_ms, Deadline::after(*for_ms, now.boot_ms));
        let note = FailoverNote { service: name, to: to.clone(), since, reason: reason.clone(), deadline };
        // A failover to the first pool is none.
        notes.extend(is_in_force(&note, inventory, plane).then_some(note));
    }
    *notes != before
}

/// Forgets notes about failovers that are over or are others; returns whether there were any.
pub(crate) fn forget_others(
    notes: &mut Vec<FailoverNote>,
    inventory: &Inventory,
    plane: &impl DataPlane,
    evacuations: &[Evacuation],
) -> bool {
    let before = notes.len();
    notes.retain(|note| counts(note, inventory, plane, evacuations));
    notes.len() != before
}

/// The first failover whose time is over, and that is in force or comes back after evacuations.
pub(crate) fn over<'a>(
    notes: &'a [FailoverNote],
    inventory: &Inventory,
    plane: &impl DataPlane,
    evacuations: &[Evacuation],
    boot_ms: u64,
) -> Option<&'a FailoverNote> {
    notes.iter().find(|note| note.deadline.is_over(boot_ms) && counts(note, inventory, plane, evacuations))
}

/// Whether the failover is in force, or comes back after an evacuation that has displaced it.
fn counts(note: &FailoverNote, inventory: &Inventory, plane: &impl DataPlane, evacuations: &[Evacuation]) -> bool {
    displaces(evacuations, &note.service) || is_in_force(note, inventory, plane)
}

/// Whether a part of the service is failed over to the pool.
fn is_in_force(note: &FailoverNote, inventory: &Inventory, plane: &impl DataPlane) -> bool {
    inventory.service(&note.service).unwrap_or_default().iter().any(|(service, number)| {
        let first = usize::from(plane.failover(*number).first);
        first > 0 && inventory.position(service, &note.to).is_ok_and(|position| position == first)
    })
}
