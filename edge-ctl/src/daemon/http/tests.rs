//! Over real sockets of loopback, and a loop over maps in plain memory.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
};

use tokio::task::spawn_blocking;

use super::*;
use crate::{
    control::{
        fixture::{FakeDataPlane, inventory},
        status::{self, Clock, Sample},
    },
    daemon::api::Command,
};

/// Answers for a status, as the loop does.
fn commands() -> mpsc::Sender<Request> {
    let (sender, mut commands) = mpsc::channel(8);
    tokio::spawn(async move {
        let inventory = inventory();
        let plane = FakeDataPlane::fresh(&inventory);
        while let Some(Request { command, .. }) = commands.recv().await {
            let Command::Status(back) = command else { panic!("not to be read: {command:?}") };
            let now = Sample::take(&inventory, &plane, Clock::now());
            let _ = back.send(Ok(Box::new(status::build(&inventory, &plane, None, &now, None))));
        }
    });
    sender
}

/// A port that is free now.
fn free() -> SocketAddr {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The whole answer to a request.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let request = request.to_owned();
    let answer = spawn_blocking(move || {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, io::Error>(answer)
    });
    answer.await.unwrap().unwrap()
}

async fn get(address: SocketAddr, path: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n")).await
}

#[tokio::test]
async fn what_can_be_read_is_read_and_nothing_is_changed() {
    let (events, address) = (Events::new(), free());
    events.report(EventKind::BackendDown, "provider-a/a1", "<script>");
    let mut http = Http::new(commands(), 8);
    http.follow(Some(address), &events);
    let page = get(address, "/").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("text/html") && page.contains("default-src 'none'"));
    assert!(get(address, "/metrics").await.contains("edge_generation 7.0"));
    assert!(get(address, "/v1/status").await.contains("\"provider-a/a1\""));
    assert!(get(address, "/v1/page").await.contains("\"headline\":{\"level\":\"warning\""));
    let last = get(address, "/v1/events?last=1").await;
    assert!(last.contains("<script>") && last.contains("application/x-ndjson"), "{last}");
    assert!(get(address, "/v1/nothing").await.starts_with("HTTP/1.1 404"));
    for request in [
        "POST / HTTP/1.1",
        "PUT /v1/status HTTP/1.1",
        "DELETE /metrics HTTP/1.1",
        "OPTIONS / HTTP/1.1",
        "TRACE / HTTP/1.1",
    ] {
        let refused = exchange(address, &format!("{request}\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")).await;
        assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET, HEAD"), "{refused}");
    }
    let post = "POST /v1/backends/provider-a/a1/drain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    assert!(exchange(address, post).await.starts_with("HTTP/1.1 404"), "that is the socket's alone");
    let head = exchange(address, "HEAD /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    let other = exchange(address, "GET /v1/status HTTP/1.1\r\nhost: evil.example.org\r\n\r\n").await;
    assert!(other.starts_with("HTTP/1.1 421"), "{other}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_alarm_and_served_once_it_is_free() {
    let (events, other) = (Events::new(), StdListener::bind("127.0.0.1:0").unwrap());
    let address = other.local_addr().unwrap();
    let mut http = Http::new(commands(), 8);
    http.follow(Some(address), &events);
    http.look(&events);
    let why = http.status().unwrap().why.unwrap();
    assert!(why.contains("Address already in use") && why.contains("ss -ltnp"), "{why}");
    assert_eq!(events.kept().iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::LocalFault], "once");
    drop(other);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    http.look(&events);
    assert_eq!(http.status().unwrap().why, None);
    assert_eq!(events.kept().last().unwrap().kind, EventKind::Attached);
    assert!(get(address, "/").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_change_leaves_the_one_before_until_its_successor_stands() {
    let (events, first, second) = (Events::new(), free(), free());
    let taken = StdListener::bind(second).unwrap();
    let mut http = Http::new(commands(), 8);
    http.follow(Some(first), &events);
    http.follow(Some(second), &events);
    assert!(get(first, "/").await.starts_with("HTTP/1.1 200"), "it serves on");
    drop(taken);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    http.look(&events);
    assert!(get(second, "/").await.starts_with("HTTP/1.1 200"));
    let is_closed = || spawn_blocking(move || TcpStream::connect(first).is_err());
    let mut tries = 0;
    while !is_closed().await.unwrap() && tries < 100 {
        tries += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(tries < 100, "the one before has ended");
    // The same port at all addresses: its own listener is in the way, for a moment.
    let everywhere = SocketAddr::from(([0, 0, 0, 0], second.port()));
    http.follow(Some(everywhere), &events);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    http.look(&events);
    assert_eq!(http.status().unwrap().why, None);
    let alarms = events.kept().iter().filter(|event| event.kind == EventKind::LocalFault).count();
    assert_eq!(alarms, 1, "only for the address that was in use");
    http.follow(None, &events);
    assert_eq!(http.status(), None);
}

#[tokio::test]
async fn silent_connections_block_others_only_briefly() {
    let (events, address) = (Events::new(), free());
    let mut http = Http::new(commands(), 2);
    http.follow(Some(address), &events);
    let silent: Vec<_> = (0..6).map(|_| TcpStream::connect(address).unwrap()).collect();
    let sent = Instant::now();
    assert!(get(address, "/").await.starts_with("HTTP/1.1 200"));
    // Two at a time have three seconds each for their head.
    assert!(sent.elapsed() < Duration::from_secs(14), "{:?}", sent.elapsed());
    thread::spawn(move || drop(silent));
}
