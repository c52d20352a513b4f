//! Whether a configuration can work on this host: reported by `check --host`, and by the daemon at its start and after
//! changes.
//!
//! [`Host`] has the host's properties; [`compare`] finds those that do not fit a configuration. Nothing here diverts
//! traffic or refuses a configuration: the operator may be about to fix the host. A change that brings an error is
//! refused by `control/change/fitness.rs`.

// The result does not depend on the time.
#![deny(clippy::disallowed_methods)]

mod authorities;
mod findings;
mod probes;
mod host;
mod ports;
mod limits;
mod compare;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    authorities::{authorities, text_of_authorities},
    compare::compare,
    host::{Host, HostError, Pinned, of_interface},
};
use crate::config::Config;

/// A part of a configuration that does not fit its host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// The subject of the finding: an interface, a service, a pool, a key.
    pub(crate) subject: String,
    /// The fact and its consequence.
    pub(crate) message: String,
    /// The remedy.
    pub(crate) remedy: String,
}

impl Finding {
    /// Whether `other` is about the same subject and of the same severity, perhaps in other words.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (self.severity, &self.subject) == (other.severity, &other.subject)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Traffic is certainly lost.
    Error,
    /// Traffic may be lost, or will be once something else happens.
    Warning,
}

/// A warning for each pattern of `include` that matched no file: it may be misspelled.
pub(crate) fn unmatched(config: &Config) -> impl Iterator<Item = Finding> {
    config.unmatched().map(|pattern| Finding {
        severity: Severity::Warning,
        subject: "include".to_owned(),
        message: format!("no file matches \"{pattern}\""),
        remedy: "correct the pattern, or ignore this if there is to be no such file yet".to_owned(),
    })
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
