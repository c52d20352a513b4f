//! What is probed: a process of its own, so that its work is not taken for the engine's.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{Router, routing::get};
use rustls::{
    HandshakeKind, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// The argument that makes this program the server.
pub(crate) const VERB: &str = "serve";
/// Port that takes connections and closes them.
pub(crate) const TCP: u16 = 7000;
/// Port that answers `GET /healthz`.
pub(crate) const HTTP: u16 = 8000;

/// Port that answers any request over TLS, as `www.example.org`.
pub(crate) const HTTPS: u16 = 9000;
/// Where its certificate is, and that of its authority.
pub(crate) const PEM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/src/lab/pem");

const READY: &str = "ready";

/// TLS handshakes since the last question, and how many of them resumed a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handshakes {
    pub(crate) all: u64,
    pub(crate) resumed: u64,
}

/// The running server; it ends with its owner, however that ends: its standard input ends then.
pub(crate) struct Server {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let this = std::env::current_exe().expect("this program's file");
        let mut child =
            Command::new(this).arg(VERB).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let mut answers = BufReader::new(child.stdout.take().expect("a pipe"));
        answers.read_line(&mut line).expect("the server's word");
        assert_eq!(line.trim_end(), READY, "the server did not start");
        Self { child, answers }
    }

    /// The handshakes since the last call.
    pub(crate) fn handshakes(&mut self) -> Handshakes {
        let mut line = String::new();
        self.child.stdin.as_mut().expect("a pipe").write_all(b"\n").expect("the server listens");
        self.answers.read_line(&mut line).expect("the server's word");
        let mut counts = line.split_whitespace().map(|count| count.parse().expect("a count"));
        let mut next = || counts.next().expect("two counts");
        Handshakes { all: next(), resumed: next() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Without its pipe it goes; this is for the one that hangs.
        let _unused = (self.child.kill(), self.child.wait());
    }
}

static ALL: AtomicU64 = AtomicU64::new(0);
static RESUMED: AtomicU64 = AtomicU64::new(0);

/// Serves until standard input ends.
pub(crate) fn serve() {
    std::thread::spawn(|| {
        // Each line is a question.
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            println!("{} {}", ALL.swap(0, Ordering::Relaxed), RESUMED.swap(0, Ordering::Relaxed));
        }
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, TCP)).await.expect("a free port");
        let http = TcpListener::bind((Ipv4Addr::UNSPECIFIED, HTTP)).await.expect("a free port");
        let https = TcpListener::bind((Ipv4Addr::UNSPECIFIED, HTTPS)).await.expect("a free port");
        tokio::spawn(secure(https));
        println!("{READY}");
        let accept = async {
            while let Ok(connection) = tcp.accept().await {
                drop(connection);
            }
        };
        let answer = axum::serve(http, Router::new().route("/healthz", get(async || "ok")));
        tokio::join!(accept, answer.into_future()).1.expect("it serves");
    });
}

async fn secure(listener: TcpListener) {
    let chain = CertificateDer::from_pem_file(format!("{PEM}/server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(format!("{PEM}/server.key")).expect("its key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![chain], key));
    let mut config = config.expect("they go together");
    // Without state: what a server keeps of ten thousand backends would be its own work.
    config.ticketer = ring::Ticketer::new().expect("random bytes");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            ALL.fetch_add(1, Ordering::Relaxed);
            if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                RESUMED.fetch_add(1, Ordering::Relaxed);
            }
            let mut request = [0; 1024];
            let _unused = stream.read(&mut request).await;
            let _unused = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            let _unused = stream.shutdown().await;
        });
    }
}
