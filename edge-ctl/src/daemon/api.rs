//! The daemon's API: HTTP with JSON. Each request is handed to the one task that owns the maps.

mod operate;
mod refusal;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, FromRequestParts, Path, Query},
    http::{StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::stream::{self, StreamExt};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast::error::RecvError, mpsc, oneshot},
    task::spawn_blocking,
    time::timeout,
};

pub(crate) use self::{
    operate::{BackendBody, FailoverBody, HealthBody, HealthWord},
    refusal::{ErrorBody, Refusal},
};
use super::busy::Busy;
use crate::{
    config::{self, ConfigError, MAX_FILE},
    control::{
        change::{self, Candidate, How, Weigh, Words},
        evacuation,
        events::{self, Event, EventKind, Events},
        metrics,
        operations::{MAX_REASON, Operation, OperationError, Outcome},
        status::Status,
    },
};

/// Request header with the deadline: a request is not carried out after it.
pub(crate) const DEADLINE: &str = "edge-deadline";

/// Path of the question whether the loop works.
pub(crate) const ALIVE: &str = "/v1/alive";

/// A request to the task that owns the maps, with the sender for its result.
#[derive(Debug)]
pub(crate) enum Command {
    /// Whether requests are taken.
    Alive(oneshot::Sender<Result<(), Refusal>>),
    Status(oneshot::Sender<Result<Box<Status>, Refusal>>),
    Operate(Operation, Back),
    Reload(Words, Back),
    Apply(Box<Candidate>, Back),
    /// Rolls back to a generation, or to the last good one.
    Rollback(Option<u64>, Words, Back),
    Confirm(Back),
    Evacuate(String, evacuation::Wanted, Back),
    /// Ends the evacuation of a pool.
    Return(String, Back),
    Weigh(Weigh, Back),
    /// Restarts the daemon from its executable.
    Upgrade(Back),
    Detach(Back),
}

/// Sender for the outcome of a request.
pub(crate) type Back = oneshot::Sender<Result<Outcome, Refusal>>;

/// A command and its deadline: milliseconds of `CLOCK_BOOTTIME`, which all processes of a host share.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) deadline: Option<u64>,
}

impl Request {
    /// Whether the deadline has passed: the client has given up by then and acts otherwise.
    pub(crate) fn is_late(&self, boot_ms: u64) -> bool {
        self.deadline.is_some_and(|deadline| deadline < boot_ms)
    }
}

impl Command {
    /// Answers the command with a refusal.
    pub(crate) fn refuse(self, refusal: Refusal) {
        // The client may have gone.
        match self {
            Self::Alive(back) => drop(back.send(Err(refusal))),
            Self::Status(back) => drop(back.send(Err(refusal))),
            Self::Operate(_, back)
            | Self::Reload(_, back)
            | Self::Apply(_, back)
            | Self::Rollback(_, _, back)
            | Self::Confirm(back)
            | Self::Evacuate(_, _, back)
            | Self::Return(_, back)
            | Self::Weigh(_, back)
            | Self::Upgrade(back)
            | Self::Detach(back) => drop(back.send(Err(refusal))),
        }
    }
}

impl Words {
    /// Checks the lengths of the texts that are stored.
    fn check(&self) -> Result<(), Refusal> {
        let longest = [&self.reason, &self.by].into_iter().flatten().map(String::len).max();
        match longest {
            Some(length) if length > MAX_REASON => Err(OperationError::Reason { length }.into()),
            _ => Ok(()),
        }
    }
}

/// State shared by the handlers.
#[derive(Clone, Debug)]
struct Shared {
    commands: mpsc::Sender<Request>,
    busy: Busy,
    events: Events,
    followers: Arc<Semaphore>,
    /// Lets one configuration text be parsed at a time.
    reading: Arc<Semaphore>,
}

/// Context of a request: shared state and deadline.
struct Caller {
    shared: Shared,
    deadline: Option<u64>,
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let deadline = parts.headers.get(DEADLINE).map(|value| {
            let ms = value.to_str().ok().and_then(|text| text.parse().ok());
            ms.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, format!("the header {DEADLINE} is no number"), None))
        });
        Ok(Self { shared: shared.clone(), deadline: deadline.transpose()? })
    }
}

/// All routes.
///
/// At most `followers` clients may follow the events, limited to [`MOST_FOLLOWERS`].
pub(crate) fn router(commands: mpsc::Sender<Request>, busy: Busy, events: Events, followers: usize) -> Router {
    let followers = Arc::new(Semaphore::new(followers.clamp(1, MOST_FOLLOWERS)));
    Router::new()
        .route(ALIVE, get(alive))
        .route("/v1/status", get(status))
        .route("/v1/exits", get(exits))
        .route("/metrics", get(show_metrics))
        .route("/v1/events", get(follow_events))
        .route("/v1/backends/{backend}/{verb}", post(operate::bare_backend))
        .route("/v1/backends/{backend}/{verb}/{last}", post(operate::backend))
        .route("/v1/weights", post(operate::weigh))
        .route("/v1/services/{service}/failover", post(operate::failover))
        .route("/v1/services/{service}/failback", post(operate::failback))
        .route("/v1/pools/{pool}/evacuate", post(evacuate))
        .route("/v1/pools/{pool}/return", post(bring_back))
        .route("/v1/reload", post(reload))
        .route("/v1/apply", post(apply).layer(DefaultBodyLimit::max(2 * MAX_FILE)))
        .route("/v1/rollback", post(roll_back))
        .route("/v1/confirm", post(confirm))
        .route("/v1/upgrade", post(upgrade))
        .route("/v1/detach", post(detach))
        .fallback(async || no_such_route())
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this path is not for this method", Some(ROUTES))
        })
        .layer(middleware::from_fn(in_time))
        .with_state(Shared { commands, busy, events, followers, reading: Arc::new(Semaphore::new(1)) })
}

/// Most followers of the events, since each event is sent to each of them.
const MOST_FOLLOWERS: usize = 16;

/// Longest time until a request is answered, including the receipt of its body.
const LONGEST: Duration = Duration::from_secs(30);

async fn in_time(request: axum::extract::Request, next: Next) -> Response {
    timeout(LONGEST, next.run(request)).await.unwrap_or_else(|_| {
        let error = format!("the request was not complete, or not done, within {} s", LONGEST.as_secs());
        Refusal::new(StatusCode::GATEWAY_TIMEOUT, error, None).into_response()
    })
}

const ROUTES: &str = "GET /v1/alive, /v1/status, /v1/exits, /v1/events[?follow=true], /metrics; \
    POST /v1/backends/POOL/BACKEND/(drain|enable|disable|health), /v1/weights, /v1/services/NAME/(failover|failback), /v1/pools/NAME/(evacuate|return), /v1/reload, /v1/apply, /v1/rollback, /v1/confirm, /v1/upgrade, /v1/detach";

fn no_such_route() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path", Some(ROUTES))
}

/// Answers when the loop takes the question, or at once while the loop is at long work.
async fn alive(caller: Caller) -> Result<Json<()>, Refusal> {
    if !caller.shared.busy.is_at_work() {
        request(&caller, Command::Alive).await?;
    }
    Ok(Json(()))
}

async fn status(caller: Caller) -> Result<Json<Status>, Refusal> {
    Ok(Json(*request(&caller, Command::Status).await?))
}

async fn exits(caller: Caller) -> Result<Response, Refusal> {
    Ok(Json(request(&caller, Command::Status).await?.exits).into_response())
}

async fn show_metrics(caller: Caller) -> Result<Response, Refusal> {
    let status = request(&caller, Command::Status).await?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&status)).into_response())
}

#[derive(Debug, Default, Deserialize)]
struct Follow {
    #[serde(default)]
    follow: bool,
}

/// One JSON object per line: the kept events, then (with `follow`) new events as they occur.
async fn follow_events(caller: Caller, Query(Follow { follow }): Query<Follow>) -> Result<Response, Refusal> {
    let place = if follow { Some(place(&caller)?) } else { None };
    let (kept, coming) = caller.shared.events.subscribe();
    let kept = stream::iter(kept);
    let body = if follow {
        let coming = stream::unfold(Some((coming, place)), |coming| async {
            let (mut coming, place) = coming?;
            match coming.recv().await {
                // This is the last event; the stream then ends properly instead of with a broken connection.
                Ok(event) if event.kind == EventKind::DaemonStopped => Some((event, None)),
                Ok(event) => Some((event, Some((coming, place)))),
                Err(RecvError::Lagged(count)) => Some((events::lagged(count), Some((coming, place)))),
                Err(RecvError::Closed) => None,
            }
        });
        Body::from_stream(kept.chain(coming).map(line))
    } else {
        Body::from_stream(kept.map(line))
    };
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// Takes a place among the followers, freed when it is dropped.
fn place(caller: &Caller) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(&caller.shared.followers).try_acquire_owned().map_err(|_| {
        let error = "the maximum number of event streams is open";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error, Some("close one of them, or omit `follow`"))
    })
}

#[expect(clippy::needless_pass_by_value, clippy::unnecessary_wraps, reason = "the shape that a stream wants")]
fn line(event: Event) -> Result<Bytes, Infallible> {
    let mut line = serde_json::to_vec(&event).unwrap_or_default();
    line.push(b'\n');
    Ok(line.into())
}

async fn evacuate(caller: Caller, Path(pool): Path<String>, body: Bytes) -> Result<Json<Outcome>, Refusal> {
    let wanted = parse_or_default(&body)?;
    Ok(Json(request(&caller, |back| Command::Evacuate(pool, wanted, back)).await?))
}

async fn bring_back(caller: Caller, Path(pool): Path<String>) -> Result<Json<Outcome>, Refusal> {
    Ok(Json(request(&caller, |back| Command::Return(pool, back)).await?))
}

async fn reload(caller: Caller, body: Bytes) -> Result<Json<Outcome>, Refusal> {
    let words: Words = parse_or_default(&body)?;
    words.check()?;
    Ok(Json(request(&caller, |back| Command::Reload(words, back)).await?))
}

/// A configuration's text, and the options given with it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ApplyBody {
    pub(crate) text: String,
    /// Path of the file, for messages and for the history.
    pub(crate) file: String,
    #[serde(flatten)]
    pub(crate) words: Words,
}

/// Longest file name, bytes, since it is kept with the generation: `PATH_MAX` of Linux.
const LONGEST_PATH: usize = 4096;

async fn apply(caller: Caller, body: Bytes) -> Result<Json<Outcome>, Refusal> {
    let ApplyBody { text, file, words } = parse(&body)?;
    drop(body);
    words.check()?;
    if file.len() > LONGEST_PATH || file.contains(char::is_control) {
        let error = format!("the file's name is longer than {LONGEST_PATH} bytes, or has control characters");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, error, Some("nothing was changed")));
    }
    // Parsed outside the main loop, like the daemon's own file.
    let _turn = Arc::clone(&caller.shared.reading).acquire_owned().await.map_err(|_| stopping())?;
    let read = spawn_blocking(move || {
        let config = config::parse(&text, &file)?;
        Ok::<_, ConfigError>((change::look(&config), config, file))
    });
    let read = read.await.map_err(|error| Refusal::internal(&error))?;
    let (host, config, file) =
        read.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string(), Some("nothing was changed")))?;
    let candidate =
        Box::new(Candidate { config, how: How::Apply, file: Some(file), words, text_of: None, host: Some(host) });
    Ok(Json(request(&caller, |back| Command::Apply(candidate, back)).await?))
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct RollbackBody {
    #[serde(default)]
    pub(crate) generation: Option<u64>,
    #[serde(flatten)]
    pub(crate) words: Words,
}

async fn roll_back(caller: Caller, body: Bytes) -> Result<Json<Outcome>, Refusal> {
    let RollbackBody { generation, words } = parse_or_default(&body)?;
    words.check()?;
    Ok(Json(request(&caller, |back| Command::Rollback(generation, words, back)).await?))
}

async fn confirm(caller: Caller) -> Result<Json<Outcome>, Refusal> {
    Ok(Json(request(&caller, Command::Confirm).await?))
}

/// Parses a body; an empty one gives the default.
fn parse_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Refusal> {
    if body.is_empty() || body == b"null" { Ok(T::default()) } else { parse(body) }
}

async fn upgrade(caller: Caller) -> Result<Json<Outcome>, Refusal> {
    Ok(Json(request(&caller, Command::Upgrade).await?))
}

async fn detach(caller: Caller) -> Result<Json<Outcome>, Refusal> {
    Ok(Json(request(&caller, Command::Detach).await?))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not valid for this request: {error}"),
            Some(
                r#"drain, enable, disable: nothing or {"reason": TEXT}; health: {"health": "up"|"down"|"auto", "reason": TEXT};
weights: {"backends": [NAME], "weight": N or null, "reason": TEXT}; failover: {"to": POOL, "evacuate": BOOL, "reason": TEXT, "for_ms": N}"#,
            ),
        )
    })
}

fn stopping() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping", None)
}

async fn request<T>(
    Caller { shared, deadline }: &Caller,
    command: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Command,
) -> Result<T, Refusal> {
    submit(&shared.commands, *deadline, command).await
}

/// Hands a command to the daemon's loop, and waits for the answer.
pub(super) async fn submit<T>(
    commands: &mpsc::Sender<Request>,
    deadline: Option<u64>,
    command: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Command,
) -> Result<T, Refusal> {
    let (back, answer) = oneshot::channel();
    let request = Request { command: command(back), deadline };
    commands.send(request).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())?
}

#[cfg(test)]
mod tests;
