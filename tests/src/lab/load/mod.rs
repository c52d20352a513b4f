//! HTTP load from one host of the lab, and what came of it.

pub mod client;
pub mod ticks;
pub mod report;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{runtime, task::LocalSet};

use crate::lab::{netns::Netns, worker::Worker};

/// How long a request may take before it counts as failed, unless a [`Manner`] says something else.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// One client that asks for one thing after the other.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    pub target: SocketAddr,
    pub reuse: Reuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// All requests over one connection, and over a new one once that breaks.
    KeepAlive,
    /// A connection for each request.
    New,
}

/// When streams ask, and how long they wait for an answer.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub pace: Pace,
    /// How long a request may take before it counts as failed.
    pub patience: Duration,
}

/// When the next request of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// This long after the last one, and not before that is answered.
    Answered(Duration),
    /// Due this long after the last one was due. One that has to wait for an answer to the one before counts from when
    /// it was due, so that no stall hides the requests that it held up.
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
    /// Which stream's; unique within a load.
    pub stream: usize,
    /// When it was sent, or due.
    pub start: Instant,
    pub end: Instant,
    /// The backend that answered, or why nobody did.
    pub outcome: Result<String, String>,
}

/// Where streams put their records, in the order in which requests end.
type Log = Arc<Mutex<Vec<Record>>>;

/// Running load. Dropping it stops it too; [`Load::stop`] also gives the records.
#[derive(Debug)]
pub struct Load {
    log: Log,
    worker: Worker,
}

impl Load {
    /// Starts all `streams` on a thread in `netns`, each with a request every `pace` at most. Streams are numbered
    /// from `first` on.
    pub fn start(netns: &Netns, streams: &[Stream], first: usize, pace: Duration) -> Result<Self> {
        Self::with(netns, streams, first, Manner { pace: Pace::Answered(pace), patience: TIMEOUT })
    }

    /// The same in some other manner.
    pub fn with(netns: &Netns, streams: &[Stream], first: usize, manner: Manner) -> Result<Self> {
        let (stop, log) = (Arc::new(AtomicBool::new(false)), Log::default());
        let (streams, stopping, logging) = (streams.to_vec(), Arc::clone(&stop), Arc::clone(&log));
        let thread = netns.spawn(move || run(&streams, first, manner, &stopping, &logging))?;
        Ok(Self { log, worker: Worker::new(stop, thread) })
    }

    /// The requests that have ended so far.
    pub fn records(&self) -> Vec<Record> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets the running requests end; returns all records.
    pub fn stop(mut self) -> Result<Vec<Record>> {
        self.worker.stop()?;
        Ok(self.records())
    }
}

/// Stops them all; returns all their records.
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
                // Spread over one pace: streams in step would hit the load balancer in bursts.
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

/// `index / count`, for counts of streams, which are small.
fn index_fraction(index: usize, count: usize) -> f64 {
    let small = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    small(index) / small(count.max(1))
}
