//! One request over HTTP/1.1.

use std::{error::Error as _, io, pin::pin};

use futures::future::{Either, select};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, join, split};

use super::{
    super::classify::{Stage, classify},
    version::Raised,
};
use crate::health::Verdict;

/// Upper bounds on what is read of an answer, so that a faulty backend does not exhaust memory: bytes and fields of the
/// head, and bytes of the body. curl takes 300 KiB of head.
const HEAD: usize = 300 << 10;
const FIELDS: usize = 1000;
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
    let (read, write) = split(stream);
    let handshake = http1::Builder::new()
        .max_buf_size(HEAD)
        .max_headers(FIELDS)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(join(Raised::new(read), write)))
        .await;
    let (mut sender, connection) = handshake.map_err(|error| http_error(&error))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let fields = response.headers();
        let ends_with_connection = !fields.contains_key(CONTENT_LENGTH) && !fields.contains_key(TRANSFER_ENCODING);
        Ok::<_, hyper::Error>(Answer { status, body: read_body(response.into_body(), ends_with_connection).await? })
    };
    // The connection is driven here and not by its own task, so that it ends with the timeout or with the engine.
    let result = match select(pin!(answer), pin!(connection)).await {
        Either::Left((result, _)) => result,
        // The connection ended first; the answer or the error is ready.
        Either::Right((_, answer)) => answer.await,
    };
    result.map_err(|error| http_error(&error))
}

/// Reads the body, so that a server that dies halfway is detected; a long body is cut off. A body that ends with the
/// connection also ends where a server closes TLS without its farewell (`close_notify`), as many do.
async fn read_body(mut body: Incoming, ends_with_connection: bool) -> Result<Vec<u8>, hyper::Error> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Err(error) if ends_with_connection && io_error(&error).is_some_and(is_end) => break,
            frame => frame?,
        };
        if let Some(data) = frame.data_ref() {
            read.extend_from_slice(data);
        }
        if read.len() > BODY {
            read.truncate(BODY);
            break;
        }
    }
    Ok(read)
}

fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

/// The I/O error that caused an error of hyper's.
fn io_error(error: &hyper::Error) -> Option<&io::Error> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref() {
            return Some(io);
        }
        source = inner.source();
    }
    None
}

fn http_error(error: &hyper::Error) -> Verdict {
    if let Some(io) = io_error(error) {
        return classify(io, Stage::Network);
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
