//! Probes: health checks of backends, at a constant rate.
//!
//! Constant work: a probe starts one interval (give or take the jitter) after the one before it started, after any
//! answer. When everything fails at once, this host is no busier than when all is well.

#![deny(clippy::wildcard_enum_match_arm)]

mod classify;
mod carrier;
mod dial;
mod exchange;
mod prober;
mod second_look;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use edge_common::abi::BackendNumber;
use tokio::{
    sync::{Semaphore, mpsc::Sender},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    config::{Probe, ProbeKind, ProbeThrough},
    health::Verdict,
};

use self::prober::Prober;
pub(crate) use self::{
    carrier::{Carrier, ProbeFlow, ProbeTable, Ways},
    dial::{Network, Through},
};

/// Who is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Backend(BackendNumber),
    /// The reference target at this position.
    Reference(usize),
}

/// Whom to probe, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProbeTarget {
    pub(crate) subject: Subject,
    pub(crate) address: IpAddr,
    pub(crate) probe: Probe,
    /// Services through which it is probed; a probe passes when it does through all of them. None: its own address is.
    pub(crate) through: Vec<Through>,
}

impl ProbeTarget {
    /// A reference target, which answers if it takes a connection, or refuses it.
    pub(crate) fn reference(position: usize, target: SocketAddr) -> Self {
        let probe = Probe {
            kind: ProbeKind::Tcp,
            through: ProbeThrough::Address,
            port: target.port(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            rise: 1,
            fall: 1,
            jitter: 0.1,
        };
        Self { subject: Subject::Reference(position), address: target.ip(), probe, through: Vec::new() }
    }
}

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) subject: Subject,
    pub(crate) verdict: Verdict,
}

/// Running probes; dropping it ends them, those in flight as well.
#[derive(Debug)]
#[must_use = "dropping the engine ends its probes"]
pub(crate) struct ProbeEngine {
    reports: Sender<Report>,
    /// Each probe takes one.
    descriptors: Arc<Semaphore>,
    network: Network,
    /// By the address.
    tasks: BTreeMap<IpAddr, Vec<Running>>,
}

/// One probe, however many pools have the address: a backend must not be probed more often the more services it has.
#[derive(Debug)]
struct Running {
    probe: Probe,
    through: Vec<Through>,
    subjects: Subjects,
    #[cfg_attr(not(test), expect(dead_code, reason = "it is held so that its end ends the probe"))]
    task: Task,
}

/// A probe of an address, through which services, and for whom.
type Wanted = (Probe, Vec<Through>, Vec<Subject>);

/// Whom a probe is made for, at the moment.
type Subjects = Arc<Mutex<Vec<Subject>>>;

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
    pub(crate) fn new(reports: Sender<Report>, descriptors: Arc<Semaphore>, network: Network) -> Self {
        Self { reports, descriptors, network, tasks: BTreeMap::new() }
    }

    /// Probes `targets` inside the current tokio runtime, one task for all that have the same address and are probed in the
    /// same way. Those that are probed already go on with their schedules; the first probes of the others are spread evenly
    /// over the interval. A task ends when the receiver of the reports is dropped.
    pub(crate) fn probe(&mut self, targets: Vec<ProbeTarget>) {
        let mut before = std::mem::take(&mut self.tasks);
        let mut wanted: BTreeMap<IpAddr, Vec<Wanted>> = BTreeMap::new();
        for ProbeTarget { subject, address, probe, through } in targets {
            let probes = wanted.entry(address).or_default();
            match probes.iter_mut().find(|(known, by, _)| is_same(known, &probe) && *by == through) {
                Some((.., subjects)) => subjects.push(subject),
                None => probes.push((probe, through, vec![subject])),
            }
        }
        let count = wanted.values().map(Vec::len).sum::<usize>().max(1);
        let started = Instant::now();
        let all =
            wanted.into_iter().flat_map(|(address, probes)| probes.into_iter().map(move |probe| (address, probe)));
        for (position, (address, (probe, through, wanted))) in all.enumerate() {
            let running = before.get_mut(&address).and_then(|running| {
                let is_it = |known: &Running| is_same(&known.probe, &probe) && known.through == through;
                let known = running.iter().position(is_it)?;
                Some(running.swap_remove(known))
            });
            let running = running.unwrap_or_else(|| {
                let first = started + spread(probe.interval, position, count);
                let subjects = Subjects::default();
                let prober = Prober {
                    address,
                    probe: probe.clone(),
                    through: through.clone(),
                    subjects: Arc::clone(&subjects),
                    network: self.network.clone(),
                    descriptors: Arc::clone(&self.descriptors),
                };
                let task = Task(tokio::spawn(prober.run(first, self.reports.clone())));
                Running { probe, through, subjects, task }
            });
            *lock(&running.subjects) = wanted;
            self.tasks.entry(address).or_default().push(running);
        }
    }

    /// How many backends are probed.
    #[cfg(test)]
    pub(crate) fn targets(&self) -> usize {
        self.tasks.values().flatten().map(|running| lock(&running.subjects).len()).sum()
    }
}

/// Whether two probes of an address are the same but for how their results are counted.
fn is_same(one: &Probe, other: &Probe) -> bool {
    *one == Probe { rise: one.rise, fall: one.fall, ..other.clone() }
}

fn lock(subjects: &Subjects) -> MutexGuard<'_, Vec<Subject>> {
    // Nothing in here is left half done by a panic.
    subjects.lock().unwrap_or_else(PoisonError::into_inner)
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
