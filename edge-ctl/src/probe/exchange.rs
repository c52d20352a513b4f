//! One exchange with a backend: a TCP connection, or an HTTP request over one.

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

use super::{
    classify::{Stage, classify},
    dial::Dial,
};
use crate::health::Verdict;

/// Most bytes of an answer's head that are read, and of its body: a backend gone mad must not fill our memory.
const HEAD: usize = 16 << 10;
const BODY: usize = 64 << 10;

const AGENT: &str = concat!("edge-probe/", env!("CARGO_PKG_VERSION"));

/// Passes when a connection is accepted.
pub(super) async fn tcp(dial: &Dial<'_>) -> Verdict {
    match dial.connect().await {
        Ok(_) => Verdict::Pass,
        Err(verdict) => verdict,
    }
}

/// Passes when a GET of `path` is answered with one of `expected`.
pub(super) async fn http(dial: &Dial<'_>, path: &str, host: Option<&str>, expected: &[u16]) -> Verdict {
    let host = host.map_or_else(|| default_host(dial.address, dial.port), str::to_owned);
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    // Configuration lets no other path and host through; should one slip in, that says nothing about the backend.
    let request = match request {
        Ok(request) => request,
        Err(error) => return Verdict::Inconclusive(format!("no valid request: {error}")),
    };
    // Dropped last, when the reset has been sent.
    let (stream, _carried) = match dial.connect().await {
        Ok(connection) => connection,
        Err(verdict) => return verdict,
    };
    let handshake = http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = match handshake {
        Ok(pair) => pair,
        Err(error) => return http_error(&error),
    };
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        read_body(response.into_body()).await?;
        Ok::<u16, hyper::Error>(status)
    };
    // The connection is driven here and not by a task of its own, so that the timeout and the end of the engine end it.
    let result = match select(pin!(answer), pin!(connection)).await {
        Either::Left((result, _)) => result,
        // The connection ended first; the answer, or why there is none, is ready.
        Either::Right((_, answer)) => answer.await,
    };
    match result {
        Ok(status) if expected.contains(&status) => Verdict::Pass,
        Ok(status) => Verdict::Fail(format!("HTTP status {status}, not {}", list(expected))),
        Err(error) => http_error(&error),
    }
}

/// Reads the body to its end, so that a server that dies halfway is noticed, but not a long one.
async fn read_body(mut body: Incoming) -> Result<(), hyper::Error> {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame?.data_ref().map_or(0, Bytes::len);
        if read > BODY {
            break;
        }
    }
    Ok(())
}

/// The address as a Host header has it: brackets around IPv6, no port when it is HTTP's own.
fn default_host(address: IpAddr, port: u16) -> String {
    match (address, port) {
        (IpAddr::V4(v4), 80) => v4.to_string(),
        (IpAddr::V6(v6), 80) => format!("[{v6}]"),
        _ => SocketAddr::new(address, port).to_string(),
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
