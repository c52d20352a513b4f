//! Whether a configuration can work on this host: what `check --host` says, and the daemon at its start and after changes.
//!
//! [`Host`] is what the host has, [`compare`] what of it does not go with a configuration. Nothing here refuses a
//! configuration or takes traffic away: who runs an edge may be about to mend the host.

// What does not go with a host does not depend on when it is asked.
#![deny(clippy::disallowed_methods)]

mod findings;
mod host;
mod ports;
mod limits;
mod compare;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    compare::compare,
    host::{Host, HostError, Pinned},
};

/// Something of a configuration that does not go with the host that it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// What it is about: an interface, a service, a pool, a key.
    pub(crate) subject: String,
    /// What is so, and what follows.
    pub(crate) message: String,
    /// What to do.
    pub(crate) remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Traffic is lost for certain.
    Error,
    /// It may be, or is once something else happens.
    Warning,
}

impl Severity {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}\n  do: {}", self.severity.name(), self.subject, self.message, self.remedy)
    }
}
