//! Events as the steps of a story: each with its part in it, and those that are alike and at once as one.

#![deny(clippy::wildcard_enum_match_arm)]

use serde::Serialize;

use crate::control::events::{Event, EventKind};

/// Events of one kind that are no further apart are told together, milliseconds.
const TOGETHER: u64 = 3_000;

/// What part an event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// Something was found out.
    Known,
    /// The edge sends flows elsewhere.
    Moved,
    /// An operator, or a file, or the daemon's own life.
    Did,
    /// Something is as it should be again.
    Back,
    /// Not told.
    Aside,
}

impl Part {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Moved => "moved",
            Self::Did => "done",
            Self::Back => "back",
            Self::Aside => "",
        }
    }

    pub(super) fn of(kind: EventKind) -> Self {
        match kind {
            EventKind::BackendDown
            | EventKind::BackendUnknown
            | EventKind::FlowsUnrecorded
            | EventKind::PortsScarce
            | EventKind::NextHopLost
            | EventKind::PathNarrow
            | EventKind::CertificateExpires
            | EventKind::Unreachable
            | EventKind::Frozen
            | EventKind::LocalFault
            | EventKind::HostUnfit
            | EventKind::Repaired => Self::Known,
            EventKind::PoolLeft | EventKind::PoolReturning | EventKind::Panic => Self::Moved,
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
            | EventKind::EvacuationOver => Self::Did,
            EventKind::BackendUp
            | EventKind::PoolReturned
            | EventKind::FlowsRecorded
            | EventKind::PortsPlenty
            | EventKind::NextHopFound
            | EventKind::PathWide
            | EventKind::CertificateValid
            | EventKind::Thawed
            | EventKind::PanicOver
            | EventKind::HostFits => Self::Back,
            EventKind::Adopted
            | EventKind::ConfigGood
            | EventKind::Attached
            | EventKind::TransitionStarted
            | EventKind::TransitionFinished
            | EventKind::Lagged => Self::Aside,
        }
    }
}

/// One or several events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    pub(crate) part: Part,
    /// When the first was: milliseconds since 1970, UTC.
    pub(crate) at: u64,
    pub(crate) kind: EventKind,
    pub(crate) subjects: Vec<String>,
    /// Of the first.
    pub(crate) message: String,
}

/// The steps that are told.
pub(super) fn steps(events: &[Event]) -> Vec<Step> {
    let mut steps: Vec<(Step, u64)> = Vec::new();
    for event in events {
        let part = Part::of(event.kind);
        if part == Part::Aside {
            continue;
        }
        let soon =
            |(step, last): &&mut (Step, u64)| step.kind == event.kind && event.at.saturating_sub(*last) <= TOGETHER;
        // Between those that die together others are told that follow from it.
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
