//! The routes over TCP: all of them are read, and none changes anything.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, Request as HttpRequest, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};

use crate::{
    bpf::boot_ms,
    control::{
        events::{Event, Events},
        headline::{Headline, headline},
        metrics,
        status::Status,
    },
    daemon::api::{Command, Refusal, Request, submit},
};

const PAGE: &str = include_str!("page.html");

/// A status that is so old is good enough for the next request: many readers cost the loop no more than one.
const FRESH: Duration = Duration::from_millis(500);
/// How long the loop may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Events that a page is given, unless its request names another number.
const LAST: usize = 50;

const ROUTES: &str = "GET /, /metrics, /v1/status, /v1/page, /v1/events[?last=N]; requests that change something go \
                      to the daemon's socket: use edge-ctl";

/// Nothing from elsewhere, and nothing that stays.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
];

#[derive(Clone, Debug)]
struct Shown {
    commands: mpsc::Sender<Request>,
    events: Events,
    last: Arc<Mutex<Option<Recent>>>,
}

/// A status, and when it was requested.
#[derive(Debug)]
struct Recent {
    at: Instant,
    status: Arc<Status>,
}

/// The routes. `private`: only this host can connect, so a request by another host's name comes from a web page in a
/// browser on this host, and is refused.
pub(super) fn router(commands: mpsc::Sender<Request>, events: Events, private: bool) -> Router {
    let routes = Router::new()
        .route("/", get(page))
        .route("/metrics", get(show_metrics))
        .route("/v1/status", get(status))
        .route("/v1/page", get(page_data))
        .route("/v1/events", get(last_events))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path", Some(ROUTES)))
        .method_not_allowed_fallback(async || {
            let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this address is read only", Some(ROUTES));
            ([(header::ALLOW, "GET, HEAD")], refusal).into_response()
        })
        .with_state(Shown { commands, events, last: Arc::default() });
    let routes = if private { routes.layer(middleware::from_fn(to_this_host)) } else { routes };
    routes.layer(middleware::from_fn(guarded))
}

async fn guarded(request: HttpRequest, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn to_this_host(request: HttpRequest, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if host.is_none_or(is_this_host) {
        return next.run(request).await;
    }
    let hint = "use an address or localhost in the URL";
    let error = "this address is for requests from this host only, and the `Host` header has the name of another host";
    Refusal::new(StatusCode::MISDIRECTED_REQUEST, error, Some(hint)).into_response()
}

/// Whether `host` is an address or `localhost`, with a port or without one.
fn is_this_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

async fn page() -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response()
}

/// All that the page shows.
#[derive(Serialize)]
struct PageData<'a> {
    headline: Headline,
    status: &'a Status,
    /// The newest last.
    events: Vec<Event>,
}

async fn page_data(State(shown): State<Shown>) -> Result<Response, Refusal> {
    let status = shown.status().await?;
    let events = shown.events.last(LAST);
    Ok(Json(PageData { headline: headline(&status), status: &status, events }).into_response())
}

async fn status(State(shown): State<Shown>) -> Result<Response, Refusal> {
    Ok(Json(&*shown.status().await?).into_response())
}

async fn show_metrics(State(shown): State<Shown>) -> Result<Response, Refusal> {
    let status = shown.status().await?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&status)).into_response())
}

#[derive(Debug, Deserialize)]
struct Last {
    last: Option<usize>,
}

async fn last_events(State(shown): State<Shown>, Query(Last { last }): Query<Last>) -> Response {
    let events = shown.events.last(last.unwrap_or(usize::MAX));
    let line = |event: &Event| serde_json::to_string(event).unwrap_or_default() + "\n";
    let lines: String = events.iter().map(line).collect();
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from(lines)).into_response()
}

impl Shown {
    /// One request at a time goes to the loop; requests that wait meanwhile get the same answer.
    async fn status(&self) -> Result<Arc<Status>, Refusal> {
        let mut last = self.last.lock().await;
        if let Some(known) = last.as_ref().filter(|known| known.at.elapsed() < FRESH) {
            return Ok(Arc::clone(&known.status));
        }
        let hangs =
            || Refusal::new(StatusCode::GATEWAY_TIMEOUT, "the daemon is busy, and did not answer in time", None);
        let patience = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
        let deadline = Some(boot_ms().saturating_add(patience));
        let answer = submit(&self.commands, deadline, Command::Status);
        let status: Arc<Status> = Arc::from(timeout(PATIENCE, answer).await.map_err(|_| hangs())??);
        *last = Some(Recent { at: Instant::now(), status: Arc::clone(&status) });
        Ok(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for elsewhere in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!PAGE.replace("http://www.w3.org/2000/svg", "").contains(elsewhere), "{elsewhere}");
        }
        // What comes from operators and backends is text, whatever its content.
        for unsafe_way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!PAGE.contains(unsafe_way), "{unsafe_way}");
        }
    }

    #[test]
    fn a_name_of_another_host_is_distinguished_from_addresses() {
        for ours in ["localhost", "LocalHost:9180", "127.0.0.1:9180", "127.0.0.1", "[::1]:9180", "[::1]"] {
            assert!(is_this_host(ours), "{ours}");
        }
        for other in ["example.org", "localhost.example.org:9180", "127.0.0.1.example.org", "", "edge1:9180"] {
            assert!(!is_this_host(other), "{other}");
        }
    }
}
