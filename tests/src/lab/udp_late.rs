//! A UDP service that answers late, when its client may be gone, and reports the ICMP errors that its socket receives.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;

use crate::lab::netns::Netns;

/// Delay of an answer.
const LATE: Duration = Duration::from_millis(50);
/// How long an error may take to arrive.
const PATIENCE: Duration = Duration::from_millis(500);

/// A running service; stopped on drop.
#[derive(Debug)]
pub struct UdpLate {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl UdpLate {
    /// Listens on `service` in `netns`. For each answered datagram, `heard` receives the kind of the error that came
    /// back, or `None`.
    pub fn start(netns: &Netns, service: SocketAddr, heard: Sender<Option<io::ErrorKind>>) -> Result<Self> {
        let mut socket = netns.within(|| bind(service))??;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = netns.spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                let mut buffer = [0; 64];
                let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
                // Only a connected socket receives errors.
                socket.connect(client)?;
                thread::sleep(LATE);
                socket.send(&buffer[..length])?;
                socket.set_read_timeout(Some(PATIENCE))?;
                let error = socket.recv(&mut buffer).err().map(|error| error.kind());
                drop(socket);
                socket = bind(service)?;
                // Sent last: the receiver may send its next datagram at once. In a failed test there is no receiver.
                let _ = heard.send(error.filter(|kind| *kind != io::ErrorKind::WouldBlock));
            }
            Ok(())
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for UdpLate {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends a datagram from the calling thread's namespace, and closes the socket before the answer comes.
pub fn leave(service: SocketAddr) -> io::Result<()> {
    let any: std::net::IpAddr = match service {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0))?.send_to(b"bye", service)?;
    Ok(())
}

fn bind(service: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(service)?;
    // The timeout bounds how long a stop takes.
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}
