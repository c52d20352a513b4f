//! A TCP service that reads all that a client sends, then sends its host's name and the data back.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{getsockopt, sockopt::TcpMaxSeg},
};

use crate::lab::{netns::Netns, patience::patience, topology::ECHO};

/// How long a side waits for the other side's next bytes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running echo; stopped on drop.
#[derive(Debug)]
pub struct TcpEcho {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// An exchange as its client sees it.
#[derive(Debug)]
pub struct Exchange {
    /// Name of the backend.
    pub backend: String,
    /// Maximum segment size in bytes, after the handshake and after all data was sent.
    pub segments: [u32; 2],
}

impl TcpEcho {
    /// Listens on every address of `netns`.
    pub fn start(netns: &Netns, name: &str) -> Result<Self> {
        let listener = netns.within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, ECHO)))??;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (name, stopping) = (name.to_owned(), Arc::clone(&stop));
        // A socket stays in its namespace whichever thread uses it.
        let thread = thread::spawn(move || serve(&listener, &name, &stopping));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for TcpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A connection on which only a part of the data has been sent.
#[derive(Debug)]
pub struct Begun {
    stream: TcpStream,
    sent: Vec<u8>,
    segment: u32,
}

impl Begun {
    /// Connects from the calling thread's namespace, and sends `data`.
    ///
    /// # Errors
    /// If the connection stalls.
    pub fn connect(service: SocketAddr, data: &[u8]) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&service, patience(PATIENCE))?;
        be_patient(&stream)?;
        let segment = getsockopt(&stream, TcpMaxSeg)?;
        stream.write_all(data)?;
        Ok(Self { stream, sent: data.to_vec(), segment })
    }

    /// Sends the rest, and reads all of it back.
    ///
    /// # Errors
    /// If the connection stalls, or the data that comes back differs.
    pub fn finish(mut self, data: &[u8]) -> io::Result<Exchange> {
        self.stream.write_all(data)?;
        self.sent.extend(data);
        self.stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Vec::new();
        self.stream.read_to_end(&mut answer)?;
        let segments = [self.segment, getsockopt(&self.stream, TcpMaxSeg)?];
        let name =
            answer.strip_suffix(&self.sent[..]).ok_or_else(|| io::Error::other("the answer is not what was sent"))?;
        Ok(Exchange { backend: String::from_utf8_lossy(name).trim_end().to_owned(), segments })
    }
}

/// Sends `data` from the calling thread's namespace, and reads it back.
///
/// # Errors
/// If the connection stalls, or the data that comes back differs.
pub fn exchange(service: SocketAddr, data: &[u8]) -> io::Result<Exchange> {
    Begun::connect(service, data)?.finish(&[])
}

/// Serves each client in a thread of its own: a client whose RST was lost, because a program was being attached on its
/// path, stays silent until the timeout.
fn serve(listener: &TcpListener, name: &str, stop: &AtomicBool) {
    thread::scope(|clients| {
        while !stop.load(Ordering::Relaxed) {
            // The timeout bounds how long a stop takes; an interrupted wait is only a shorter one.
            let _ = poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], PollTimeout::from(50_u8));
            while let Ok((stream, _)) = listener.accept() {
                // A client that went away is no reason to stop serving the others.
                clients.spawn(|| echo(stream, name, stop));
            }
        }
    });
}

fn echo(mut stream: TcpStream, name: &str, stop: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(patience(PATIENCE)))?;
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut data = Vec::new();
    while let Err(error) = stream.read_to_end(&mut data) {
        if error.kind() != io::ErrorKind::WouldBlock || stop.load(Ordering::Relaxed) {
            return Err(error);
        }
    }
    stream.write_all(format!("{name}\n").as_bytes())?;
    stream.write_all(&data)
}

fn be_patient(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    stream.set_write_timeout(Some(patience(PATIENCE)))
}
