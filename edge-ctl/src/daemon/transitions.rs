//! Events of transitions: those that have started, and those that have finished.

use std::time::Duration;

use crate::{
    bpf::{Finished, Transition, boot_ms},
    control::{
        data_plane::DataPlane,
        events::{EventKind, Events},
        few,
        inventory::Inventory,
    },
};

/// Maximum number of services that get an event each; more services share one, since a change may concern all services.
pub(super) const EACH: usize = 5;

/// Reports the transitions that a pass has found to start or finish.
pub(super) fn report(
    inventory: &Inventory,
    plane: &impl DataPlane,
    events: &Events,
    started: &[u32],
    finished: &[Finished],
) {
    let started: Vec<_> =
        started.iter().filter_map(|&number| Some((name(inventory, number)?, plane.transition(number)?))).collect();
    if started.len() > EACH {
        let names: Vec<_> = started.iter().map(|(name, _)| *name).collect();
        let (_, Transition { why, .. }) = &started[0];
        events.report(EventKind::TransitionStarted, &count(&names), format!("{why}: {}", few(&names, EACH)));
    } else {
        for (name, transition) in &started {
            events.report(EventKind::TransitionStarted, name, beginning(transition));
        }
    }

    // A new generation that changed nothing in a service has reported no start of a transition, so the end is not
    // reported.
    let finished: Vec<_> = finished
        .iter()
        .filter(|finished| finished.started)
        .filter_map(|finished| Some((name(inventory, finished.service)?, finished)))
        .collect();
    if finished.len() > EACH {
        let names: Vec<_> = finished.iter().map(|(name, _)| *name).collect();
        events.report(EventKind::TransitionFinished, &count(&names), few(&names, EACH));
    } else {
        for (name, finished) in finished {
            events.report(EventKind::TransitionFinished, name, end(finished));
        }
    }
}

fn name(inventory: &Inventory, number: u32) -> Option<&str> {
    inventory.services().find(|(_, known)| *known == number).map(|(service, _)| service.name.as_str())
}

fn beginning(Transition { why, differing, next_ms, .. }: &Transition) -> String {
    let now = boot_ms();
    let why = if why.is_empty() { "a flow was recorded" } else { why };
    match (differing, next_ms) {
        (Some(slots @ 1..), Some(next)) => {
            format!("{why}: {slots} slots are handed over, the first in {}", seconds(next.saturating_sub(now)))
        }
        _ => why.to_owned(),
    }
}

fn end(Finished { since_ms, moved, .. }: &Finished) -> String {
    let now = boot_ms();
    let after =
        if *since_ms > 0 { format!("after {}: ", seconds(now.saturating_sub(*since_ms))) } else { String::new() };
    format!("{after}{moved} slots were handed over, and no flow needs a record")
}

fn seconds(ms: u64) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(ms.div_ceil(1000)))
}

fn count(names: &[&str]) -> String {
    format!("{} services", names.len())
}
