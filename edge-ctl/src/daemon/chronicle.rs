//! Stores events on the disk, in a thread of its own, so that a hanging disk delays nothing, and only events are lost.

use std::{
    path::Path,
    sync::mpsc::{self, RecvTimeoutError, SyncSender},
    thread,
    time::Duration,
};

use crate::control::{
    events::{Event, Events},
    kept,
};

/// Most batches that wait for the disk; later events stay in memory.
const WAITING: usize = 4;

/// The writing thread, which ends when this value is dropped.
#[derive(Debug)]
pub(super) struct Chronicle {
    batches: SyncSender<Batch>,
    /// Number of events that were handed over.
    seen: u64,
}

#[derive(Debug)]
struct Batch {
    events: Vec<Event>,
    done: Option<SyncSender<()>>,
}

impl Chronicle {
    /// Starts the thread. It first puts the events of earlier daemons before those in `events`, so that a slow disk does not
    /// delay a start.
    pub(super) fn start(directory: &Path, events: &Events) -> Self {
        let events = events.clone();
        let (batches, coming) = mpsc::sync_channel::<Batch>(WAITING);
        let directory = directory.to_owned();
        thread::spawn(move || {
            match kept::load_events(&directory) {
                Ok(earlier) => events.precede(earlier),
                Err(error) => {
                    tracing::warn!(%error, directory = %directory.display(), "events from before cannot be read");
                }
            }
            let mut failed: Option<String> = None;
            for Batch { events, done } in coming {
                let why = kept::append_events(&directory, &events).err().map(|error| error.to_string());
                // If the disk is at fault, the state beside the events has raised an alarm already.
                if let Some(why) = why.as_ref().filter(|why| failed.as_ref() != Some(*why)) {
                    tracing::warn!(%why, directory = %directory.display(), "events are not kept over a restart");
                }
                failed = why;
                if let Some(done) = done {
                    let _nobody_waits = done.try_send(());
                }
            }
        });
        Self { batches, seen: 0 }
    }

    /// Hands over the events since the last call. Never waits.
    pub(super) fn keep(&mut self, events: &Events) {
        let (new, seen) = events.since(self.seen);
        if !new.is_empty() && self.batches.try_send(Batch { events: new, done: None }).is_ok() {
            self.seen = seen;
        }
    }

    /// Hands over the last events, and waits until they are written, for `limit` at most.
    pub(super) fn keep_at_last(&mut self, events: &Events, limit: Duration) {
        let (new, seen) = events.since(self.seen);
        let (done, written) = mpsc::sync_channel(1);
        if self.batches.try_send(Batch { events: new, done: Some(done) }).is_ok() {
            self.seen = seen;
            match written.recv_timeout(limit) {
                Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::events::EventKind;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn events_outlive_the_daemon_each_once() {
        let directory = tempfile::tempdir().unwrap();
        let events = Events::new();
        let mut chronicle = Chronicle::start(directory.path(), &events);
        for number in 0..3 {
            events.report(EventKind::BackendDown, &format!("a/{number}"), "no answer");
            chronicle.keep(&events);
        }
        events.report(EventKind::DaemonStopped, "edge-ctl", "the end");
        chronicle.keep_at_last(&events, PATIENCE);
        let kept = kept::load_events(directory.path()).unwrap();
        assert_eq!(kept, events.last(10));

        // The next one has them before its own, which it alone adds.
        let events = Events::new();
        events.report(EventKind::DaemonStarted, "edge-ctl", "again");
        let mut chronicle = Chronicle::start(directory.path(), &events);
        chronicle.keep_at_last(&events, PATIENCE);
        let now = kept::load_events(directory.path()).unwrap();
        assert_eq!((now.len(), &now[..4], &now), (5, &kept[..], &events.last(10)));
    }

    #[test]
    fn a_disk_that_does_not_answer_delays_no_start() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("events.jsonl");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let events = Events::new();
        let mut chronicle = Chronicle::start(directory.path(), &events);
        events.report(EventKind::DaemonStarted, "edge-ctl", "at once");
        chronicle.keep(&events);
        assert_eq!(events.last(10).len(), 1);
    }
}
