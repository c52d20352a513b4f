//! Requests about backends and services by their names.

use axum::{Json, body::Bytes, extract::Path};
use serde::{Deserialize, Serialize};

use super::{Caller, Command, Refusal, no_such_route, parse, request};
use crate::{
    control::{
        change::Weigh,
        operations::{Operation, Outcome, Terms},
    },
    health::Health,
};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackendBody {
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

/// A backend's health as set by an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HealthWord {
    Up,
    Down,
    /// As probes determine it.
    Auto,
}

impl HealthWord {
    pub(crate) const fn health(self) -> Option<Health> {
        match self {
            Self::Up => Some(Health::Up),
            Self::Down => Some(Health::Down),
            Self::Auto => None,
        }
    }

    pub(crate) const fn of(health: Option<Health>) -> Self {
        match health {
            Some(Health::Up) => Self::Up,
            Some(Health::Down) => Self::Down,
            Some(Health::Unknown) | None => Self::Auto,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthBody {
    pub(crate) health: HealthWord,
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailoverBody {
    pub(crate) to: String,
    #[serde(default)]
    pub(crate) evacuate: bool,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// Milliseconds until the failover is taken back.
    #[serde(default)]
    pub(crate) for_ms: Option<u64>,
}

pub(super) async fn backend(
    caller: Caller,
    Path((pool, backend, verb)): Path<(String, String, String)>,
    body: Bytes,
) -> Result<Json<Outcome>, Refusal> {
    set_backend(&caller, format!("{pool}/{backend}"), &verb, &body).await
}

pub(super) async fn bare_backend(
    caller: Caller,
    Path((backend, verb)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Outcome>, Refusal> {
    set_backend(&caller, backend, &verb, &body).await
}

async fn set_backend(caller: &Caller, backend: String, verb: &str, body: &[u8]) -> Result<Json<Outcome>, Refusal> {
    if verb == "health" {
        let HealthBody { health, reason } = parse(body)?;
        return operate(caller, Operation::Health { backend, health: health.health(), reason }).await;
    }
    let BackendBody { reason } = if body.is_empty() { BackendBody::default() } else { parse(body)? };
    let operation = match verb {
        "drain" => Operation::Drain { backend, reason },
        "enable" => Operation::Enable { backend, reason },
        "disable" => Operation::Disable { backend, reason },
        _ => return Err(no_such_route()),
    };
    operate(caller, operation).await
}

pub(super) async fn failover(
    caller: Caller,
    Path(service): Path<String>,
    body: Bytes,
) -> Result<Json<Outcome>, Refusal> {
    let FailoverBody { to, evacuate, reason, for_ms } = parse(&body)?;
    operate(&caller, Operation::Failover { service, to, evacuate, terms: Terms { reason, for_ms } }).await
}

pub(super) async fn failback(caller: Caller, Path(service): Path<String>) -> Result<Json<Outcome>, Refusal> {
    operate(&caller, Operation::Failback { service }).await
}

/// Sets the weights of several backends in one change of the tables.
pub(super) async fn weigh(caller: Caller, body: Bytes) -> Result<Json<Outcome>, Refusal> {
    let wanted: Weigh = parse(&body)?;
    Ok(Json(request(&caller, |back| Command::Weigh(wanted, back)).await?))
}

async fn operate(caller: &Caller, operation: Operation) -> Result<Json<Outcome>, Refusal> {
    Ok(Json(request(caller, |back| Command::Operate(operation, back)).await?))
}
