//! A connection that did not go as it should.

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
    /// Who accepted it. `None`: nobody did.
    pub backend: Option<Backend>,
    /// When it was begun.
    pub began: Instant,
    /// When it stood, for the client.
    pub stood: Option<Instant>,
    /// Requests that were answered.
    pub answers: u32,
    /// When the last one was sent.
    pub requested: Option<Instant>,
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

impl Broken {
    /// Whether the client had waited for so long: it then says no more than what its kernel sends again, which is twice as
    /// far apart each time. For an answer, or for its connection: one that its kernel had long ago, but a busy machine had no time
    /// to tell it of, says nothing either, also if it broke before it was told.
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
