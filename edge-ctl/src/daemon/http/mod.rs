//! The read-only HTTP listener over TCP, at the configured address. Its failures affect nothing else.

mod pages;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    time::{Duration, Instant},
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

use super::{api::Request, retry::Retry, serve};
use crate::control::{
    events::{EventKind, Events},
    status::HttpStatus,
};

/// Longest duration of a connection, whatever the request and however slow the reader.
const LONGEST: Duration = Duration::from_secs(15);

const SUBJECT: &str = "http";

/// The running listener, and the configured address.
#[derive(Debug)]
pub(super) struct Http {
    commands: mpsc::Sender<Request>,
    /// Most connections at a time.
    most: usize,
    wanted: Option<SocketAddr>,
    running: Option<Running>,
    retry: Option<Retry>,
}

/// A listener, which ends when this value is dropped.
#[derive(Debug)]
struct Running {
    address: SocketAddr,
    _until: oneshot::Sender<()>,
}

impl Http {
    pub(super) fn new(commands: mpsc::Sender<Request>, most: usize) -> Self {
        Self { commands, most, wanted: None, running: None, retry: None }
    }

    /// Applies the configured address.
    pub(super) fn follow(&mut self, wanted: Option<SocketAddr>, events: &Events) {
        if wanted == self.wanted {
            return;
        }
        (self.wanted, self.retry) = (wanted, None);
        match wanted {
            Some(address) => self.listen(address, events, Instant::now()),
            None => self.running = None,
        }
    }

    /// Retries a failed listener once its time has come; called each second.
    pub(super) fn look(&mut self, events: &Events) {
        let now = Instant::now();
        if let Some(address) = self.wanted.filter(|_| self.retry.as_ref().is_some_and(|retry| retry.is_due(now))) {
            self.listen(address, events, now);
        }
    }

    /// The listener's part of `status`.
    pub(super) fn status(&self) -> Option<HttpStatus> {
        let listen = self.wanted?.to_string();
        Some(HttpStatus { listen, why: self.retry.as_ref().map(|retry| retry.why().to_owned()) })
    }

    /// The old listener serves until the new one is ready.
    fn listen(&mut self, address: SocketAddr, events: &Events, now: Instant) {
        match bind(address) {
            Ok(listener) => {
                let (until, ended) = oneshot::channel();
                let router = pages::router(self.commands.clone(), events.clone(), address.ip().is_loopback());
                tokio::spawn(serve::serve(listener, router, self.most, Some(LONGEST), ended));
                self.running = Some(Running { address, _until: until });
                if self.retry.take().is_some() {
                    events.report(
                        EventKind::Attached,
                        SUBJECT,
                        format!("the status page is at http://{address}/ after all"),
                    );
                }
            }
            Err(error) => {
                let why = format!("cannot listen on {address}: {error}; {}", remedy(&error, address));
                let retry = Retry::after(self.retry.as_ref(), why, now);
                // The old listener may occupy the same port at another address: then it is closed, and the next attempt follows.
                let own = self.running.take_if(|running| {
                    error.kind() == io::ErrorKind::AddrInUse && running.address.port() == address.port()
                });
                if own.is_none() && retry.is_news(self.retry.as_ref()) {
                    let message = format!("{}. Traffic goes on without it, and it is tried again", retry.why());
                    events.report(EventKind::LocalFault, SUBJECT, message);
                }
                self.retry = Some(retry);
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn remedy(error: &io::Error, address: SocketAddr) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("find the process that uses it: `ss -ltnp sport = :{port}`, or name another port under [http]")
        }
        io::ErrorKind::AddrNotAvailable => "name an address of this host under [http]".to_owned(),
        io::ErrorKind::PermissionDenied => "name a port above 1023 under [http]".to_owned(),
        _ => "name another address or port under [http]".to_owned(),
    }
}
