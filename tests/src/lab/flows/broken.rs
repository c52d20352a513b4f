//! A connection that failed.

use std::{
    fmt, io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::lab::topology::Backend;

#[derive(Clone, Debug)]
pub struct Broken {
    pub client: SocketAddr,
    pub service: SocketAddr,
    /// The backend that accepted the connection, if any.
    pub backend: Option<Backend>,
    /// Start of the handshake.
    pub began: Instant,
    /// End of the handshake at the client.
    pub stood: Option<Instant>,
    /// Number of answered requests.
    pub answers: u32,
    /// Time at which the last request was sent.
    pub requested: Option<Instant>,
    /// Time of the failure.
    pub at: Instant,
    pub how: How,
}

/// The failure as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// A RST in answer to the SYN.
    Refused,
    /// A RST after the handshake.
    Reset,
    /// The end of the stream instead of an answer.
    Closed,
    /// No packet for the whole of [`PATIENCE`](super::PATIENCE).
    Silent,
    /// An answer from another backend than the one that accepted the connection.
    Moved(String),
    /// An invalid answer.
    Garbled(String),
    /// Some other error.
    Failed(String),
}

impl Broken {
    /// Whether the client had waited longer than `long` for its handshake or for an answer. A waiting client only sends
    /// retransmissions, at intervals that double. A connection that the kernel completed long ago is silent as well, as
    /// long as a busy machine does not run the client, even if the connection breaks before that.
    pub fn had_waited(&self, long: Duration) -> bool {
        let waited = |from: Instant, to: Instant| to.saturating_duration_since(from) > long;
        waited(self.began, self.stood.unwrap_or(self.at))
            || self.requested.is_some_and(|requested| waited(requested, self.at))
    }
}

impl From<io::Error> for How {
    fn from(error: io::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "there are kinds of errors that have no name yet")]
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
        let age = |at: Instant| at.saturating_duration_since(self.began).as_millis();
        let Self { client, service, answers, how, .. } = self;
        write!(f, "{client} -> {service} with {backend}, {how:?} after {} ms", age(self.at))?;
        if let Some(stood) = self.stood {
            write!(f, ", {} ms of handshake, {answers} answers", age(stood))?;
        }
        self.requested.map_or(Ok(()), |requested| write!(f, ", requested after {} ms", age(requested)))
    }
}
