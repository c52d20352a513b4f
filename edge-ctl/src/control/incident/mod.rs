//! Outages, found in events: what was the first sign, what was known, what moved, who did what, and when it was back. Pure.
//!
//! ```text
//! backend_down, pool_left, panic, frozen   something is wrong: an incident begins, or goes on
//! backend_up, pool_returned, ...           it is not any more: once nothing is, the incident is over,
//!                                          unless something is again within QUIET
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

/// What is wrong again so soon belongs to the incident before, milliseconds.
const QUIET: u64 = 60_000;
/// What is wrong so much later does not, even if something of it was never seen to be right again: a backend may have been removed.
const LONG: u64 = 3_600_000;
/// How long before the first sign something may have been done that has to do with it, milliseconds.
const BEFORE: u64 = 600_000;

/// An outage, or what was wrong before it became one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Incident {
    /// When it began, as digits: `20261130-045436`.
    pub(crate) id: String,
    /// Milliseconds since 1970, UTC.
    pub(crate) since: u64,
    /// The same; absent while something is wrong.
    pub(crate) until: Option<u64>,
    /// What is wrong still.
    pub(crate) open: Vec<String>,
    pub(crate) first: Step,
    /// What was done in the ten minutes before, which may be why.
    pub(crate) before: Vec<Step>,
    /// All of it in its order, the first sign too; what is alike and at once is one.
    pub(crate) steps: Vec<Step>,
    /// New flows that have started from the first sign to the end, or until now; absent where that is not known.
    pub(crate) new_flows: Option<u64>,
}

/// All incidents in `events`, which are in their order; the oldest first. `flows` is how many have started until now, and `still`
/// whether what no event has ended is so: what kind of thing (see [`Incident::open`]), and its name.
pub(crate) fn incidents(events: &[Event], flows: Option<u64>, still: &impl Fn(&str, &str) -> bool) -> Vec<Incident> {
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
            // A daemon that starts anew tells of pools anew, and knows of no hardship of its own before it.
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
        let is_open = |(kind, name): &&Wrong| number == newest && still(kind.name(), name);
        let open: Vec<_> = left.iter().filter(is_open).collect();
        let until = open.is_empty().then(|| events[*last].at);
        // What comes last is what it was about; what was done meanwhile is in between.
        let end = if until.is_some() { *last } else { events.len().saturating_sub(1) };
        let since = events[*first].at;
        let began = events[..*first].iter().rposition(|event| since.saturating_sub(event.at) > BEFORE);
        let earlier = &events[began.map_or(0, |place| place + 1)..*first];
        let done: Vec<_> = earlier.iter().filter(|event| Part::of(event.kind) == Part::Did).cloned().collect();
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

/// `20261130-045436`, of milliseconds since 1970.
fn id(at: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(at);
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.chars()
        .filter_map(|char| if char == 'T' { Some('-') } else { char.is_ascii_digit().then_some(char) })
        .collect()
}

/// What can be wrong, and with whom.
type Wrong = (Kind, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Backend,
    Left,
    Panic,
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
        // That nothing is known of it any more is the end of what was.
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
        | EventKind::Repaired
        | EventKind::Lagged => Effect::None,
    }
}
