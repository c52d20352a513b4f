//! HTTP connections: their number is limited by file descriptors, and each serves one request, which has to arrive in
//! time.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};

/// How long the head of a request may take to arrive.
const HEAD: Duration = Duration::from_secs(3);
/// Pause between attempts to accept, when this process or the host lacks a resource.
const PAUSE: Duration = Duration::from_millis(100);

/// A source of connections.
pub(super) trait Listen: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Serves at most `most` connections at a time, each for `longest` at most, until `ended`; then waits for requests in
/// progress.
pub(super) async fn serve(
    listener: impl Listen,
    router: Router,
    most: usize,
    longest: Option<Duration>,
    mut ended: oneshot::Receiver<()>,
) {
    let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.next().await)
        };
        tokio::select! {
            _ = &mut ended => break,
            Some(_) = connections.join_next() => {}
            (place, accepted) = accept => match accepted {
                Ok(stream) => {
                    let answer = answer(stream, router.clone());
                    connections.spawn(async move {
                        match longest {
                            // A connection that has not ended by then is dropped.
                            Some(longest) => drop(timeout(longest, answer).await),
                            None => answer.await,
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A client that disconnects or sends nothing is not an error.
    let _ended = connection.await;
}
