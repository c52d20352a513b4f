//! What the lab reads of `edge-ctl status --json`.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// One backend as a status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendStatus {
    pub pool: String,
    pub name: String,
    pub health: String,
    /// What it is there for: operator's will and health together.
    pub state: String,
}

/// Every backend of every pool.
///
/// # Errors
/// The object is not a status.
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

/// How many packets left by the exit of this name.
///
/// # Errors
/// The object is not a status, or has no such exit.
pub fn exit(status: &Value, name: &str) -> Result<u64> {
    let exits = array(status, "exits")?;
    let found = exits.iter().find(|exit| exit.get("name").and_then(Value::as_str) == Some(name));
    let packets = found.and_then(|exit| exit.get("packets")).and_then(Value::as_u64);
    packets.with_context(|| format!("the status has no exit `{name}`"))
}

/// Whether the daemon made this status, rather than the command line from pinned maps.
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
