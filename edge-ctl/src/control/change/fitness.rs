//! The preflight of a change: a configuration that certainly loses traffic on this host is refused, unless what does so is
//! in force already. A start and a way back are not refused: traffic is served as far as it can be.

use thiserror::Error;

use super::{Candidate, Look};
use crate::{
    config::Config,
    control::chain,
    preflight::{Finding, Host, Pinned, Severity, compare},
};

/// Why a configuration was not examined or does not go with this host.
#[derive(Debug, Error)]
pub(crate) enum Unfit {
    #[error(
        "the change does not go with this host:\n{}\nto apply it all the same, add --allow-unfit",
        lines(.0).join("\n")
    )]
    Brings(Vec<Finding>),
    #[error("this host cannot be examined: {0}; to apply the change all the same, add --allow-unfit")]
    Unknown(String),
}

/// Looks at this host for findings about `config`. Blocks, for seconds with ten thousand backends; not for asynchronous
/// code.
pub(crate) fn look(config: &Config) -> Look {
    // What does not fit into the pinned maps gets others.
    let host = Host::read(config, Pinned::Nothing).map_err(|error| chain(&error))?;
    Ok(compare(config, &host))
}

/// The findings without those that are `known` about the same subject, from the configuration in force: a change is not
/// to blame for these.
pub(crate) fn less(found: Vec<Finding>, known: &[Finding]) -> Vec<Finding> {
    found.into_iter().filter(|new| !known.iter().any(|old| old.is_like(new))).collect()
}

/// What `config` brings that `in_force` does not have. Blocks like [`look`].
pub(crate) fn brings(in_force: Option<&Config>, config: &Config) -> Look {
    let found = look(config)?;
    let known = in_force.filter(|_| !found.is_empty()).map(look).transpose()?;
    Ok(less(found, &known.unwrap_or_default()))
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
    pub(crate) fn fits(&self, brought: Look) -> Result<Vec<String>, Unfit> {
        match brought {
            Ok(brought) if self.words.allow_unfit || !loses(&brought) => Ok(lines(&brought)),
            Ok(brought) => Err(Unfit::Brings(brought)),
            Err(why) if self.words.allow_unfit => Ok(vec![format!("this host cannot be examined: {why}")]),
            Err(why) => Err(Unfit::Unknown(why)),
        }
    }
}

/// Whether traffic is certainly lost.
pub(crate) fn loses(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
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
