//! What is told of services that are not settled, and of those that are again.

use std::time::Duration;

use super::{
    events::{Events, Kind},
    inventory::Inventory,
    plane::Plane,
};
use crate::kernel::{Settled, Transition, boot_time};

/// Services that are told of one by one. One change may concern all that there are.
const EACH: usize = 5;

/// Tells what a round has found.
pub(super) fn tell(inventory: &Inventory, plane: &impl Plane, events: &Events, begun: &[u32], settled: &[Settled]) {
    let begun: Vec<_> =
        begun.iter().filter_map(|&number| Some((name(inventory, number)?, plane.transition(number)?))).collect();
    if begun.len() > EACH {
        let names: Vec<_> = begun.iter().map(|(name, _)| *name).collect();
        let (_, Transition { why, .. }) = &begun[0];
        events.tell(Kind::Unsettled, &count(&names), format!("{why}: {}", shortened(&names)));
    } else {
        for (name, transition) in &begun {
            events.tell(Kind::Unsettled, name, beginning(transition));
        }
    }

    // What a new generation did not change at all was never told of.
    let settled: Vec<_> = settled
        .iter()
        .filter(|settled| settled.begun)
        .filter_map(|settled| Some((name(inventory, settled.service)?, settled)))
        .collect();
    if settled.len() > EACH {
        let names: Vec<_> = settled.iter().map(|(name, _)| *name).collect();
        events.tell(Kind::Settled, &count(&names), shortened(&names));
    } else {
        for (name, settled) in settled {
            events.tell(Kind::Settled, name, end(settled));
        }
    }
}

fn name(inventory: &Inventory, number: u32) -> Option<&str> {
    inventory.services().find(|(_, known)| *known == number).map(|(service, _)| service.name.as_str())
}

fn beginning(Transition { why, differing, next_ms, .. }: &Transition) -> String {
    let now = u64::try_from(boot_time().as_millis()).unwrap_or(u64::MAX);
    let why = if why.is_empty() { "a flow was recorded" } else { why };
    match (differing, next_ms) {
        (Some(slots @ 1..), Some(next)) => format!(
            "{why}: {slots} slots wait for another owner, the first for {} more",
            seconds(next.saturating_sub(now))
        ),
        _ => why.to_owned(),
    }
}

fn end(Settled { since_ms, moved, .. }: &Settled) -> String {
    let now = u64::try_from(boot_time().as_millis()).unwrap_or(u64::MAX);
    let after =
        if *since_ms > 0 { format!("after {}: ", seconds(now.saturating_sub(*since_ms))) } else { String::new() };
    format!("{after}{moved} slots have another owner, and no flow needs a record")
}

fn seconds(ms: u64) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(ms.div_ceil(1000)))
}

fn count(names: &[&str]) -> String {
    format!("{} services", names.len())
}

fn shortened(names: &[&str]) -> String {
    let more = names.len().saturating_sub(EACH);
    let shown = names[..names.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
