//! A GET over HTTP/1.1, or over TLS and whichever of HTTP/1.1 and HTTP/2 the server prefers.

use std::{
    error::Error as _,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
};

use futures::future::{Either, select};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use regex::bytes::Regex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::{
        classify::{Stage, classify},
        dial::Dial,
    },
    http2,
    tls::Handshake,
};
use crate::health::Verdict;

/// Most bytes of an answer's head that are read, and of its body: a backend gone mad must not fill our memory.
const HEAD: usize = 16 << 10;
pub(super) const BODY: usize = 64 << 10;

pub(super) const AGENT: &str = concat!("edge-probe/", env!("CARGO_PKG_VERSION"));

/// What is asked, and what has to be answered.
pub(super) struct Get<'a> {
    pub(super) dial: &'a Dial<'a>,
    pub(super) path: &'a str,
    pub(super) status: &'a [u16],
    pub(super) host: Option<&'a str>,
    pub(super) body: Option<&'a Regex>,
}

/// An answer: its status, and its body or the beginning of it.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Get<'_> {
    pub(super) async fn look(&self, handshake: Option<&Handshake>) -> Result<(), Verdict> {
        let own = if handshake.is_some() { 443 } else { 80 };
        let host = self.host.map_or_else(|| default_host(self.dial.address, self.dial.port, own), str::to_owned);
        // Configuration lets no other path and host through; should one slip in, that says nothing about the backend.
        let invalid = |error: hyper::http::Error| Verdict::Inconclusive(format!("no valid request: {error}"));
        let first = Request::get(self.path)
            .header(header::HOST, &host)
            .header(header::USER_AGENT, AGENT)
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(invalid)?;
        let Some(handshake) = handshake else {
            return self.judge(&http1(self.dial.connect().await?, first).await?);
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
            http1(stream, first).await?
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

async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin, request: Request<Empty<Bytes>>) -> Result<Answer, Verdict> {
    // As tolerant as other clients are: servers answer oddly, and serve.
    let handshake = http1::Builder::new()
        .max_buf_size(HEAD)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = handshake.map_err(|error| http_error(&error))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        Ok::<_, hyper::Error>(Answer { status, body: read_body(response.into_body()).await? })
    };
    // The connection is driven here and not by a task of its own, so that the timeout and the end of the engine end it.
    let result = match select(pin!(answer), pin!(connection)).await {
        Either::Left((result, _)) => result,
        // The connection ended first; the answer, or why there is none, is ready.
        Either::Right((_, answer)) => answer.await,
    };
    result.map_err(|error| http_error(&error))
}

/// Reads the body to its end, so that a server that dies halfway is noticed, but not a long one.
async fn read_body(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            read.extend_from_slice(data);
        }
        if read.len() > BODY {
            read.truncate(BODY);
            break;
        }
    }
    Ok(read)
}

/// The address as a Host header has it: brackets around IPv6, no port when it is the protocol's own.
pub(super) fn default_host(address: IpAddr, port: u16, own: u16) -> String {
    match address {
        IpAddr::V4(v4) if port == own => v4.to_string(),
        IpAddr::V6(v6) if port == own => format!("[{v6}]"),
        IpAddr::V4(_) | IpAddr::V6(_) => SocketAddr::new(address, port).to_string(),
    }
}

fn http_error(error: &hyper::Error) -> Verdict {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return classify(io, Stage::Network);
        }
        source = inner.source();
    }
    let text = if error.is_incomplete_message() {
        "closed without a complete answer".to_owned()
    } else if error.is_parse() {
        format!("not HTTP: {error}")
    } else {
        error.to_string()
    };
    Verdict::Fail(text)
}

fn list(expected: &[u16]) -> String {
    expected.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ")
}
