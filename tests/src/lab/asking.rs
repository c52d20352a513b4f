//! A client that asks a UDP service all the time, one datagram after the other, and counts the answers that do not come.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::lab::{
    netns::Netns,
    patience::patience,
    small::{CLIENT, Served, Small},
    topology::ECHO,
    udp_echo,
    worker::Worker,
};

/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(1);

/// What became of the questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub answered: u64,
    pub lost: u64,
}

/// A running client; ended on drop.
#[derive(Debug)]
pub struct Asking {
    counts: Arc<[AtomicU64; 2]>,
    worker: Worker,
}

impl Asking {
    /// Asks `service` from `netns`, each time from another port.
    pub fn start(netns: &Netns, service: SocketAddr) -> Result<Self> {
        let (stop, counts) = (Arc::<AtomicBool>::default(), Arc::<[AtomicU64; 2]>::default());
        let (stopping, counting) = (Arc::clone(&stop), Arc::clone(&counts));
        let thread = netns.spawn(move || {
            let mut number = 0_u64;
            while !stopping.load(Ordering::Relaxed) {
                let answer = udp_echo::ask(service, &number.to_be_bytes(), patience(PATIENCE));
                counting[usize::from(answer.is_err())].fetch_add(1, Ordering::Relaxed);
                number += 1;
                thread::sleep(PAUSE);
            }
            Ok(())
        })?;
        Ok(Self { counts, worker: Worker::new(stop, thread) })
    }

    /// What was seen so far.
    pub fn so_far(&self) -> Asked {
        let [answered, lost] = &*self.counts;
        Asked { answered: answered.load(Ordering::Relaxed), lost: lost.load(Ordering::Relaxed) }
    }

    /// Ends it; returns what was seen.
    pub fn stop(mut self) -> Result<Asked> {
        self.worker.stop()?;
        Ok(self.so_far())
    }
}

impl Small {
    /// A client that asks all the time, in `dsr`.
    pub fn asking(&self) -> Result<Asking> {
        Asking::start(self.netns(CLIENT), Served::named("dsr4").at(ECHO))
    }
}
