//! Finds outages in events: the first sign, what was known, which flows moved, what operators did, and when the outage
//! was over. Pure.
//!
//! ```text
//! backend_down, pool_left, panic, frozen   a fault begins: an incident begins or continues
//! backend_up, pool_returned, ...           the fault ends; without any fault the incident is over,
//!                                          unless another fault begins within QUIET
//! ```

#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

mod story;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Serialize;

pub(crate) use self::story::{Part, Step};
#[cfg(test)]
pub(crate) use self::tests::outage;
use super::events::{Event, EventKind};
use crate::config::configured;

/// A fault that begins within this time after an incident belongs to it, milliseconds.
const QUIET: u64 = 60_000;
/// A fault that begins later than this does not, even if an earlier fault never ended: a backend may have been removed.
const LONG: u64 = 3_600_000;
/// How long before the first sign an action may be its cause, milliseconds.
const BEFORE: u64 = 600_000;

/// An outage, or faults that did not lead to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Incident {
    /// Start time as digits: `20261130-045436`.
    pub(crate) id: String,
    /// Milliseconds since 1970, UTC.
    pub(crate) since: u64,
    /// End, milliseconds since 1970, UTC; absent while a fault lasts.
    pub(crate) until: Option<u64>,
    /// Faults that have not ended.
    pub(crate) open: Vec<String>,
    pub(crate) first: Step,
    /// Actions in the ten minutes before, as possible causes.
    pub(crate) before: Vec<Step>,
    /// All steps in order, including the first sign; similar events at about the same time are one step.
    pub(crate) steps: Vec<Step>,
    /// New flows from the first sign to the end, or until now; absent if unknown.
    pub(crate) new_flows: Option<u64>,
}

/// All incidents in `events`, which are in order; the oldest first. `flows` is the number of new flows until now.
/// `still` is given the kind and name of a fault without an end event, and returns whether it
/// still exists.
pub(crate) fn incidents(events: &[Event], flows: Option<u64>, still: &impl Fn(Kind, &str) -> bool) -> Vec<Incident> {
    let mut found: Vec<(usize, usize, BTreeSet<Wrong>)> = Vec::new();
    let mut open: BTreeSet<Wrong> = BTreeSet::new();
    for (place, event) in events.iter().enumerate() {
        match effect(event) {
            Effect::Wrong(wrong) => {
                let within = if open.is_empty() { QUIET } else { LONG };
                let again =
                    found.last().is_some_and(|(_, last, _)| event.at.saturating_sub(events[*last].at) <= within);
                if !again {
                    found.push((place, place, BTreeSet::new()));
                    open.clear();
                }
                open.extend(wrong);
            }
            Effect::Right(right) => {
                let before = open.len();
                open.retain(|wrong| !right.contains(wrong));
                if open.len() == before {
                    continue;
                }
            }
            // A daemon that restarts reports pools anew; its earlier faults, except for those of backends, are unknown
            // to it.
            Effect::Anew => {
                let before = open.len();
                open.retain(|(kind, _)| *kind == Kind::Backend);
                if open.len() == before {
                    continue;
                }
            }
            Effect::None => continue,
        }
        if let Some((_, last, still)) = found.last_mut() {
            *last = place;
            still.clone_from(&open);
        }
    }
    let newest = found.len().saturating_sub(1);
    let incident = |(number, (first, last, left)): (usize, &(usize, usize, BTreeSet<Wrong>))| {
        let is_open = |(kind, name): &&Wrong| number == newest && still(*kind, name);
        let open: Vec<_> = left.iter().filter(is_open).collect();
        let until = open.is_empty().then(|| events[*last].at);
        // The last event of the incident is about its faults; operators' actions lie in between.
        let end = if until.is_some() { *last } else { events.len().saturating_sub(1) };
        let since = events[*first].at;
        let began = events[..*first].iter().rposition(|event| since.saturating_sub(event.at) > BEFORE);
        let earlier = &events[began.map_or(0, |place| place + 1)..*first];
        let done: Vec<_> = earlier.iter().filter(|event| Part::of(event.kind) == Part::Action).cloned().collect();
        let steps = story::steps(&events[*first..=end]);
        let flows_then = if until.is_some() { events[end].flows } else { flows.or(events[end].flows) };
        let new_flows = flows_then.zip(events[*first].flows).and_then(|(then, first)| then.checked_sub(first));
        Incident {
            id: id(since),
            since,
            until,
            open: open.iter().map(|(kind, name)| format!("{} {name}", kind.name())).collect(),
            first: steps[0].clone(),
            before: story::steps(&done),
            steps,
            new_flows,
        }
    };
    found.iter().enumerate().map(incident).collect()
}

/// An incident's ID, `20261130-045436`, from milliseconds since 1970.
fn id(at: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(at);
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.chars()
        .filter_map(|char| if char == 'T' { Some('-') } else { char.is_ascii_digit().then_some(char) })
        .collect()
}

/// A fault: its kind and its subject.
type Wrong = (Kind, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A backend is down.
    Backend,
    /// A service has left a pool.
    Left,
    /// A pool is in panic.
    Panic,
    /// Health is frozen.
    Frozen,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Left => "service",
            Self::Panic => "panic in",
            Self::Frozen => "frozen",
        }
    }
}

enum Effect {
    Wrong(Vec<Wrong>),
    Right(Vec<Wrong>),
    Anew,
    None,
}

fn effect(event: &Event) -> Effect {
    let of = |kind: Kind| vec![(kind, event.subject.clone())];
    // Services leave a pool together, and may return one by one.
    let services = || {
        let names = if event.services.is_empty() { std::slice::from_ref(&event.subject) } else { &event.services };
        names.iter().map(|name| (Kind::Left, configured(name).0.to_owned())).collect()
    };
    match event.kind {
        EventKind::BackendDown => Effect::Wrong(of(Kind::Backend)),
        EventKind::PoolLeft => Effect::Wrong(services()),
        EventKind::Panic => Effect::Wrong(of(Kind::Panic)),
        EventKind::Frozen => Effect::Wrong(of(Kind::Frozen)),
        // A backend whose health is unknown is no longer known to be down.
        EventKind::BackendUp | EventKind::BackendUnknown => Effect::Right(of(Kind::Backend)),
        EventKind::PoolReturned => Effect::Right(services()),
        EventKind::PanicOver => Effect::Right(of(Kind::Panic)),
        EventKind::Thawed => Effect::Right(of(Kind::Frozen)),
        EventKind::DaemonStarted => Effect::Anew,
        EventKind::DaemonStopped
        | EventKind::Adopted
        | EventKind::ConfigApplied
        | EventKind::ConfigRefused
        | EventKind::ConfigConfirmed
        | EventKind::ConfigUndone
        | EventKind::ConfigGood
        | EventKind::Attached
        | EventKind::Detached
        | EventKind::BackendDrained
        | EventKind::BackendEnabled
        | EventKind::BackendDisabled
        | EventKind::HealthForced
        | EventKind::HealthAuto
        | EventKind::WeightChanged
        | EventKind::Failover
        | EventKind::Failback
        | EventKind::PoolEvacuated
        | EventKind::EvacuationOver
        | EventKind::PoolReturning
        | EventKind::TransitionStarted
        | EventKind::TransitionFinished
        | EventKind::FlowsUnrecorded
        | EventKind::FlowsRecorded
        | EventKind::PortsScarce
        | EventKind::PortsPlenty
        | EventKind::NextHopLost
        | EventKind::NextHopFound
        | EventKind::PathNarrow
        | EventKind::PathWide
        | EventKind::CertificateExpires
        | EventKind::CertificateValid
        | EventKind::Unreachable
        | EventKind::LocalFault
        | EventKind::HostUnfit
        | EventKind::HostFits
        | EventKind::BackendSuspect
        | EventKind::BackendTrusted
        | EventKind::Repaired
        | EventKind::Lagged => Effect::None,
    }
}
