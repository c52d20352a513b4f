//! The probe engine against real servers on the loopback interface, each behaving in its own way.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
};

mod engine;
mod kinds;
mod local_faults;

use super::*;

/// The behaviour of a server after it accepts a connection.
#[derive(Clone, Copy)]
enum Server {
    /// Answers over HTTP with this status.
    Status(u16),
    /// Sends these bytes, then closes.
    Sends(&'static str),
    /// Reads the request, then closes.
    Closes,
    /// Reads the request, then resets.
    Resets,
    /// Never answers.
    Silent,
    /// Sends the head at once, but never the body.
    Stalls,
}

/// A listener on loopback, and the number of accepted connections.
async fn serve(server: Server) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepts");
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer(stream, server));
        }
    });
    (address, accepted)
}

async fn answer(mut stream: TcpStream, server: Server) {
    if let Server::Status(status) = server {
        let respond = service_fn(move |_: Request<Incoming>| async move {
            let response = Response::builder().status(status).body(Full::new(Bytes::from_static(b"body")));
            Ok::<_, Infallible>(response.expect("a valid response"))
        });
        // The client may close at any time.
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), respond).await;
        return;
    }
    let mut request = [0; 1024];
    if !matches!(stream.read(&mut request).await, Ok(1..)) {
        return;
    }
    match server {
        Server::Sends(bytes) => drop(stream.write_all(bytes.as_bytes()).await),
        Server::Resets => stream.set_zero_linger().expect("a socket option"),
        Server::Silent => std::future::pending().await,
        Server::Stalls => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await;
            std::future::pending::<()>().await;
        }
        Server::Closes | Server::Status(_) => {}
    }
}

fn target(address: SocketAddr, kind: ProbeKind) -> ProbeTarget {
    let probe = Probe {
        kind,
        through: ProbeThrough::Address,
        port: address.port(),
        interval: Duration::from_secs(5),
        fast_interval: Duration::from_secs(5),
        // Far more than any answer takes: the machine may be busy with other tests.
        timeout: Duration::from_secs(5),
        rise: 2,
        fall: 3,
        jitter: 0.1,
    };
    ProbeTarget {
        subject: Subject::Backend(7),
        destination: Destination::of(address.ip()),
        probe,
        through: Vec::new(),
        translated: false,
    }
}

/// The target with an interval and timeout that are short enough for a test.
fn quick(mut target: ProbeTarget, time: Duration) -> ProbeTarget {
    (target.probe.interval, target.probe.fast_interval, target.probe.timeout) = (time, time, time);
    target
}

const SHORT: Duration = Duration::from_millis(100);

fn http() -> ProbeKind {
    ProbeKind::Http { path: "/healthz".to_owned(), status: vec![200], host: None, body: None, tls: None }
}

async fn http_against(server: Server) -> Verdict {
    let (address, _) = serve(server).await;
    let target = target(address, http());
    match server {
        Server::Silent | Server::Stalls => once(&quick(target, SHORT)).await,
        Server::Status(_) | Server::Sends(_) | Server::Closes | Server::Resets => once(&target).await,
    }
}

fn failed(why: &str) -> Verdict {
    Verdict::Fail(why.to_owned())
}

fn silent(why: &str) -> Verdict {
    Verdict::Silent(why.to_owned())
}

/// Makes one probe of a target.
async fn once(target: &ProbeTarget) -> Verdict {
    Prober::of(target).once().await
}

/// A port without a listener; the socket keeps others from using it.
fn closed_port() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    (socket.local_addr().expect("bound"), socket)
}

#[tokio::test]
async fn http_verdicts() {
    for (server, expected) in [
        (Server::Status(200), Verdict::Pass),
        (Server::Status(500), failed("HTTP status 500, not 200")),
        (Server::Status(204), failed("HTTP status 204, not 200")),
        (Server::Sends("HTTP/1.1 200 OK\r\n\r\n"), Verdict::Pass),
        (Server::Sends("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), Verdict::Pass),
        (
            Server::Sends("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"),
            failed("end of file before message length reached"),
        ),
        (
            Server::Sends("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno number\r\n"),
            failed("Invalid chunk size line: missing size digit"),
        ),
        (Server::Sends("SSH-2.0-OpenSSH_9.2\r\n"), failed("not HTTP: invalid HTTP version parsed")),
        (Server::Sends("HTTP/1.1 200"), failed("closed without a complete answer")),
        (Server::Closes, failed("closed without a complete answer")),
        (Server::Resets, failed("connection reset")),
        (Server::Silent, silent("no answer within 100ms")),
        (Server::Stalls, silent("no answer within 100ms")),
    ] {
        assert_eq!(http_against(server).await, expected);
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_memory() {
    let endless = Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(1 << 20)).into_boxed_str());
    let verdict = http_against(Server::Sends(endless)).await;
    assert_eq!(verdict, failed("not HTTP: message head is too large"));
    let long = Box::leak(
        format!("HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n{}", "y".repeat(1 << 20)).into_boxed_str(),
    );
    assert_eq!(http_against(Server::Sends(long)).await, Verdict::Pass);
}

#[tokio::test]
async fn any_expected_status_passes() {
    let (address, _) = serve(Server::Status(404)).await;
    let kind = |status| ProbeKind::Http { path: "/".to_owned(), status, host: None, body: None, tls: None };
    assert_eq!(once(&target(address, kind(vec![200, 404]))).await, Verdict::Pass);
    assert_eq!(once(&target(address, kind(vec![200, 204]))).await, failed("HTTP status 404, not 200 or 204"));
}

#[tokio::test]
async fn tcp_verdicts() {
    let (address, _) = serve(Server::Silent).await;
    assert_eq!(once(&target(address, ProbeKind::Tcp)).await, Verdict::Pass);
    let (address, _held) = closed_port();
    assert_eq!(once(&target(address, ProbeKind::Tcp)).await, failed("connection refused"));
    assert_eq!(once(&target(address, http())).await, failed("connection refused"));
}

#[tokio::test]
async fn a_full_backlog_is_a_failure() {
    // A listener that accepts nothing: once its queue is full, the kernel answers no SYN.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    let listener = socket.listen(1).expect("listens");
    let address = listener.local_addr().expect("bound");
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(tokio::time::timeout(Duration::from_millis(20), TcpStream::connect(address)).await);
    }
    assert_eq!(once(&quick(target(address, ProbeKind::Tcp), SHORT)).await, silent("no answer within 100ms"));
}

#[tokio::test]
async fn the_request_is_as_configured() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            let mut request = vec![0; 1024];
            let length = stream.read(&mut request).await.expect("reads");
            request.truncate(length);
            note.lock().expect("no panic").push(String::from_utf8(request).expect("text").to_lowercase());
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("writes");
        }
    });
    let named = ProbeKind::Http {
        path: "/a?b=c".to_owned(),
        status: vec![200],
        host: Some("www.example.org".to_owned()),
        body: None,
        tls: None,
    };
    assert_eq!(once(&target(address, named)).await, Verdict::Pass);
    assert_eq!(once(&target(address, http())).await, Verdict::Pass);
    let seen = seen.lock().expect("no panic");
    let rest = "user-agent: edge-probe/0.1.0\r\naccept: */*\r\nconnection: close\r\n\r\n";
    assert_eq!(seen[0], format!("get /a?b=c http/1.1\r\nhost: www.example.org\r\n{rest}"));
    assert_eq!(seen[1], format!("get /healthz http/1.1\r\nhost: {address}\r\n{rest}"));
}

#[tokio::test]
async fn ipv6_is_probed_as_well() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await else {
        panic!("the loopback interface has no IPv6: enable it (net.ipv6.conf.lo.disable_ipv6=0)");
    };
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("accepts");
        answer(stream, Server::Status(200)).await;
    });
    assert_eq!(once(&target(address, http())).await, Verdict::Pass);
}

#[tokio::test]
async fn a_process_that_was_stopped_fails_no_backend() {
    let (address, _) = serve(Server::Silent).await;
    let target = quick(target(address, http()), SHORT);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        // Blocks the runtime's only thread, as if the process were stopped.
        std::thread::sleep(Duration::from_millis(600));
    };
    let (verdict, ()) = tokio::join!(once(&target), stop);
    assert!(matches!(verdict, Verdict::Inconclusive(_)), "{verdict:?}");
}
