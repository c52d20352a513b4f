//! One stream of HTTP/1.1 requests, each bounded in time.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time};

use super::{Log, Record, Reuse, Stream, TIMEOUT};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Connection = http1::SendRequest<Empty<Bytes>>;

/// Asks until `stop`, and logs each request.
pub(super) async fn run(
    stream: Stream,
    number: usize,
    pace: Duration,
    delay: Duration,
    stop: Arc<AtomicBool>,
    log: Log,
) {
    let mut connection = None;
    time::sleep(delay).await;
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let answer = time::timeout(TIMEOUT, request(stream, &mut connection)).await;
        let outcome = match answer {
            Ok(Ok(backend)) => Ok(backend),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} ms", TIMEOUT.as_millis())),
        };
        if outcome.is_err() || stream.reuse == Reuse::New {
            connection = None;
        }
        let record = Record { stream: number, start, end: Instant::now(), outcome };
        log.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        time::sleep(pace.saturating_sub(start.elapsed())).await;
    }
}

/// One request over `connection`, or over a new one left there. The whole answer is read.
async fn request(stream: Stream, connection: &mut Option<Connection>) -> Result<String, Error> {
    if connection.as_ref().is_none_or(Connection::is_closed) {
        *connection = Some(connect(stream).await?);
    }
    let sender = connection.as_mut().ok_or("no connection")?;
    sender.ready().await?;
    let mut request = Request::get("/").header(header::HOST, stream.target.to_string());
    if stream.reuse == Reuse::New {
        request = request.header(header::CONNECTION, "close");
    }
    let response = sender.send_request(request.body(Empty::new())?).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        return Err(format!("answered {status}").into());
    }
    Ok(String::from_utf8_lossy(&body).trim().to_owned())
}

async fn connect(stream: Stream) -> Result<Connection, Error> {
    let tcp = TcpStream::connect(stream.target).await?;
    tcp.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
    // It ends with the connection; its error reaches the request that it broke.
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}
