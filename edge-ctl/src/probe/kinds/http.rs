//! A GET over HTTP/1.1, or over TLS with HTTP/1.1 or HTTP/2 as the server prefers.

use std::net::{IpAddr, SocketAddr};

use http_body_util::Empty;
use hyper::{Request, body::Bytes, header};
use regex::bytes::Regex;

use super::{
    super::dial::Dial,
    http1::{self, Answer, BODY},
    http2,
    tls::Handshake,
};
use crate::health::Verdict;

pub(super) const AGENT: &str = concat!("edge-probe/", env!("CARGO_PKG_VERSION"));

/// A GET request, and the expected answer.
pub(super) struct Get<'a> {
    pub(super) dial: &'a Dial<'a>,
    pub(super) path: &'a str,
    pub(super) status: &'a [u16],
    pub(super) host: Option<&'a str>,
    pub(super) body: Option<&'a Regex>,
}

impl Get<'_> {
    pub(super) async fn look(&self, handshake: Option<&Handshake>) -> Result<(), Verdict> {
        let own = if handshake.is_some() { 443 } else { 80 };
        let host = self.host.map_or_else(|| default_host(self.dial.address, self.dial.port, own), str::to_owned);
        // The configuration rejects invalid paths and hosts; if one gets here, it is no evidence about the backend.
        let invalid = |error: hyper::http::Error| Verdict::Inconclusive(format!("no valid request: {error}"));
        let first = Request::get(self.path)
            .header(header::HOST, &host)
            .header(header::USER_AGENT, AGENT)
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(invalid)?;
        let Some(handshake) = handshake else {
            return self.judge(&http1::exchange(self.dial.connect().await?, first).await?);
        };
        let second = Request::get(format!("https://{host}{}", self.path))
            .header(header::USER_AGENT, AGENT)
            .header(header::ACCEPT, "*/*")
            .body(())
            .map_err(invalid)?;
        let stream = handshake.shake(self.dial).await?;
        let answer = if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let mut answer = http2::exchange(stream, second, Bytes::new()).await?;
            answer.body.truncate(BODY);
            Answer { status: answer.status, body: answer.body }
        } else {
            http1::exchange(stream, first).await?
        };
        self.judge(&answer)
    }

    fn judge(&self, answer: &Answer) -> Result<(), Verdict> {
        if !self.status.contains(&answer.status) {
            return Err(Verdict::Fail(format!("HTTP status {}, not {}", answer.status, list(self.status))));
        }
        match self.body {
            Some(body) if !body.is_match(&answer.body) => {
                Err(Verdict::Fail("the body has not what is expected".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// The address in the form of a Host header: brackets around IPv6, no port if it is the protocol's default.
pub(super) fn default_host(address: IpAddr, port: u16, own: u16) -> String {
    match address {
        IpAddr::V4(v4) if port == own => v4.to_string(),
        IpAddr::V6(v6) if port == own => format!("[{v6}]"),
        IpAddr::V4(_) | IpAddr::V6(_) => SocketAddr::new(address, port).to_string(),
    }
}

fn list(expected: &[u16]) -> String {
    expected.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ")
}
