//! Thousands of TCP connections from one host of the lab, and the result of each.

pub mod addresses;
pub mod broken;
pub mod signature;
mod connection;
mod long;
mod fresh;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{runtime, task::LocalSet};

pub use self::broken::{Broken, How};
use crate::lab::{netns::Netns, topology::Backend, worker::Worker};

/// How long a handshake or an answer may take before the connection counts as broken. A SYN is retransmitted after 1,
/// 3, 7 and 15 s, so that a SYN to a dying backend gets a second chance.
pub const PATIENCE: Duration = Duration::from_secs(18);

/// The connections to make.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Source addresses, used in turn.
    pub from: Vec<IpAddr>,
    /// Services, used in turn; services of another IP version than the source address are skipped.
    pub to: Vec<SocketAddr>,
    pub kind: Pattern,
}

#[derive(Clone, Copy, Debug)]
pub enum Pattern {
    /// Long-lived connections, each with a request every `pace`; a broken connection is replaced.
    Long { connections: usize, pace: Duration },
    /// Connections that end with their first answer. The server closes first, so that no port of the client stays in
    /// `TIME_WAIT`.
    New { per_second: u32 },
}

impl Plan {
    /// Source and destination of connection `number`. All pairs are equally frequent if the numbers of addresses and of
    /// services of an IP version have no common divisor, and nearly so if they do.
    fn ends(&self, number: usize) -> Option<(IpAddr, SocketAddr)> {
        let to = *self.to.get(number % self.to.len().max(1))?;
        let mut from = self.from.iter().filter(|from| from.is_ipv4() == to.is_ipv4()).cycle();
        // Each pass over the services uses the next address.
        let turn = number / self.to.len() % self.from.len().max(1);
        Some((*from.nth(turn)?, to))
    }
}

/// The results so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Completed handshakes.
    pub opened: u64,
    /// Currently open connections.
    pub open: u64,
    /// Answered requests, in total and by the backend of the connection.
    pub answers: u64,
    pub served: BTreeMap<String, u64>,
    /// Connections that were due, but not made because too many others were open.
    pub held: u64,
    pub broken: Vec<Broken>,
}

impl Tally {
    /// Adds the results of another tally.
    pub fn add(&mut self, other: Self) {
        self.opened += other.opened;
        self.open += other.open;
        self.answers += other.answers;
        self.held += other.held;
        for (backend, count) in other.served {
            *self.served.entry(backend).or_default() += count;
        }
        self.broken.extend(other.broken);
    }

    fn answered(&mut self, backend: Backend) {
        self.answers += 1;
        *self.served.entry(backend.to_string()).or_default() += 1;
    }
}

/// Running connections. A drop also ends them; [`Flows::stop`] returns the results as well.
#[derive(Debug)]
pub struct Flows {
    tally: Arc<Mutex<Tally>>,
    worker: Worker,
}

/// State that the tasks of one [`Flows`] share.
#[derive(Clone)]
struct Shared {
    plan: Arc<Plan>,
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn note<T>(&self, what: impl FnOnce(&mut Tally) -> T) -> T {
        what(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Flows {
    /// Starts `plan` on a thread in `netns`. The backends must be [signed](signature::sign).
    pub fn start(netns: &Netns, plan: Plan) -> Result<Self> {
        more_files()?;
        let shared = Shared { plan: Arc::new(plan), stop: Arc::default(), tally: Arc::default() };
        let (stop, tally) = (Arc::clone(&shared.stop), Arc::clone(&shared.tally));
        let thread = netns.spawn(move || -> Result<()> {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, async {
                match shared.plan.kind {
                    Pattern::Long { connections, pace } => long::run(&shared, connections, pace).await,
                    Pattern::New { per_second } => fresh::run(&shared, per_second).await,
                }
            });
            Ok(())
        })?;
        Ok(Self { tally, worker: Worker::new(stop, thread) })
    }

    /// The results so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for requests in flight, and closes all connections; returns the results.
    pub fn stop(mut self) -> Result<Tally> {
        self.worker.stop()?;
        Ok(self.tally())
    }
}

/// Raises this process's limit of open files to the maximum: the usual default of 1,024 is less than the connections.
fn more_files() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("could not raise the number of open files")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ends_are_of_one_family_and_all_are_used() {
        let addresses = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let to = addresses(&["192.0.2.1", "2001:db8::1", "192.0.2.2"]).into_iter().map(|vip| (vip, 80).into());
        let from = addresses(&["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]);
        let plan = Plan { from, to: to.collect(), kind: Pattern::New { per_second: 1 } };
        let ends: BTreeSet<_> = (0..12).map(|number| plan.ends(number).unwrap()).collect();
        assert_eq!(ends.len(), 6);
        assert!(ends.iter().all(|(from, to)| from.is_ipv4() == to.is_ipv4()));
    }
}
