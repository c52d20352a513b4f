//! Probes: health checks of backends, at a constant rate.
//!
//! Constant work: a probe starts one interval (give or take the jitter) after the one before it started, after any
//! answer. When everything fails at once, this host is no busier than when all is well.

#![deny(clippy::wildcard_enum_match_arm)]

mod classify;
mod exchange;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use edge_common::abi::BackendNumber;
use tokio::{
    sync::{Semaphore, mpsc::Sender},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    config::{Probe, ProbeKind},
    health::Verdict,
};

/// A backend to probe.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProbeTarget {
    pub(crate) backend: BackendNumber,
    pub(crate) address: IpAddr,
    pub(crate) probe: Probe,
}

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) backend: BackendNumber,
    pub(crate) verdict: Verdict,
}

/// Running probes; dropping it ends them, those in flight as well.
#[derive(Debug)]
#[must_use = "dropping the engine ends its probes"]
pub(crate) struct ProbeEngine {
    reports: Sender<Report>,
    /// Each probe takes one.
    descriptors: Arc<Semaphore>,
    tasks: BTreeMap<BackendNumber, (ProbeTarget, Task)>,
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ProbeEngine {
    /// Without targets.
    pub(crate) fn new(reports: Sender<Report>, descriptors: Arc<Semaphore>) -> Self {
        Self { reports, descriptors, tasks: BTreeMap::new() }
    }

    /// Probes `targets`, one task each, inside the current tokio runtime. Those that are probed already, in the same way, go on
    /// with their schedules; the first probes of the others are spread evenly over the interval. A task ends when the
    /// receiver of the reports is dropped.
    pub(crate) fn probe(&mut self, targets: Vec<ProbeTarget>) {
        let mut before = std::mem::take(&mut self.tasks);
        let count = targets.len().max(1);
        let started = Instant::now();
        for (position, target) in targets.into_iter().enumerate() {
            let task = match before.remove(&target.backend) {
                Some((known, task)) if known == target => task,
                _ => {
                    let first = started + spread(target.probe.interval, position, count);
                    let run = run(target.clone(), first, self.reports.clone(), Arc::clone(&self.descriptors));
                    Task(tokio::spawn(run))
                }
            };
            self.tasks.insert(target.backend, (target, task));
        }
    }

    /// How many backends are probed.
    #[cfg(test)]
    pub(crate) fn targets(&self) -> usize {
        self.tasks.len()
    }
}

/// When the target at `position` of `count` starts within its first interval: at a random point of its own share.
#[expect(clippy::cast_precision_loss, reason = "a count of backends is far below 2^52")]
fn spread(interval: Duration, position: usize, count: usize) -> Duration {
    interval.mul_f64((position as f64 + rand::random::<f64>()) / count as f64)
}

/// From the start of one probe to the start of the next: the interval with its jitter. Never less than the timeout,
/// which leaves room for the slowest answer, and for any answer alike: the rate does not tell up from down.
fn gap(probe: &Probe, random: f64) -> Duration {
    let factor = 1.0 + probe.jitter * (2.0 * random - 1.0);
    // Configuration keeps the jitter within 0 and 0.5; what is no duration must not panic all the same.
    let gap = Duration::try_from_secs_f64(probe.interval.as_secs_f64() * factor).unwrap_or(probe.interval);
    gap.max(probe.timeout)
}

async fn run(target: ProbeTarget, first: Instant, reports: Sender<Report>, descriptors: Arc<Semaphore>) {
    let mut next = first;
    loop {
        sleep_until(next).await;
        // From now and not from `next`: after a standstill of this host the overdue probes are not caught up.
        next = Instant::now() + gap(&target.probe, rand::random());
        let verdict = match timeout(target.probe.timeout, descriptors.acquire()).await {
            Ok(_descriptor) => probe(&target).await,
            Err(_) => Verdict::Inconclusive("this process has too few file descriptors for its probes".to_owned()),
        };
        if reports.send(Report { backend: target.backend, verdict }).await.is_err() {
            return;
        }
    }
}

/// Makes one probe, which takes at most its timeout.
async fn probe(target: &ProbeTarget) -> Verdict {
    let limit = target.probe.timeout;
    let started = Instant::now();
    let exchange = async {
        match &target.probe.kind {
            ProbeKind::Tcp => exchange::tcp(target.address, target.probe.port).await,
            ProbeKind::Http { path, status, host } => {
                exchange::http(target.address, target.probe.port, path, host.as_deref(), status).await
            }
        }
    };
    match timeout(limit, exchange).await {
        Ok(verdict) => verdict,
        Err(_) => timed_out(limit, started.elapsed()),
    }
}

/// No answer within `limit`. When much more than that went by, it was this process that stood still (stopped, starved
/// of processor time) and not the backend that was silent.
fn timed_out(limit: Duration, elapsed: Duration) -> Verdict {
    let late = elapsed.saturating_sub(limit);
    if late > limit.max(Duration::from_millis(100)) {
        return Verdict::Inconclusive(format!("this host was late by {} ms", late.as_millis()));
    }
    Verdict::Fail(format!("no answer within {}", humantime::format_duration(limit)))
}
