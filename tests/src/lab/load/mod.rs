//! HTTP load from one host of the lab, and its results.

pub mod client;
pub mod ticks;
pub mod report;

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{runtime, task::LocalSet};

use crate::lab::{netns::Netns, worker::Worker};

/// How long a request may take before it counts as failed, unless a [`Manner`] sets another limit.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// One client that sends one request at a time.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    pub target: SocketAddr,
    pub reuse: Reuse,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reuse = match self.reuse {
            Reuse::KeepAlive => "one connection",
            Reuse::New => "new connections",
        };
        write!(f, "{} by {reuse}", self.target)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// All requests over one connection, which is replaced when it breaks.
    KeepAlive,
    /// A new connection for each request.
    New,
}

/// The schedule of a stream's requests, and their timeout.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub pace: Pace,
    /// How long a request may take before it counts as failed.
    pub patience: Duration,
}

/// The schedule of a stream's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// This long after the last request, and not before its answer.
    Answered(Duration),
    /// Due this long after the last request was due. A request that waits for the previous answer counts from its due
    /// time, so that no stall hides the requests that it delays.
    Due(Duration),
}

impl Pace {
    fn interval(self) -> Duration {
        match self {
            Self::Answered(interval) | Self::Due(interval) => interval,
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Record {
    /// Number of the stream; unique within a load.
    pub stream: usize,
    /// Time at which the request was sent, or due.
    pub start: Instant,
    pub end: Instant,
    /// The backend that answered, or the reason of the failure.
    pub outcome: Result<String, String>,
}

/// The records of all streams, in the order in which requests end.
type Log = Arc<Mutex<Vec<Record>>>;

/// Running load. A drop also stops the load; [`Load::stop`] returns the records as well.
#[derive(Debug)]
pub struct Load {
    log: Log,
    worker: Worker,
}

impl Load {
    /// Starts all `streams` on a thread in `netns`, each with at most one request per `pace`. Streams are numbered from
    /// `first` on.
    pub fn start(netns: &Netns, streams: &[Stream], first: usize, pace: Duration) -> Result<Self> {
        Self::with(netns, streams, first, Manner { pace: Pace::Answered(pace), patience: TIMEOUT })
    }

    /// Starts all `streams` on a thread in `netns`, with the schedule and the timeout of `manner`.
    pub fn with(netns: &Netns, streams: &[Stream], first: usize, manner: Manner) -> Result<Self> {
        let (stop, log) = (Arc::new(AtomicBool::new(false)), Log::default());
        let (streams, stopping, logging) = (streams.to_vec(), Arc::clone(&stop), Arc::clone(&log));
        let thread = netns.spawn(move || run(&streams, first, manner, &stopping, &logging))?;
        Ok(Self { log, worker: Worker::new(stop, thread) })
    }

    /// The records of requests that have ended so far.
    pub fn records(&self) -> Vec<Record> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for requests in flight; returns all records.
    pub fn stop(mut self) -> Result<Vec<Record>> {
        self.worker.stop()?;
        Ok(self.records())
    }
}

/// Stops all `loads`; returns their records.
pub fn stop(loads: Vec<Load>) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for load in loads {
        records.extend(load.stop()?);
    }
    Ok(records)
}

fn run(streams: &[Stream], first: usize, manner: Manner, stop: &Arc<AtomicBool>, log: &Log) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let tasks: Vec<_> = streams
            .iter()
            .enumerate()
            .map(|(index, stream)| {
                let (stream, stop, log) = (*stream, Arc::clone(stop), Arc::clone(log));
                // Spread over one interval: simultaneous streams would load the edge in bursts.
                let delay = manner.pace.interval().mul_f64(index_fraction(index, streams.len()));
                tokio::task::spawn_local(client::run(stream, first + index, manner, delay, stop, log))
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(())
    })
}

/// `index / count` of streams, both of which are small.
fn index_fraction(index: usize, count: usize) -> f64 {
    let small = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    small(index) / small(count.max(1))
}
