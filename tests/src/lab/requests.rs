//! A client that sends requests to a UDP service one after the other, and counts lost answers.

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

/// Time after which an answer counts as lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// Pause between an answer and the next request.
const PAUSE: Duration = Duration::from_millis(1);

/// Results of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestCounts {
    pub answered: u64,
    pub lost: u64,
}

/// A running client; ended on drop.
#[derive(Debug)]
pub struct Requests {
    counts: Arc<[AtomicU64; 2]>,
    worker: Worker,
}

impl Requests {
    /// Sends requests to `service` from `netns`, each from another port.
    pub fn start(netns: &Netns, service: SocketAddr) -> Result<Self> {
        let (stop, counts) = (Arc::<AtomicBool>::default(), Arc::<[AtomicU64; 2]>::default());
        let (stopping, counting) = (Arc::clone(&stop), Arc::clone(&counts));
        let thread = netns.spawn(move || {
            let mut number = 0_u64;
            while !stopping.load(Ordering::Relaxed) {
                let answer = udp_echo::request(service, &number.to_be_bytes(), patience(PATIENCE));
                counting[usize::from(answer.is_err())].fetch_add(1, Ordering::Relaxed);
                number += 1;
                thread::sleep(PAUSE);
            }
            Ok(())
        })?;
        Ok(Self { counts, worker: Worker::new(stop, thread) })
    }

    /// The results so far.
    pub fn so_far(&self) -> RequestCounts {
        let [answered, lost] = &*self.counts;
        RequestCounts { answered: answered.load(Ordering::Relaxed), lost: lost.load(Ordering::Relaxed) }
    }

    /// Ends the client; returns the results.
    pub fn stop(mut self) -> Result<RequestCounts> {
        self.worker.stop()?;
        Ok(self.so_far())
    }
}

impl Small {
    /// A client that sends requests continuously, to a service in `dsr`.
    pub fn start_requests(&self) -> Result<Requests> {
        Requests::start(self.netns(CLIENT), Served::named("dsr4").at(ECHO))
    }
}
