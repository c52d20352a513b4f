//! The preflight of a change: a configuration that certainly loses traffic on this host is refused, unless what does so is
//! in force already. A start and a way back are not refused: traffic is served as far as it can be.

use thiserror::Error;

use super::Candidate;
use crate::{
    config::Config,
    preflight::{Finding, Host, HostError, Pinned, Severity, compare},
};

/// Why a configuration was not examined or does not go with this host.
#[derive(Debug, Error)]
pub(crate) enum Unfit {
    #[error(
        "the change does not go with this host:\n{}\nto apply it all the same, add --allow-unfit",
        lines(.0).join("\n")
    )]
    Brings(Vec<Finding>),
    #[error("this host cannot be examined; to apply the change all the same, add --allow-unfit")]
    Unknown(#[from] HostError),
    #[error("this host could not be examined in time; to apply the change all the same, add --allow-unfit")]
    Late,
}

/// Findings about `config` on this host, without those that `in_force` has about the same subject: a change is not to
/// blame for these. Blocks; not for asynchronous code.
pub(crate) fn brings(in_force: Option<&Config>, config: &Config) -> Result<Vec<Finding>, HostError> {
    let found = |config: &Config| -> Result<_, HostError> {
        // What does not fit into the pinned maps gets others.
        Ok(compare(config, &Host::read(config, Pinned::Nothing)?))
    };
    let mut new = found(config)?;
    if let Some(in_force) = in_force.filter(|_| !new.is_empty()) {
        let known = found(in_force)?;
        let is_known =
            |new: &Finding| known.iter().any(|old| (old.severity, &old.subject) == (new.severity, &new.subject));
        new.retain(|new| !is_known(new));
    }
    Ok(new)
}

impl Candidate {
    /// Whether the candidate must go with this host.
    pub(crate) const fn must_fit(&self) -> bool {
        !self.how.is_back() && !matches!(self.how, super::How::Start)
    }

    /// Accepts the findings that the candidate brings, or not; returns warnings.
    ///
    /// # Errors
    /// When traffic would certainly be lost, or that is unknown, and the operator has not allowed it.
    pub(crate) fn fits(&self, brought: Result<Vec<Finding>, Unfit>) -> Result<Vec<String>, Unfit> {
        match brought {
            Ok(brought) if self.words.allow_unfit || brought.iter().all(|new| new.severity == Severity::Warning) => {
                Ok(lines(&brought))
            }
            Ok(brought) => Err(Unfit::Brings(brought)),
            Err(error) if self.words.allow_unfit => Ok(vec![crate::control::chain(&error)]),
            Err(error) => Err(error),
        }
    }
}

fn lines(findings: &[Finding]) -> Vec<String> {
    let mut lines: Vec<_> = findings.iter().take(SHOWN).map(ToString::to_string).collect();
    if let Some(more @ 1..) = findings.len().checked_sub(SHOWN) {
        lines.push(format!("and {more} more: `edge-ctl check --host` lists them"));
    }
    lines
}

/// Most findings in one answer.
const SHOWN: usize = 20;
