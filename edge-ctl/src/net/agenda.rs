//! The watch's schedule of work.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Work for a later time, each kind including the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// Compare next hops with the published ones.
    Evaluate,
    /// Look up all routes, then evaluate.
    Lookups,
    /// Read all tables, then look up and evaluate.
    Everything,
}

/// The scheduled work.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    due: Option<(Instant, Work)>,
    /// When to look up routes once more after a change.
    pub(super) repeat: Option<Instant>,
    /// Earliest time for work that looks up routes.
    pub(super) rest_until: Option<Instant>,
}

impl Agenda {
    /// Adds `work`, to be done `after` from now at the latest; work that is due earlier keeps its time.
    pub(super) fn add(&mut self, work: Work, after: Duration) {
        let now = Instant::now();
        let mut at = now + after;
        if work > Work::Evaluate {
            at = at.max(self.rest_until.unwrap_or(now));
        }
        self.due = Some(match self.due {
            None => (at, work),
            Some((earlier, other)) => (earlier.min(at), other.max(work)),
        });
    }

    pub(super) async fn wait(&self) -> Work {
        let Some((at, work)) = self.next() else { return std::future::pending().await };
        sleep_until(at).await;
        work
    }

    fn next(&self) -> Option<(Instant, Work)> {
        self.due.into_iter().chain(self.repeat.map(|at| (at, Work::Lookups))).min()
    }

    /// Removes the work that [`Self::wait`] returned, and any that it includes.
    pub(super) fn done(&mut self) {
        let now = Instant::now();
        self.due = self.due.filter(|(at, _)| *at > now);
        self.repeat = self.repeat.filter(|at| *at > now);
    }
}
