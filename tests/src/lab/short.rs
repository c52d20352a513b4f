//! Short connections from one host of the lab: each sends one request to a web server, which answers and closes it.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
    sockopt::{IpBindAddressNoPort, ReceiveTimeout, SendTimeout},
};

use crate::lab::{netns::Netns, pace::Pace};

/// Number of concurrent clients.
const THREADS: u32 = 24;
/// How long a handshake or an answer may take: enough for two retransmissions of a lost SYN.
const PATIENCE: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_micros(200);

/// The connections to make.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Source addresses, used in turn.
    pub from: Vec<IpAddr>,
    pub to: SocketAddr,
    /// Limit of connections per second; `u32::MAX` for none.
    pub per_second: u32,
    pub lasts: Duration,
}

/// Results of the connections.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub answered: u64,
    /// Number of connections without an answer, by reason.
    pub failed: BTreeMap<String, u64>,
    /// The longest time from the first packet of a handshake to the end.
    pub longest: Duration,
    pub lasted: Duration,
}

impl Tally {
    /// Answers per second.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of connections")]
        let answered = self.answered as f64;
        answered / self.lasted.as_secs_f64()
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        for (why, count) in other.failed {
            *self.failed.entry(why).or_default() += count;
        }
        self.longest = self.longest.max(other.longest);
        self.lasted = self.lasted.max(other.lasted);
    }
}

/// Makes all connections from `netns`.
///
/// # Errors
/// If a thread could not enter the namespace; failures of connections are in the tally.
pub fn run(netns: &Netns, plan: &Plan) -> Result<Tally> {
    let mut tally = Tally::default();
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let plan = plan.clone();
            netns.spawn(move || Ok(one_after_the_other(&plan, number)))
        })
        .collect::<Result<_>>()?;
    for thread in threads {
        tally.add(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
    }
    Ok(tally)
}

fn one_after_the_other(plan: &Plan, number: u32) -> Tally {
    let mut tally = Tally::default();
    let pace = Pace::start(plan.per_second / THREADS);
    let (start, mut made) = (Instant::now(), 0);
    let mut from = plan.from.iter().cycle().skip(number as usize);
    while start.elapsed() < plan.lasts {
        if made >= pace.due() {
            thread::sleep(REST);
            continue;
        }
        made += 1;
        let began = Instant::now();
        match from.next().map_or_else(|| Err(io::ErrorKind::NotFound.into()), |from| exchange(*from, plan.to)) {
            Ok(()) => tally.answered += 1,
            Err(error) => *tally.failed.entry(error.to_string()).or_default() += 1,
        }
        tally.longest = tally.longest.max(began.elapsed());
    }
    tally.lasted = start.elapsed();
    tally
}

/// Makes one connection, with its request and its answer.
fn exchange(from: IpAddr, to: SocketAddr) -> io::Result<()> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // The port is chosen at connect, and need only be free for this destination.
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    let patience = nix::sys::time::TimeVal::new(PATIENCE.as_secs().cast_signed(), 0);
    // A handshake counts as sending.
    setsockopt(&socket, SendTimeout, &patience)?;
    setsockopt(&socket, ReceiveTimeout, &patience)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    // SAFETY: nothing else owns the descriptor.
    let mut stream = unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) };
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::with_capacity(512);
    stream.read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(io::Error::other("no whole answer")) }
}
