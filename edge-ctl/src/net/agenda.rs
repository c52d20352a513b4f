//! What the watch does next, and when.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What is to be done at a later time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// Compare next hops with what was published.
    Evaluate,
    /// Look the routes up first.
    Lookups,
    /// Read everything first.
    Everything,
}

/// The work that is due, and when.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    due: Option<(Instant, Work)>,
    /// When to look routes up once more after a change.
    pub(super) repeat: Option<Instant>,
    /// Not before this, for work that looks routes up.
    pub(super) rest_until: Option<Instant>,
}

impl Agenda {
    /// Adds `work`, `after` from now at the latest; what is due earlier stays due then.
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

    /// Forgets what [`Self::wait`] returned, and what the same work does along with it.
    pub(super) fn done(&mut self) {
        let now = Instant::now();
        self.due = self.due.filter(|(at, _)| *at > now);
        self.repeat = self.repeat.filter(|at| *at > now);
    }
}
