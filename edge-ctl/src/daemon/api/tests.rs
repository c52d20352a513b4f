//! The API through its own router: requests, answers, refusals.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::*;
use crate::{
    bpf::boot_ms,
    control::{
        events::EventKind,
        fixture::{FakeDataPlane, inventory},
        status::{self, Clock, Sample},
    },
    daemon::{
        client::{Client, ClientError, LATER, SOON},
        controller::Controller,
        serve, socket,
    },
};

const CONNECTIONS: usize = 4;

struct Served {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    events: Events,
}

impl Served {
    async fn client(&self) -> Client {
        Client::connect(&self.socket, SOON).await.unwrap()
    }

    async fn refused(&self, path: &str, body: &Value) -> (u16, ErrorBody) {
        match self.client().await.post::<Value>(path, body).await {
            Err(ClientError::Refused { status, body }) => (status.as_u16(), body),
            other => panic!("not refused: {other:?}"),
        }
    }
}

/// The real routes on a real socket, and a loop over maps in plain memory.
fn serve() -> Served {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("edge.sock");
    let (listener, file) = socket::listen(&socket).unwrap();
    let events = Events::new();
    let (sender, mut commands) = mpsc::channel(8);
    let inventory = inventory();
    let plane = FakeDataPlane::fresh(&inventory);
    let mut controller = Controller::adopt(inventory, plane, events.clone()).unwrap();
    let (stay, ended) = oneshot::channel();
    tokio::spawn(serve::serve(listener, router(sender, Busy::default(), events.clone(), 2), CONNECTIONS, None, ended));
    tokio::spawn(async move {
        let _until_the_end = (file, stay);
        while let Some(request) = commands.recv().await {
            if request.is_late(boot_ms()) {
                request.command.refuse(Refusal::too_late());
                continue;
            }
            match request.command {
                Command::Alive(back) => back.send(Ok(())).unwrap(),
                Command::Status(back) => {
                    let Controller { inventory, plane, .. } = &controller;
                    let now = Sample::take(inventory, plane, Clock::now());
                    back.send(Ok(Box::new(status::build(inventory, plane, None, &now, None)))).unwrap();
                }
                Command::Operate(operation, back) => {
                    back.send(controller.operate(&operation).map_err(Refusal::from)).unwrap();
                }
                // Simulates a daemon that ends before it has answered.
                Command::Reload(_, back)
                | Command::Apply(_, back)
                | Command::Rollback(_, _, back)
                | Command::Confirm(back)
                | Command::Evacuate(_, _, back)
                | Command::Return(_, back)
                | Command::Weigh(_, back)
                | Command::Upgrade(back)
                | Command::Detach(back) => drop(back),
            }
        }
    });
    Served { _dir: dir, socket, events }
}

#[tokio::test]
async fn an_operator_drains_and_sees_it_in_the_status() {
    let served = serve();
    let body = json!({"reason": "disk swap"});
    let outcome: Outcome = served.client().await.post("/v1/backends/provider-a/a1/drain", &body).await.unwrap();
    assert_eq!(outcome.message, "provider-a/a1 is drained: it gets no new flows, and keeps its established ones");
    let status: Value = served.client().await.get("/v1/status").await.unwrap();
    let backend = &status["pools"][0]["backends"][0];
    assert_eq!(
        (&backend["state"], &backend["reason"]),
        (&json!("draining"), &json!("drained by an operator: disk swap"))
    );
    assert_eq!(served.events.kept()[0].kind, EventKind::BackendDrained);
}

#[tokio::test]
async fn a_bare_name_and_no_body_will_do() {
    let mut client = serve().client().await;
    let outcome: Outcome = client.post("/v1/backends/b2/disable", &json!({})).await.unwrap();
    assert!(outcome.changed);
}

#[tokio::test]
async fn refusals_have_a_status_an_error_and_a_hint() {
    let served = serve();
    let to = |pool: &str| json!({ "to": pool });
    for (path, body, status, error) in [
        (
            "/v1/backends/provider-a/a7/drain",
            json!({}),
            404,
            r#"no backend "provider-a/a7"; did you mean "provider-a/a1"?"#,
        ),
        ("/v1/backends/shared/drain", json!({}), 409, "several pools have a backend"),
        ("/v1/services/wep/failback", json!(null), 404, r#"no service "wep"; did you mean "web"?"#),
        (
            "/v1/services/dns/failover",
            to("provider-a"),
            404,
            r#"pool "provider-a" is not one of service "dns": it has provider-b"#,
        ),
        ("/v1/services/web/failover", json!({"too": "provider-b"}), 400, "the body is not valid for this request"),
        ("/v1/backends/provider-a/a1/kill", json!({}), 404, "there is nothing at this path"),
        ("/v1/else", json!({}), 404, "there is nothing at this path"),
        ("/v1/status", json!({}), 405, "this path is not for this method"),
        ("/v1/reload", json!({}), 503, "the daemon is stopping"),
    ] {
        let (got, body) = served.refused(path, &body).await;
        assert_eq!(got, status, "{path}: {body:?}");
        assert!(body.error.starts_with(error), "{path}: {body:?}");
        assert_eq!(body.hint.is_some(), status != 503, "{path}");
    }
}

#[tokio::test]
async fn events_are_followed_line_by_line() {
    let served = serve();
    served.events.report(EventKind::DaemonStarted, "edge-ctl", "started");
    let mut client = served.client().await;
    let mut kept = Vec::new();
    client
        .lines("/v1/events", |line| {
            kept.push(serde_json::from_slice::<Event>(line).unwrap().kind);
            true
        })
        .await
        .unwrap();
    assert_eq!(kept, [EventKind::DaemonStarted]);

    let mut seen = 0;
    let mut client = served.client().await;
    client
        .lines("/v1/events?follow=true", |line| {
            let event: Event = serde_json::from_slice(line).unwrap();
            seen += 1;
            if seen == 1 {
                served.events.report(EventKind::BackendDown, "provider-a/a1", "connection refused");
            }
            event.kind != EventKind::BackendDown
        })
        .await
        .unwrap();
    assert_eq!(seen, 2);
}

#[tokio::test]
async fn a_request_is_not_done_after_its_deadline() {
    let served = serve();
    let drain_with = async |header: &str| {
        let mut stream = UnixStream::connect(&served.socket).await.unwrap();
        let request = format!(
            "POST /v1/backends/a1/drain HTTP/1.1\r\nhost: edge\r\n{header}content-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let late = drain_with("edge-deadline: 1\r\n").await;
    assert!(late.starts_with("HTTP/1.1 408 ") && late.contains("was not done"), "{late}");
    assert!(drain_with("edge-deadline: soon\r\n").await.starts_with("HTTP/1.1 400 "));
    let in_time = drain_with(&format!("edge-deadline: {}\r\n", boot_ms() + 10_000)).await;
    assert!(in_time.contains("\"changed\":true"), "it was not done before: {in_time}");
    assert!(
        drain_with("").await.contains("\"changed\":false"),
        "a request without a deadline is done whenever it comes"
    );
}

#[tokio::test]
async fn requests_that_never_end_do_not_keep_others_out() {
    let served = serve();
    let mut halves = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut half = UnixStream::connect(&served.socket).await.unwrap();
        half.write_all(b"GET /v1/sta").await.unwrap();
        halves.push(half);
    }
    // All places are taken until the daemon's time limit ends a connection.
    let mut client = Client::connect(&served.socket, LATER).await.unwrap();
    client.get::<Value>("/v1/status").await.unwrap();
    let mut rest = Vec::new();
    halves[0].read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn a_loop_that_hangs_gets_no_long_request_and_one_at_long_work_does() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("edge.sock");
    let (listener, _file) = socket::listen(&socket).unwrap();
    let (sender, mut commands) = mpsc::channel(8);
    let (_stay, ended) = oneshot::channel();
    let busy = Busy::default();
    tokio::spawn(serve::serve(listener, router(sender, busy.clone(), Events::new(), 2), CONNECTIONS, None, ended));
    assert!(matches!(Client::connect_alive(&socket, LATER).await, Err(ClientError::Slow(SOON))));
    assert!(matches!(commands.try_recv().unwrap().command, Command::Alive(_)), "only the question whether it works");
    assert!(commands.try_recv().is_err());
    busy.begin();
    Client::connect_alive(&socket, LATER).await.unwrap();
    busy.end();
    assert!(matches!(Client::connect_alive(&socket, LATER).await, Err(ClientError::Slow(SOON))));
}

#[tokio::test]
async fn followers_are_bounded_and_a_place_is_free_again_once_one_has_gone() {
    let served = serve();
    let follow = async || {
        let mut stream = UnixStream::connect(&served.socket).await.unwrap();
        stream.write_all(b"GET /v1/events?follow=true HTTP/1.1\r\nhost: edge\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        (String::from_utf8_lossy(&head).into_owned(), stream)
    };
    let (first, second, third) = (follow().await, follow().await, follow().await);
    assert_eq!([&first.0[9..], &second.0[9..], &third.0[9..]], ["200", "200", "503"]);
    drop(first);
    // The daemon notices that the client has gone only when it sends something.
    for _ in 0..100 {
        served.events.report(EventKind::BackendUp, "provider-a/a1", "1 probe passed");
        tokio::time::sleep(Duration::from_millis(20)).await;
        if follow().await.0.ends_with("200") {
            return;
        }
    }
    panic!("its place stays taken");
}

#[tokio::test]
async fn a_reason_of_any_length_is_refused() {
    let served = serve();
    let reason = "x".repeat(257);
    let (status, body) = served.refused("/v1/backends/a1/drain", &json!({ "reason": reason })).await;
    assert_eq!((status, body.error.as_str()), (400, "the reason has 257 bytes, and may have 256"));
}
