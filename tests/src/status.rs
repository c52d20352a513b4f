//! What the lab reads of `edge-ctl status --json`.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// One backend as a status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendStatus {
    pub pool: String,
    pub name: String,
    pub health: String,
    /// Whether it is drained, disabled or neither, as the status calls it.
    pub admin: String,
}

/// Every backend of every pool.
///
/// # Errors
/// The object is not a status.
pub fn backends(status: &Value) -> Result<Vec<BackendStatus>> {
    let mut found = Vec::new();
    for pool in array(status, "pools")? {
        for backend in array(pool, "backends")? {
            found.push(BackendStatus {
                pool: text(pool, "name")?,
                name: text(backend, "name")?,
                health: text(backend, "health")?,
                admin: text(backend, "admin")?,
            });
        }
    }
    Ok(found)
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value.get(key).and_then(Value::as_array).with_context(|| format!("the status has no list `{key}`"))
}

fn text(value: &Value, key: &str) -> Result<String> {
    let found = value.get(key).and_then(Value::as_str).with_context(|| format!("the status has no text `{key}`"))?;
    Ok(found.to_owned())
}
