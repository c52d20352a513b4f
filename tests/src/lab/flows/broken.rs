//! A connection that did not go as it should.

use std::{fmt, io, net::SocketAddr, time::Instant};

use crate::lab::topology::Backend;

#[derive(Clone, Debug)]
pub struct Broken {
    pub client: SocketAddr,
    pub service: SocketAddr,
    /// Who accepted it. `None`: nobody did.
    pub backend: Option<Backend>,
    /// When it was begun.
    pub began: Instant,
    /// When it broke.
    pub at: Instant,
    pub how: How,
}

/// What the client saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// A RST in answer to its SYN.
    Refused,
    /// A RST later.
    Reset,
    /// The end of the stream, where an answer was due.
    Closed,
    /// Nothing, for the whole of its patience.
    Silent,
    /// An answer of another backend than the one that accepted.
    Moved(String),
    /// An answer that is none.
    Garbled(String),
    /// Some other error.
    Failed(String),
}

impl From<io::Error> for How {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = self.backend.map_or_else(|| "nobody".to_owned(), |backend| backend.to_string());
        let age = self.at.saturating_duration_since(self.began).as_millis();
        write!(f, "{} -> {} with {backend}, {:?} after {age} ms", self.client, self.service, self.how)
    }
}
