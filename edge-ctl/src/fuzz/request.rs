//! A request to the API, through the real routes, to a daemon that refuses everything.

use axum::{
    body::Body,
    http::{Method, Request},
};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::sync::mpsc;

use super::check;
use crate::{
    control::{events::Events, operations::MAX_REASON},
    daemon::{
        api::{self, Command, ErrorBody, Refusal, router},
        busy::Busy,
    },
};

/// Format of `bytes`: `POST /v1/reload`, then one header per line, an empty line, and the body.
pub(super) fn request(bytes: &[u8]) {
    let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = (&bytes[..end], bytes.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut words = lines.next().unwrap_or_default().splitn(2, |byte| *byte == b' ');
    let method = words.next().and_then(|method| Method::from_bytes(method).ok());
    let (Some(method), Some(path)) = (method, words.next()) else { return };
    let mut request = Request::builder().method(method).uri(path);
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        request = request.header(&line[..at], line.get(at + 1..).unwrap_or_default().trim_ascii());
    }
    // The HTTP library refuses bytes that are no request.
    let Ok(request) = request.body(Body::from(body.to_vec())) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(answered(request));
}

async fn answered(request: Request<Body>) {
    let (sender, mut commands) = mpsc::channel::<api::Request>(1);
    let daemon = async {
        while let Some(request) = commands.recv().await {
            if let Command::Apply(candidate, _) = &request.command {
                assert!(candidate.words.reason.as_ref().is_none_or(|reason| reason.len() <= MAX_REASON));
                assert!(candidate.file.as_ref().is_none_or(|file| file.len() <= 4096), "a path of any length is kept");
            }
            request.command.refuse(Refusal::too_late());
        }
    };
    let client = async {
        let routes = TowerToHyperService::new(router(sender, Busy::default(), Events::new(), 1));
        let answer = routes.call(request).await.expect("it has no other errors");
        let status = answer.status();
        // The body of a successful answer can be an endless stream of events.
        if status.is_success() {
            return;
        }
        let body = answer.into_body().collect().await.expect("it is in memory").to_bytes();
        // Refusals of the HTTP layer itself are plain text.
        if let Ok(ErrorBody { error, hint }) = serde_json::from_slice(&body) {
            check(&error);
            if let Some(hint) = &hint {
                check(hint);
            }
        }
    };
    tokio::join!(daemon, client);
}
