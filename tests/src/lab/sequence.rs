//! Numbered datagrams at a steady rate, sent whether or not earlier ones were answered, so that each loss is known.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::lab::{netns::Netns, pace::Pace, worker::Worker};

/// Flows of a stream: enough to use slots of every backend.
const FLOWS: usize = 48;
/// Interval between two polls of the clock. Datagrams that are due are sent at once.
const BREATH: Duration = Duration::from_millis(1);

/// A running stream of datagrams; stopped on drop.
#[derive(Debug)]
pub struct Sequence {
    per_second: u32,
    seen: Arc<Mutex<Seen>>,
    worker: Worker,
}

/// Whether each datagram was answered, by its number.
#[derive(Debug, Default)]
struct Seen(Vec<bool>);

/// Losses in a part of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    pub sent: u64,
    pub lost: u64,
    /// The longest time in which every datagram was lost.
    pub longest: Duration,
}

impl Sequence {
    /// Sends `per_second` datagrams to the UDP echoes at `to`, in turn, from `netns`.
    pub fn start(netns: &Netns, to: &[SocketAddr], per_second: u32) -> Result<Self> {
        let targets = to.iter().cycle().take(FLOWS);
        let sockets = netns.within(|| targets.map(|to| connect(*to)).collect::<io::Result<Vec<_>>>())??;
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Seen>>::default());
        let (stopping, noting) = (Arc::clone(&stop), Arc::clone(&seen));
        // A socket stays in the namespace in which it was made.
        let thread = thread::spawn(move || run(&sockets, per_second, &stopping, &noting));
        Ok(Self { per_second, seen, worker: Worker::new(stop, thread) })
    }

    /// Number of datagrams sent.
    pub fn sent(&self) -> u64 {
        self.seen().0.len() as u64
    }

    /// Losses among the datagrams from number `from` up to, but without, `to`. Answers to the last ones may be under
    /// way.
    pub fn missing(&self, from: u64, to: u64) -> Missing {
        let seen = self.seen();
        let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).min(seen.0.len());
        let part = &seen.0[place(from)..place(to)];
        let longest = part.split(|answered| *answered).map(<[bool]>::len).max().unwrap_or(0);
        Missing {
            sent: part.len() as u64,
            lost: part.iter().filter(|answered| !**answered).count() as u64,
            longest: Duration::from_secs(longest as u64) / self.per_second,
        }
    }

    /// Stops the stream.
    pub fn stop(mut self) -> Result<()> {
        self.worker.stop()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn run(sockets: &[UdpSocket], per_second: u32, stop: &AtomicBool, seen: &Mutex<Seen>) -> Result<()> {
    let pace = Pace::start(per_second);
    let mut next = 0_u64;
    let mut buffer = [0; 256];
    while !stop.load(Ordering::Relaxed) {
        while next < pace.due() {
            let socket = &sockets[usize::try_from(next).unwrap_or_default() % sockets.len()];
            seen.lock().unwrap_or_else(PoisonError::into_inner).0.push(false);
            // An error means that an earlier datagram was refused, or that there is no route. This datagram then counts
            // as lost.
            let _ = socket.send(&next.to_be_bytes());
            next += 1;
        }
        for socket in sockets {
            while let Ok(length) = socket.recv(&mut buffer) {
                // The echo puts its name before the datagram.
                let number = buffer[..length].last_chunk::<8>().context("an answer without a number")?;
                let number = usize::try_from(u64::from_be_bytes(*number))?;
                if let Some(answered) = seen.lock().unwrap_or_else(PoisonError::into_inner).0.get_mut(number) {
                    *answered = true;
                }
            }
        }
        thread::sleep(BREATH);
    }
    Ok(())
}
