//! What is probed: a process of its own, so that its work is not taken for the engine's.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
};

use axum::{Router, routing::get};
use tokio::net::TcpListener;

/// The argument that makes this program the server.
pub(crate) const VERB: &str = "serve";
/// Port that takes connections and closes them.
pub(crate) const TCP: u16 = 7000;
/// Port that answers `GET /healthz`.
pub(crate) const HTTP: u16 = 8000;

const READY: &str = "ready";

/// The running server; it ends with its owner, however that ends: it reads from a pipe that nobody writes to.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start() -> Self {
        let this = std::env::current_exe().expect("this program's file");
        let mut child =
            Command::new(this).arg(VERB).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("the server's word");
        assert_eq!(line.trim_end(), READY, "the server did not start");
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // Without its pipe it goes; this is for the one that hangs.
        let _unused = (self.0.kill(), self.0.wait());
    }
}

/// Serves until standard input ends.
pub(crate) fn serve() {
    std::thread::spawn(|| {
        let _unused = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, TCP)).await.expect("a free port");
        let http = TcpListener::bind((Ipv4Addr::UNSPECIFIED, HTTP)).await.expect("a free port");
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
