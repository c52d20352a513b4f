//! Services whose clients of each IP version have slots of their own, each shown as the one service that it is in the
//! file.

use super::{ServiceStatus, TrafficStatus, flows::TransitionStatus};
use crate::config::{Clients, configured};

/// The services as in the file. Values that can differ between the parts of a service are in `parts`.
pub(super) fn joined(services: impl IntoIterator<Item = ServiceStatus>) -> Vec<ServiceStatus> {
    let mut all: Vec<ServiceStatus> = Vec::new();
    for service in services {
        let (name, clients) = configured(&service.name);
        if clients == Clients::All {
            all.push(service);
        } else if let Some(whole) = all.last_mut().filter(|whole| whole.name == name) {
            add(whole, service);
        } else {
            all.push(whole(service));
        }
    }
    all
}

/// A service with the values of its first part.
fn whole(part: ServiceStatus) -> ServiceStatus {
    ServiceStatus { name: configured(&part.name).0.to_owned(), parts: vec![part.clone()], ..part }
}

fn add(whole: &mut ServiceStatus, part: ServiceStatus) {
    whole.vips.extend(part.vips.iter().cloned());
    whole.ports.extend(part.ports.iter().filter(|port| !whole.ports.contains(port)).cloned().collect::<Vec<_>>());
    whole.traffic = sum(&whole.traffic, &part.traffic);
    for (what, count) in &part.flows {
        *whole.flows.entry(what.clone()).or_default() += count;
    }
    whole.transition = match (whole.transition.take(), part.transition.clone()) {
        (Some(one), Some(other)) => Some(both(&one, &other)),
        (one, other) => one.or(other),
    };
    whole.parts.push(part);
    combine_states(whole);
}

/// Gives a service the state of its worse part, and the reasons of both.
pub(super) fn combine_states(whole: &mut ServiceStatus) {
    let parts = whole.parts.iter();
    let worst = parts.clone().max_by_key(|part| part.state.badness());
    if let Some(worst) = worst {
        whole.state = worst.state;
        whole.serving.clone_from(&worst.serving);
        whole.failover.clone_from(&worst.failover);
    }
    let is_same = whole.parts.iter().all(|part| part.reason == whole.parts[0].reason);
    whole.reason = if is_same {
        whole.parts[0].reason.clone()
    } else {
        let reasons = parts.filter(|part| !part.reason.is_empty());
        reasons.map(|part| format!("{}: {}", part.name, part.reason)).collect::<Vec<_>>().join("; ")
    };
}

fn sum(one: &TrafficStatus, other: &TrafficStatus) -> TrafficStatus {
    TrafficStatus {
        packets: one.packets + other.packets,
        bytes: one.bytes + other.bytes,
        flows: one.flows + other.flows,
        rates: one.rates.zip(other.rates).map(|(one, other)| one.and(other)),
        peak: None,
    }
}

/// Joins two transitions: from the start of the first to the end of the last.
fn both(one: &TransitionStatus, other: &TransitionStatus) -> TransitionStatus {
    let earlier = if one.for_seconds >= other.for_seconds { one } else { other };
    let pick = |one: Option<f64>, other: Option<f64>, least: bool| match (one, other) {
        (Some(one), Some(other)) => Some(if least { one.min(other) } else { one.max(other) }),
        (one, other) => one.or(other),
    };
    TransitionStatus {
        since: earlier.since,
        for_seconds: earlier.for_seconds,
        why: earlier.why.clone(),
        slots_differing: one.slots_differing.zip(other.slots_differing).map(|(one, other)| one + other),
        records: one.records + other.records,
        next_handover_seconds: pick(one.next_handover_seconds, other.next_handover_seconds, true),
        last_handover_seconds: pick(one.last_handover_seconds, other.last_handover_seconds, false),
    }
}
