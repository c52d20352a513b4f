//! Events as the steps of an incident: each has a role, and similar events at about the same time form one step.

#![deny(clippy::wildcard_enum_match_arm)]

use serde::Serialize;

use crate::control::events::{Event, EventKind};

/// Events of one kind that are at most this far apart form one step, milliseconds.
const TOGETHER: u64 = 3_000;

/// The role of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// A fault that was found.
    Fault,
    /// The load balancer sends flows elsewhere.
    Move,
    /// An action of an operator, a new file, or a start or stop of the daemon.
    Action,
    /// A fault has ended.
    Recovery,
    /// Not part of the incident.
    Aside,
}

impl Part {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Move => "move",
            Self::Action => "action",
            Self::Recovery => "recovery",
            Self::Aside => "",
        }
    }

    pub(super) fn of(kind: EventKind) -> Self {
        match kind {
            EventKind::BackendDown
            | EventKind::BackendUnknown
            | EventKind::BackendSuspect
            | EventKind::FlowsUnrecorded
            | EventKind::PortsScarce
            | EventKind::NextHopLost
            | EventKind::PathNarrow
            | EventKind::CertificateExpires
            | EventKind::Unreachable
            | EventKind::Frozen
            | EventKind::LocalFault
            | EventKind::HostUnfit
            | EventKind::Repaired => Self::Fault,
            EventKind::PoolLeft | EventKind::PoolReturning | EventKind::Panic => Self::Move,
            EventKind::DaemonStarted
            | EventKind::DaemonStopped
            | EventKind::ConfigApplied
            | EventKind::ConfigRefused
            | EventKind::ConfigConfirmed
            | EventKind::ConfigUndone
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
            | EventKind::EvacuationOver => Self::Action,
            EventKind::BackendUp
            | EventKind::BackendTrusted
            | EventKind::PoolReturned
            | EventKind::FlowsRecorded
            | EventKind::PortsPlenty
            | EventKind::NextHopFound
            | EventKind::PathWide
            | EventKind::CertificateValid
            | EventKind::Thawed
            | EventKind::PanicOver
            | EventKind::HostFits => Self::Recovery,
            EventKind::Adopted
            | EventKind::ConfigGood
            | EventKind::Attached
            | EventKind::TransitionStarted
            | EventKind::TransitionFinished
            | EventKind::Lagged => Self::Aside,
        }
    }
}

/// One event, or several similar ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    pub(crate) part: Part,
    /// Time of the first event: milliseconds since 1970, UTC.
    pub(crate) at: u64,
    pub(crate) kind: EventKind,
    pub(crate) subjects: Vec<String>,
    /// Message of the first event.
    pub(crate) message: String,
}

/// The steps of an incident.
pub(super) fn steps(events: &[Event]) -> Vec<Step> {
    let mut steps: Vec<(Step, u64)> = Vec::new();
    for event in events {
        let part = Part::of(event.kind);
        if part == Part::Aside {
            continue;
        }
        let soon =
            |(step, last): &&mut (Step, u64)| step.kind == event.kind && event.at.saturating_sub(*last) <= TOGETHER;
        // Between similar events there may be others that follow from them.
        if let Some((step, last)) = steps.iter_mut().rev().take(4).find(soon) {
            *last = event.at;
            if !step.subjects.contains(&event.subject) {
                step.subjects.push(event.subject.clone());
            }
            continue;
        }
        let (subjects, message) = (vec![event.subject.clone()], event.message.clone());
        steps.push((Step { part, at: event.at, kind: event.kind, subjects, message }, event.at));
    }
    steps.into_iter().map(|(step, _)| step).collect()
}
