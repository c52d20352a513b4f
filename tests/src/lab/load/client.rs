//! One stream of HTTP/1.1 requests, each with a timeout.

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

use super::{Log, Manner, Pace, Record, Reuse, Stream, ticks::Ticks};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Connection = http1::SendRequest<Empty<Bytes>>;

/// Sends requests until `stop`, and logs each.
pub(super) async fn run(
    stream: Stream,
    number: usize,
    manner: Manner,
    delay: Duration,
    stop: Arc<AtomicBool>,
    log: Log,
) -> std::io::Result<()> {
    let mut connection = None;
    let mut clock = match manner.pace {
        Pace::Answered(interval) => Clock::Answered(interval, Instant::now() + delay),
        Pace::Due(interval) => Clock::Due(Ticks::start(delay, interval)?),
    };
    loop {
        let start = clock.next().await?;
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let answer = time::timeout(manner.patience, request(stream, &mut connection)).await;
        let outcome = match answer {
            Ok(Ok(backend)) => Ok(backend),
            Ok(Err(error)) => Err(whole(&*error)),
            Err(_) => Err(format!("no answer within {} ms", manner.patience.as_millis())),
        }
        .map_err(|why| format!("{stream}: {why}"));
        if outcome.is_err() || stream.reuse == Reuse::New {
            connection = None;
        }
        let record = Record { stream: number, start, end: Instant::now(), outcome };
        log.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }
}

/// An error with its causes.
fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The schedule of a stream's requests.
enum Clock {
    /// The interval, and the earliest time of the next request.
    Answered(Duration, Instant),
    Due(Ticks),
}

impl Clock {
    /// Waits until the next request is due; returns the time from which it counts.
    async fn next(&mut self) -> std::io::Result<Instant> {
        match self {
            Self::Answered(interval, next) => {
                time::sleep_until((*next).into()).await;
                let now = Instant::now();
                *next = now + *interval;
                Ok(now)
            }
            Self::Due(ticks) => ticks.next().await,
        }
    }
}

/// Sends one request over `connection`, or over a new one that is left there, and reads the whole answer.
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
    // The task ends with the connection; the connection's error reaches the request that it broke.
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}
