//! The daemon's events: the last thousand, and a channel for subscribers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tracing::{info, warn};

pub(crate) use crate::event_kind::EventKind;

/// Events kept in memory, and how far a slow subscriber may fall behind.
pub(crate) const KEPT: usize = 1000;

/// Most services listed in an event.
const NAMED: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Milliseconds since 1970, UTC, by the wall clock.
    pub(crate) at: u64,
    pub(crate) kind: EventKind,
    /// Subject of the event: a backend, a service, a file, an interface.
    pub(crate) subject: String,
    pub(crate) message: String,
    /// The services concerned, if there are several: the first [`NAMED`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) services: Vec<String>,
    /// New flows of all services since the maps were made, to the second; absent if they were not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) flows: Option<u64>,
}

/// The daemon's events. Clones share one store.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    inner: Arc<Mutex<Ring>>,
}

#[derive(Debug)]
struct Ring {
    kept: VecDeque<Event>,
    /// Number of events reported so far.
    count: u64,
    /// Number of new flows, as of the last count.
    flows: Option<u64>,
    subscribers: broadcast::Sender<Event>,
}

impl Events {
    pub(crate) fn new() -> Self {
        let (subscribers, _) = broadcast::channel(KEPT);
        let kept = VecDeque::with_capacity(KEPT);
        Self { inner: Arc::new(Mutex::new(Ring { kept, count: 0, flows: None, subscribers })) }
    }

    /// Puts the events of an earlier daemon before this one's, as far as there is room.
    pub(crate) fn precede(&self, earlier: Vec<Event>) {
        let mut ring = self.lock();
        let room = KEPT.saturating_sub(ring.kept.len());
        earlier.into_iter().rev().take(room).for_each(|event| ring.kept.push_front(event));
    }

    /// Sets the number of new flows so far.
    pub(crate) fn count_flows(&self, flows: u64) {
        self.lock().flows = Some(flows);
    }

    /// Keeps an event, logs it and sends it to all subscribers.
    pub(crate) fn report(&self, kind: EventKind, subject: &str, message: impl Into<String>) {
        self.report_for(kind, subject, message, &[]);
    }

    /// Reports one event that concerns several services, as [`report`](Self::report) does.
    pub(crate) fn report_for(&self, kind: EventKind, subject: &str, message: impl Into<String>, services: &[&str]) {
        let message = message.into();
        // The journal shows the message; kind and subject are also fields to search by.
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
        // Sending fails without subscribers, which is no error.
        let _ = ring.subscribers.send(event);
    }

    /// The kept events, oldest first.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> Vec<Event> {
        self.last(KEPT)
    }

    /// The last `count` events, oldest first.
    pub(crate) fn last(&self, count: usize) -> Vec<Event> {
        let ring = self.lock();
        ring.kept.iter().skip(ring.kept.len().saturating_sub(count)).cloned().collect()
    }

    /// The kept events after the first `seen`, and the number of events reported so far.
    pub(crate) fn since(&self, seen: u64) -> (Vec<Event>, u64) {
        let ring = self.lock();
        let new = usize::try_from(ring.count.saturating_sub(seen)).unwrap_or(usize::MAX);
        (ring.kept.iter().skip(ring.kept.len().saturating_sub(new)).cloned().collect(), ring.count)
    }

    /// The kept events, and a channel that continues directly after them.
    pub(crate) fn subscribe(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let ring = self.lock();
        (ring.kept.iter().cloned().collect(), ring.subscribers.subscribe())
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // A panic leaves nothing half done in this store.
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

/// The wall clock, milliseconds since 1970. For display only; no decision depends on it.
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
        assert_eq!(documented, EventKind::ALL.len());
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
}
