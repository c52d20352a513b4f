//! HTTP over the daemon's Unix socket.

use std::{io, path::Path, time::Duration};

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::{net::UnixStream, time::timeout};

use super::{
    api::{ALIVE, DEADLINE, ErrorBody},
    busy,
};
use crate::bpf::boot_ms;

/// Timeout for the answer of a running daemon.
pub(crate) const SOON: Duration = Duration::from_secs(1);
/// Timeout for requests with much work.
pub(crate) const LATER: Duration = busy::LONGEST;

#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// No daemon listens: there is no socket, or one that a dead daemon left behind.
    #[error("the daemon does not answer on {path}")]
    Absent { path: String },
    #[error("cannot connect to {path}")]
    Connect { path: String, source: io::Error },
    #[error("the daemon did not answer within {} s", .0.as_secs())]
    Slow(Duration),
    #[error("the connection to the daemon broke")]
    Broken(#[from] hyper::Error),
    #[error("the daemon's answer is not understood; is it of another version than this edge-ctl?")]
    Misunderstood(#[from] serde_json::Error),
    /// The daemon has refused.
    #[error("{}", body.error)]
    Refused { status: StatusCode, body: ErrorBody },
}

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    patience: Duration,
}

impl Client {
    /// Connects to the daemon; `patience` is the timeout of each answer. An absent daemon and one out of reach are
    /// different errors.
    pub(crate) async fn connect(socket: &Path, patience: Duration) -> Result<Self, ClientError> {
        let path = socket.display().to_string();
        let stream = UnixStream::connect(socket).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::Absent { path },
            // The socket's backlog is full.
            io::ErrorKind::WouldBlock => ClientError::Slow(patience),
            _ => ClientError::Connect { path, source },
        })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The connection's errors come back through the sender.
        tokio::spawn(connection);
        Ok(Self { sender, patience })
    }

    /// Connects for a request that may take long, to a daemon whose loop answers within [`SOON`] or is at long work: one
    /// that is stopped or hangs must not get a request that it carries out when it goes on.
    pub(crate) async fn connect_alive(socket: &Path, patience: Duration) -> Result<Self, ClientError> {
        match Self::connect(socket, SOON).await?.get::<serde_json::Value>(ALIVE).await {
            // Another version may not have the path.
            Ok(_) | Err(ClientError::Refused { .. }) => Self::connect(socket, patience).await,
            Err(error) => Err(error),
        }
    }

    /// `GET path`, the answer's JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        let patience = self.patience;
        timeout(patience, async {
            let response = self.request(Method::GET, path, Bytes::new()).await?;
            Ok(serde_json::from_slice(&response.collect().await?.to_bytes())?)
        })
        .await
        .unwrap_or(Err(ClientError::Slow(patience)))
    }

    /// `POST path` with `body` as JSON, the answer's JSON.
    pub(crate) async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        let patience = self.patience;
        timeout(patience, async {
            let response = self.request(Method::POST, path, serde_json::to_vec(body)?.into()).await?;
            Ok(serde_json::from_slice(&response.collect().await?.to_bytes())?)
        })
        .await
        .unwrap_or(Err(ClientError::Slow(patience)))
    }

    /// `GET path`, the answer as lines as they come, until the daemon ends it or `line` returns false.
    pub(crate) async fn lines(&mut self, path: &str, mut line: impl FnMut(&[u8]) -> bool) -> Result<(), ClientError> {
        let patience = self.patience;
        let answer = timeout(patience, self.request(Method::GET, path, Bytes::new())).await;
        let mut body = answer.unwrap_or(Err(ClientError::Slow(patience)))?;
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            rest.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let wanted = line(&rest[..end]);
                rest.drain(..=end);
                if !wanted {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn request(&mut self, method: Method, path: &str, body: Bytes) -> Result<Incoming, ClientError> {
        // The daemon drops a request that it has not begun by the deadline: the client does something else by then.
        let deadline = boot_ms().saturating_add(u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX) * 9 / 10);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "edge")
            .header(DEADLINE, deadline)
            .header("content-type", "application/json")
            .body(Full::new(body))
            .expect("paths are percent-encoded, and the rest is constant");
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        if status == StatusCode::REQUEST_TIMEOUT {
            return Err(ClientError::Slow(self.patience));
        }
        if status.is_success() {
            return Ok(response.into_body());
        }
        let body = response.into_body().collect().await?.to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| ErrorBody {
            error: format!("the daemon answered {status}: {}", String::from_utf8_lossy(&body)),
            hint: None,
        });
        Err(ClientError::Refused { status, body })
    }
}

/// Encodes `segment` as one segment of a URL's path, so that the daemon receives it as it was typed.
pub(crate) fn segment(segment: &str) -> String {
    use std::fmt::Write;

    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    // A dot segment would be resolved away.
    if encoded.bytes().all(|byte| byte == b'.') { encoded.replace('.', "%2E") } else { encoded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_socket_and_a_dead_socket_are_an_absent_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.sock");
        assert!(matches!(Client::connect(&path, SOON).await, Err(ClientError::Absent { .. })));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        assert!(matches!(Client::connect(&path, SOON).await, Err(ClientError::Absent { .. })));
    }

    #[tokio::test]
    async fn a_daemon_that_accepts_and_does_not_answer_gets_no_long_request() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(Client::connect_alive(&path, LATER).await, Err(ClientError::Slow(SOON))));
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_ok() && listener.accept().is_err(), "only the question whether it answers");
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(segment("provider-a"), "provider-a");
        assert_eq!(segment("a/b c?ü"), "a%2Fb%20c%3F%C3%BC");
        assert_eq!(segment(".."), "%2E%2E");
    }
}
