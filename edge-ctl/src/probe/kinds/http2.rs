//! One request over HTTP/2.

use std::pin::pin;

use futures::future::{Either, poll_fn, select};
use hyper::{HeaderMap, Request, body::Bytes};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::classify::{Stage, classify},
    http1::BODY,
};
use crate::health::Verdict;

/// An answer: headers, trailers, and the beginning of its body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
}

/// Sends `request` with `body`, and reads the answer.
pub(super) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<()>,
    body: Bytes,
) -> Result<Answer, Verdict> {
    let (sender, connection) = h2::client::handshake(stream).await.map_err(|error| fault(&error))?;
    let answer = async move {
        let mut sender = sender.ready().await?;
        let (response, mut sending) = sender.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            sending.send_data(body, true)?;
        }
        let (head, mut incoming) = response.await?.into_parts();
        let mut body = Vec::new();
        while let Some(data) = poll_fn(|context| incoming.poll_data(context)).await {
            let data = data?;
            // Otherwise flow control would stop the server.
            incoming.flow_control().release_capacity(data.len())?;
            body.extend_from_slice(&data);
            if body.len() > BODY {
                return Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, trailers: None });
            }
        }
        let trailers = incoming.trailers().await?;
        Ok::<_, h2::Error>(Answer { status: head.status.as_u16(), headers: head.headers, body, trailers })
    };
    // The connection is driven here and not by its own task, as with HTTP/1.
    let result = match select(pin!(answer), pin!(connection)).await {
        Either::Left((result, _)) => result,
        Either::Right((_, answer)) => answer.await,
    };
    result.map_err(|error| fault(&error))
}

fn fault(error: &h2::Error) -> Verdict {
    match error.get_io() {
        Some(io) => classify(io, Stage::Network),
        None => Verdict::Fail(format!("HTTP/2: {error}")),
    }
}
