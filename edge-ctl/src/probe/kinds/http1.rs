//! One request over HTTP/1.1.

use std::{error::Error as _, io, pin::pin};

use futures::future::{Either, select};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::classify::{Stage, classify};
use crate::health::Verdict;

/// Upper bounds on the bytes that are read of an answer's head and body, so that a faulty backend does not exhaust
/// memory.
const HEAD: usize = 16 << 10;
pub(super) const BODY: usize = 64 << 10;

/// An answer: its status, and the beginning of its body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Sends `request`, and reads the answer.
pub(super) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Empty<Bytes>>,
) -> Result<Answer, Verdict> {
    // As tolerant as other clients: servers with odd answers still serve.
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
    // The connection is driven here and not by its own task, so that it ends with the timeout or with the engine.
    let result = match select(pin!(answer), pin!(connection)).await {
        Either::Left((result, _)) => result,
        // The connection ended first; the answer or the error is ready.
        Either::Right((_, answer)) => answer.await,
    };
    result.map_err(|error| http_error(&error))
}

/// Reads the body, so that a server that dies halfway is detected; a long body is cut off.
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
