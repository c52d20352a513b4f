//! A UDP service that answers each datagram with its host's name and the datagram.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::lab::{netns::Netns, topology::ECHO};

/// Length of the longest datagram, bytes.
const LONGEST: usize = 8192;

/// A running echo; stopped on drop.
#[derive(Debug)]
pub struct UdpEcho {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// Listens on each of `vips` in `netns`. One socket per address, so that an answer leaves from the address of
    /// its request.
    pub fn start(netns: &Netns, name: &str, vips: &[IpAddr]) -> Result<Self> {
        Self::start_at(netns, name, vips.iter().map(|vip| SocketAddr::new(*vip, ECHO)))
    }

    /// Listens at these addresses and ports in `netns`.
    pub fn start_at(netns: &Netns, name: &str, at: impl Iterator<Item = SocketAddr> + Send) -> Result<Self> {
        let sockets = netns.within(|| bind(at))??;
        let stop = Arc::new(AtomicBool::new(false));
        let (name, stopping) = (name.to_owned(), Arc::clone(&stop));
        // A socket stays in its namespace whichever thread uses it.
        let thread = thread::spawn(move || serve(&sockets, &name, &stopping));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends `payload` from the calling thread's namespace, and returns the name of the backend that answered.
///
/// # Errors
/// If no answer comes within `patience`, or the answer lacks the payload.
pub fn request(service: SocketAddr, payload: &[u8], patience: Duration) -> io::Result<String> {
    let any: IpAddr = match service {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(patience))?;
    socket.connect(service)?;
    socket.send(payload)?;
    let mut buffer = [0; LONGEST];
    let length = socket.recv(&mut buffer)?;
    let answer = &buffer[..length];
    let name = answer.strip_suffix(payload).ok_or_else(|| io::Error::other("the answer lacks the payload"))?;
    Ok(String::from_utf8_lossy(name).trim_end().to_owned())
}

fn bind(at: impl Iterator<Item = SocketAddr>) -> Result<Vec<UdpSocket>> {
    at.map(|address| {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })
    .collect()
}

fn serve(sockets: &[UdpSocket], name: &str, stop: &AtomicBool) {
    let mut buffer = [0; LONGEST];
    while !stop.load(Ordering::Relaxed) {
        let mut waiting: Vec<_> = sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        // The timeout bounds how long a stop takes; an interrupted wait is only a shorter one.
        let _ = poll(&mut waiting, PollTimeout::from(50_u8));
        for socket in sockets {
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let answer = [name.as_bytes(), b"\n", &buffer[..length]].concat();
                // A client that went away is no reason to stop serving the others.
                let _ = socket.send_to(&answer, client);
            }
        }
    }
}
