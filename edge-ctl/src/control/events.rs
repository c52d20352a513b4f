//! What happened: the last thousand events, and a channel for subscribers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tracing::{info, warn};

/// Events kept in memory, and the number that a slow subscriber may fall behind.
pub(crate) const KEPT: usize = 1000;

/// Services that an event names.
const NAMED: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EventKind {
    DaemonStarted,
    DaemonStopped,
    Adopted,
    ConfigApplied,
    ConfigRefused,
    /// An operator keeps a generation that was on trial.
    ConfigConfirmed,
    /// A generation on trial was taken back.
    ConfigUndone,
    /// No service has lost availability for the time of the soak.
    ConfigGood,
    Attached,
    Detached,
    BackendUp,
    BackendDown,
    BackendUnknown,
    BackendDrained,
    BackendEnabled,
    BackendDisabled,
    /// An operator has said that a backend is up or down.
    HealthForced,
    /// Its probes decide again.
    HealthAuto,
    /// An operator has given backends other weights than the file's, or the file's again.
    WeightChanged,
    Failover,
    Failback,
    /// Services have left a pool by an operator's word.
    PoolEvacuated,
    /// They have returned, or may.
    EvacuationOver,
    PoolLeft,
    PoolReturned,
    /// Enough of a pool has been up for long enough: new flows begin to return to it.
    PoolReturning,
    /// Slots of a service have an owner that is not their pick.
    TransitionStarted,
    /// Each slot's owner is its pick, and no flow is recorded.
    TransitionFinished,
    /// New flows of a service can't be recorded where they are sent.
    FlowsUnrecorded,
    /// They can again, or need not be.
    FlowsRecorded,
    /// Three quarters of the ports by which a backend is reached are in use.
    PortsScarce,
    /// Fewer are again.
    PortsPlenty,
    NextHopLost,
    NextHopFound,
    /// The path to a backend is too narrow for IPv6 in a tunnel.
    PathNarrow,
    /// The path has not been too narrow for twice the time for which a learnt path MTU is used.
    PathWide,
    /// A backend's certificate has few days left, or none.
    CertificateExpires,
    /// It has enough of them again.
    CertificateValid,
    /// Nothing can be sent to a backend, and there is no other one for it.
    Unreachable,
    /// This host may be to blame for what its probes do not hear: health is as it was before.
    Frozen,
    /// Enough is heard again: probes count.
    Thawed,
    /// So much of a pool is down, and there is no other, that all of it serves.
    Panic,
    /// Enough of the pool is up again.
    PanicOver,
    LocalFault,
    /// Something of the configuration does not go with this host.
    HostUnfit,
    /// It does again.
    HostFits,
    /// The maps were not as they should be, and are again.
    Repaired,
    /// Only for a slow subscriber: how many events it has lost.
    Lagged,
}

impl EventKind {
    /// The name that JSON has, too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DaemonStarted => "daemon_started",
            Self::DaemonStopped => "daemon_stopped",
            Self::Adopted => "adopted",
            Self::ConfigApplied => "config_applied",
            Self::ConfigRefused => "config_refused",
            Self::ConfigConfirmed => "config_confirmed",
            Self::ConfigUndone => "config_undone",
            Self::ConfigGood => "config_good",
            Self::Attached => "attached",
            Self::Detached => "detached",
            Self::BackendUp => "backend_up",
            Self::BackendDown => "backend_down",
            Self::BackendUnknown => "backend_unknown",
            Self::BackendDrained => "backend_drained",
            Self::BackendEnabled => "backend_enabled",
            Self::BackendDisabled => "backend_disabled",
            Self::HealthForced => "health_forced",
            Self::HealthAuto => "health_auto",
            Self::WeightChanged => "weight_changed",
            Self::Failover => "failover",
            Self::Failback => "failback",
            Self::PoolEvacuated => "pool_evacuated",
            Self::EvacuationOver => "evacuation_over",
            Self::PoolLeft => "pool_left",
            Self::PoolReturned => "pool_returned",
            Self::PoolReturning => "pool_returning",
            Self::TransitionStarted => "transition_started",
            Self::TransitionFinished => "transition_finished",
            Self::FlowsUnrecorded => "flows_unrecorded",
            Self::FlowsRecorded => "flows_recorded",
            Self::PortsScarce => "ports_scarce",
            Self::PortsPlenty => "ports_plenty",
            Self::NextHopLost => "next_hop_lost",
            Self::NextHopFound => "next_hop_found",
            Self::PathNarrow => "path_narrow",
            Self::PathWide => "path_wide",
            Self::CertificateExpires => "certificate_expires",
            Self::CertificateValid => "certificate_valid",
            Self::Unreachable => "unreachable",
            Self::Frozen => "frozen",
            Self::Thawed => "thawed",
            Self::Panic => "panic",
            Self::PanicOver => "panic_over",
            Self::LocalFault => "local_fault",
            Self::HostUnfit => "host_unfit",
            Self::HostFits => "host_fits",
            Self::Repaired => "repaired",
            Self::Lagged => "lagged",
        }
    }

    /// Whether an operator should look at it.
    fn needs_attention(self) -> bool {
        match self {
            Self::ConfigRefused
            | Self::ConfigUndone
            | Self::BackendDown
            | Self::BackendUnknown
            | Self::PoolLeft
            | Self::FlowsUnrecorded
            | Self::PortsScarce
            | Self::NextHopLost
            | Self::PathNarrow
            | Self::CertificateExpires
            | Self::Unreachable
            | Self::Frozen
            | Self::Panic
            | Self::LocalFault
            | Self::HostUnfit
            | Self::Repaired => true,
            Self::DaemonStarted
            | Self::DaemonStopped
            | Self::Adopted
            | Self::ConfigApplied
            | Self::ConfigConfirmed
            | Self::ConfigGood
            | Self::Attached
            | Self::Detached
            | Self::BackendUp
            | Self::BackendDrained
            | Self::BackendEnabled
            | Self::BackendDisabled
            | Self::HealthForced
            | Self::HealthAuto
            | Self::WeightChanged
            | Self::Failover
            | Self::Failback
            | Self::PoolEvacuated
            | Self::EvacuationOver
            | Self::PoolReturned
            | Self::PoolReturning
            | Self::TransitionStarted
            | Self::TransitionFinished
            | Self::FlowsRecorded
            | Self::PortsPlenty
            | Self::NextHopFound
            | Self::PathWide
            | Self::CertificateValid
            | Self::HostFits
            | Self::Thawed
            | Self::PanicOver
            | Self::Lagged => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Milliseconds since 1970, UTC, by the wall clock.
    pub(crate) at: u64,
    pub(crate) kind: EventKind,
    /// What it happened to: a backend, a service, a file, an interface.
    pub(crate) subject: String,
    pub(crate) message: String,
    /// The services that it is about, if it is about several: the first [`NAMED`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) services: Vec<String>,
    /// Flows that had started by then since the maps were made, of all services, to the second; absent where nobody has counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) flows: Option<u64>,
}

/// The daemon's events. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    inner: Arc<Mutex<Ring>>,
}

#[derive(Debug)]
struct Ring {
    kept: VecDeque<Event>,
    /// How many were reported.
    count: u64,
    /// Flows that have started, as of when they were counted last.
    flows: Option<u64>,
    subscribers: broadcast::Sender<Event>,
}

impl Events {
    pub(crate) fn new() -> Self {
        let (subscribers, _) = broadcast::channel(KEPT);
        let kept = VecDeque::with_capacity(KEPT);
        Self { inner: Arc::new(Mutex::new(Ring { kept, count: 0, flows: None, subscribers })) }
    }

    /// Goes on after those of an earlier daemon.
    pub(crate) fn after(earlier: Vec<Event>) -> Self {
        let events = Self::new();
        let more = earlier.len().saturating_sub(KEPT);
        events.lock().kept.extend(earlier.into_iter().skip(more));
        events
    }

    /// So many flows have started until now.
    pub(crate) fn count_flows(&self, flows: u64) {
        self.lock().flows = Some(flows);
    }

    /// Keeps an event, logs it and sends it to all subscribers.
    pub(crate) fn report(&self, kind: EventKind, subject: &str, message: impl Into<String>) {
        self.report_for(kind, subject, message, &[]);
    }

    /// The same for what has one cause and concerns several services.
    pub(crate) fn report_for(&self, kind: EventKind, subject: &str, message: impl Into<String>, services: &[&str]) {
        let message = message.into();
        // The journal shows the message alone, and has the others as fields to search by.
        if kind.needs_attention() {
            warn!(kind = kind.name(), subject, "{subject}: {message}");
        } else {
            info!(kind = kind.name(), subject, "{subject}: {message}");
        }
        let services = services.iter().take(NAMED).map(|&name| name.to_owned()).collect();
        let mut ring = self.lock();
        let event = Event { at: unix_ms(), kind, subject: subject.to_owned(), message, services, flows: ring.flows };
        ring.count += 1;
        if ring.kept.len() == KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(event.clone());
        // No subscriber is no failure.
        let _ = ring.subscribers.send(event);
    }

    /// Those that are kept, oldest first.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> Vec<Event> {
        self.last(KEPT)
    }

    /// The last so many, oldest first.
    pub(crate) fn last(&self, count: usize) -> Vec<Event> {
        let ring = self.lock();
        ring.kept.iter().skip(ring.kept.len().saturating_sub(count)).cloned().collect()
    }

    /// Those that were reported after the first `seen`, as far as they are kept, and how many were reported by now.
    pub(crate) fn since(&self, seen: u64) -> (Vec<Event>, u64) {
        let ring = self.lock();
        let new = usize::try_from(ring.count.saturating_sub(seen)).unwrap_or(usize::MAX);
        (ring.kept.iter().skip(ring.kept.len().saturating_sub(new)).cloned().collect(), ring.count)
    }

    /// Those that are kept, and a channel that goes on exactly after them.
    pub(crate) fn subscribe(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let ring = self.lock();
        (ring.kept.iter().cloned().collect(), ring.subscribers.subscribe())
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // Nothing in here is left half done by a panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The event for a subscriber that has lost `count` events.
pub(crate) fn lagged(count: u64) -> Event {
    Event {
        at: unix_ms(),
        kind: EventKind::Lagged,
        subject: "events".to_owned(),
        message: format!("{count} events were lost: they came faster than the subscriber read them"),
        services: Vec::new(),
        flows: None,
    }
}

/// The wall clock, milliseconds since 1970. For people to read; nothing is decided by it.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_event_makes_room() {
        let events = Events::new();
        for number in 0..=KEPT {
            events.report(EventKind::BackendUp, &format!("a/{number}"), "");
        }
        let kept = events.kept();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[0].subject, "a/1");
    }

    #[test]
    fn the_documentation_has_the_names_of_all_kinds() {
        let (_, table) = include_str!("../../../docs/cli.md").split_once("## Events").expect("a section on events");
        let kinds = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
        let mut documented = 0;
        for name in kinds.flat_map(|cell| cell.split('`').step_by(2)).filter(|name| !name.trim().is_empty()) {
            let kind: EventKind = serde_json::from_value(name.into()).expect("a kind of event");
            assert_eq!(kind.name(), name);
            documented += 1;
        }
        assert_eq!(documented, EventKind::Lagged as usize + 1);
    }

    #[tokio::test]
    async fn a_subscriber_gets_what_is_kept_and_then_what_comes_each_once() {
        let events = Events::new();
        events.report(EventKind::DaemonStarted, "edge-ctl", "started");
        let (kept, mut coming) = events.subscribe();
        events.report(EventKind::BackendDown, "a/1", "connection refused");
        assert_eq!(kept.len(), 1);
        assert_eq!(coming.recv().await.unwrap().subject, "a/1");
        assert!(coming.try_recv().is_err());
    }

    #[test]
    fn json_names_are_the_names() {
        for kind in [
            EventKind::DaemonStarted,
            EventKind::BackendDown,
            EventKind::NextHopFound,
            EventKind::PoolReturned,
            EventKind::TransitionStarted,
            EventKind::Lagged,
        ] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.name()));
        }
    }
}
