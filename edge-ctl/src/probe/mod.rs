//! Probes: health checks of backends, at a constant rate.
//!
//! Constant work: a probe starts one interval (give or take the jitter) after the start of the previous one, whatever
//! the result. A look without a good answer is followed by others sooner, but all of these together add at most a tenth
//! to the steady rate ([`pace`]). If everything fails at once, this host is hardly busier than if all is well.

#![deny(clippy::wildcard_enum_match_arm)]

pub(crate) mod child;
mod classify;
mod carrier;
mod dial;
mod kinds;
mod pace;
mod look;
mod quick;
mod ports;
mod prober;
mod second_look;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use edge_common::abi::BackendNumber;
use tokio::{
    sync::{Notify, Semaphore, mpsc::Sender},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    config::{Probe, ProbeKind, ProbeThrough},
    health::Verdict,
    net::Destination,
};

pub(crate) use self::{
    carrier::{Carrier, ProbeFlow, ProbeTable},
    dial::{Network, Through},
};
use self::{
    kinds::{PreparedProbe, Roots},
    pace::Allowance,
    prober::Prober,
};

/// The subject of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Backend(BackendNumber),
    /// The reference target at this position.
    Reference(usize),
}

/// A subject, and how to probe it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProbeTarget {
    pub(crate) subject: Subject,
    /// Subjects with the same destination have the same route.
    pub(crate) destination: Destination,
    pub(crate) probe: Probe,
    /// Services through which the subject is probed; a probe passes if it passes through all of them. If empty, the own
    /// address is probed.
    pub(crate) through: Vec<Through>,
    /// Whether the packet path translates the answers to clients: then it has to see where they arrive.
    pub(crate) translated: bool,
}

impl ProbeTarget {
    /// A reference target, which counts as answering if it accepts or refuses a connection.
    pub(crate) fn reference(position: usize, target: SocketAddr) -> Self {
        let probe = Probe {
            kind: ProbeKind::Tcp,
            through: ProbeThrough::Address,
            port: target.port(),
            interval: Duration::from_secs(1),
            fast_interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            rise: 1,
            fall: 1,
            jitter: 0.1,
        };
        Self {
            subject: Subject::Reference(position),
            destination: Destination::of(target.ip()),
            probe,
            through: Vec::new(),
            translated: false,
        }
    }
}

/// Result of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) subject: Subject,
    pub(crate) verdict: Verdict,
    /// End of validity of the last certificate seen, in seconds since 1970; `None` if none was seen.
    pub(crate) certificate_end: Option<i64>,
    /// Time from the first packet to the answer, or to the last one; `None` unless the probe has passed by an answer.
    pub(crate) took: Option<Duration>,
    /// Whether the backend answers at its own address, while probes through a service fail.
    pub(crate) answers_at_address: bool,
}

/// Running probes; dropping this ends them, including those in flight.
#[derive(Debug)]
#[must_use = "dropping the engine ends its probes"]
pub(crate) struct ProbeEngine {
    reports: Sender<Report>,
    limits: Limits,
    roots: Arc<Roots>,
    network: Network,
    /// Running probes by destination.
    tasks: BTreeMap<Destination, Vec<Running>>,
}

/// Limits that all probes share.
#[derive(Clone, Debug)]
struct Limits {
    /// Permits for file descriptors; each look acquires the maximum number that it needs.
    descriptors: Arc<Semaphore>,
    /// Number of all these permits.
    most: usize,
    /// Whether a look was left out for want of descriptors.
    is_short: Arc<AtomicBool>,
    allowance: Arc<Mutex<Allowance>>,
    /// The quick looks at suspects.
    quick: Arc<Mutex<Allowance>>,
}

/// Probes were left out, since all file descriptors for them were in use.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "probes are late: they need more than the {most} file descriptors that this process has for them; raise its limit \
     (LimitNOFILE= in a unit, `ulimit -n`)"
)]
pub(crate) struct Shortage {
    most: usize,
}

/// One probe, shared by all pools with the destination: a backend with more services must not be probed more often.
#[derive(Debug)]
struct Running {
    probe: Probe,
    through: Vec<Through>,
    translated: bool,
    audience: Audience,
    /// Has the target looked at at once.
    suspected: Arc<Notify>,
    #[cfg_attr(not(test), expect(dead_code, reason = "it is held so that its end ends the probe"))]
    task: Task,
}

/// A probe of a destination, its services, whether answers are translated, and its subjects.
type Wanted = (Probe, Vec<Through>, bool, Subjects);

/// The present subjects of a probe.
type Audience = Arc<Mutex<Subjects>>;

#[derive(Debug, Default)]
struct Subjects {
    all: Vec<Subject>,
    /// The largest `fall` of any of these subjects.
    fall: u32,
}

/// A task that is aborted on drop.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ProbeEngine {
    /// An engine without targets.
    pub(crate) fn new(reports: Sender<Report>, descriptors: Arc<Semaphore>, network: Network) -> Self {
        let allowance = Arc::new(Mutex::new(Allowance::new(Instant::now())));
        let quick = Arc::new(Mutex::new(quick::allowance(Instant::now())));
        let most = descriptors.available_permits();
        let limits = Limits { most, descriptors, is_short: Arc::default(), allowance, quick };
        Self { reports, limits, roots: Arc::default(), network, tasks: BTreeMap::new() }
    }

    /// The number of file descriptors that probes share, if looks were left out since the last call because all were in
    /// use.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        self.limits.is_short.swap(false, Ordering::Relaxed).then_some(Shortage { most: self.limits.most })
    }

    /// Probes `targets` inside the current tokio runtime, with one task for all targets that have the same destination
    /// and are probed in the same way. Existing probes continue their schedules; the first looks of new ones are spread
    /// evenly over the interval. A task ends when the receiver of the reports is dropped.
    pub(crate) fn probe(&mut self, targets: Vec<ProbeTarget>) {
        let mut before = std::mem::take(&mut self.tasks);
        let mut wanted: BTreeMap<Destination, Vec<Wanted>> = BTreeMap::new();
        for ProbeTarget { subject, destination, probe, through, translated } in targets {
            let probes = wanted.entry(destination).or_default();
            let is_it = |(known, by, is_translated, _): &&mut Wanted| {
                is_same(known, &probe) && *by == through && *is_translated == translated
            };
            if let Some((.., subjects)) = probes.iter_mut().find(is_it) {
                subjects.all.push(subject);
                subjects.fall = subjects.fall.max(probe.fall);
            } else {
                let fall = probe.fall;
                probes.push((probe, through, translated, Subjects { all: vec![subject], fall }));
            }
        }
        let count = wanted.values().map(Vec::len).sum::<usize>().max(1);
        let started = Instant::now();
        self.roots.read_again();
        let steady = wanted.values().flatten().map(|(probe, ..)| probe.interval.as_secs_f64().recip()).sum();
        lock(&self.limits.allowance).resize(count, steady, started);
        let all = wanted.into_iter().flat_map(|(to, probes)| probes.into_iter().map(move |probe| (to, probe)));
        for (position, (to, (probe, through, translated, wanted))) in all.enumerate() {
            let address = to.address;
            let running = before.get_mut(&to).and_then(|running| {
                let is_it = |known: &Running| {
                    is_same(&known.probe, &probe) && known.through == through && known.translated == translated
                };
                let known = running.iter().position(is_it)?;
                Some(running.swap_remove(known))
            });
            let running = running.unwrap_or_else(|| {
                let first = started + spread(probe.interval, position, count);
                let (audience, suspected) = (Audience::default(), Arc::new(Notify::new()));
                let prober = Prober {
                    address,
                    kind: Arc::new(PreparedProbe::new(address, probe.clone(), Arc::clone(&self.roots))),
                    through: through.clone(),
                    translated,
                    audience: Arc::clone(&audience),
                    network: self.network.clone(),
                    limits: self.limits.clone(),
                    suspected: Arc::clone(&suspected),
                };
                let task = Task(tokio::spawn(prober.run(first, self.reports.clone())));
                Running { probe, through, translated, audience, suspected, task }
            });
            *lock(&running.audience) = wanted;
            self.tasks.entry(to).or_default().push(running);
        }
    }

    /// Has these backends looked at at once, several times and with a short timeout, in addition to their schedule.
    pub(crate) fn look_at_once(&self, backends: &BTreeSet<BackendNumber>) {
        for running in self.tasks.values().flatten() {
            let is_one = |subject: &Subject| matches!(subject, Subject::Backend(backend) if backends.contains(backend));
            if lock(&running.audience).all.iter().any(is_one) {
                running.suspected.notify_one();
            }
        }
    }

    /// Number of probed subjects.
    #[cfg(test)]
    pub(crate) fn targets(&self) -> usize {
        self.tasks.values().flatten().map(|running| lock(&running.audience).all.len()).sum()
    }
}

/// Whether two probes of a destination are equal apart from how their results are counted.
fn is_same(one: &Probe, other: &Probe) -> bool {
    *one == Probe { rise: one.rise, fall: one.fall, ..other.clone() }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves nothing in here in an inconsistent state.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Delay before the first look of the target at `position` of `count`: a random point in its own share of the interval.
#[expect(clippy::cast_precision_loss, reason = "a count of backends is far below 2^52")]
fn spread(interval: Duration, position: usize, count: usize) -> Duration {
    interval.mul_f64((position as f64 + rand::random::<f64>()) / count as f64)
}

/// Time between the starts of two probes: the interval with its jitter. Never less than the timeout, so that there is
/// time for the slowest answer, and equal for all answers: the rate does not depend on the health.
fn gap(probe: &Probe, random: f64) -> Duration {
    let factor = 1.0 + probe.jitter * (2.0 * random - 1.0);
    // The configuration limits the jitter to 0 to 0.5; an invalid duration must not panic all the same.
    let gap = Duration::try_from_secs_f64(probe.interval.as_secs_f64() * factor).unwrap_or(probe.interval);
    gap.max(probe.timeout)
}
