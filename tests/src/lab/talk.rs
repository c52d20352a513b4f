//! A TCP service that answers each message of a client with its host's name, until the client leaves.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv6Addr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::lab::netns::Netns;

/// Port of the service.
pub const TALK: u16 = 8;

/// A running service; it and its connections end on drop.
#[derive(Debug)]
pub struct Talk {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Talk {
    /// Listens on every address of `netns`.
    pub fn start(netns: &Netns, name: &str) -> Result<Self> {
        let listener = netns.within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, TALK)))??;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (name, stopping) = (format!("{name}\n"), Arc::clone(&stop));
        // A socket stays in its namespace whichever thread uses it.
        let thread = thread::spawn(move || serve(&listener, &name, &stopping));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, name: &str, stop: &AtomicBool) {
    let mut clients: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let wait = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut waiting = vec![wait(listener.as_fd())];
        waiting.extend(clients.iter().map(|client| wait(client.as_fd())));
        // The timeout bounds how long a stop takes; an interrupted wait is only a shorter one.
        let _ = poll(&mut waiting, PollTimeout::from(50_u8));
        while let Ok((client, _)) = listener.accept() {
            clients.push(client);
        }
        // A client that went away is no reason to stop serving the others.
        clients.retain_mut(|client| answer(client, name).is_ok());
    }
}

fn answer(client: &mut TcpStream, name: &str) -> io::Result<()> {
    client.set_nonblocking(true)?;
    match client.read(&mut [0; 64]) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => client.write_all(name.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}
