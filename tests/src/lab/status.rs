//! Reads `edge-ctl status --json`.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A backend in a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendStatus {
    pub pool: String,
    pub name: String,
    pub health: String,
    /// The resulting state, from the operator's will and from health.
    pub state: String,
}

/// Every backend of every pool.
///
/// # Errors
/// If the object is not a status.
pub fn backends(status: &Value) -> Result<Vec<BackendStatus>> {
    let mut found = Vec::new();
    for pool in array(status, "pools")? {
        for backend in array(pool, "backends")? {
            let whole = text(backend, "name")?;
            let (pool, name) = whole.split_once('/').context("a backend's name is POOL/BACKEND")?;
            found.push(BackendStatus {
                pool: pool.to_owned(),
                name: name.to_owned(),
                health: text(backend, "health")?,
                state: text(backend, "state")?,
            });
        }
    }
    Ok(found)
}

/// Number of packets that left by the exit `name`.
///
/// # Errors
/// If the object is not a status, or has no such exit.
pub fn exit(status: &Value, name: &str) -> Result<u64> {
    let exits = array(status, "exits")?;
    let found = exits.iter().find(|exit| exit.get("name").and_then(Value::as_str) == Some(name));
    let packets = found.and_then(|exit| exit.get("packets")).and_then(Value::as_u64);
    packets.with_context(|| format!("the status has no exit `{name}`"))
}

/// Whether the status comes from the daemon, not from pinned maps by the command line.
pub fn is_by_daemon(status: &Value) -> bool {
    status.get("source").and_then(Value::as_str) == Some("daemon")
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value.get(key).and_then(Value::as_array).with_context(|| format!("the status has no list `{key}`"))
}

fn text(value: &Value, key: &str) -> Result<String> {
    let found = value.get(key).and_then(Value::as_str).with_context(|| format!("the status has no text `{key}`"))?;
    Ok(found.to_owned())
}
