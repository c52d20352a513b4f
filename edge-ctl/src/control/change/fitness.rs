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
    #[error("{}\nto apply it all the same, add {ALLOW_UNFIT}", brought(.0))]
    Brings(Vec<Finding>),
    #[error("{}; to apply the change all the same, add {ALLOW_UNFIT}", unknown(.0))]
    Unknown(String),
}

impl Unfit {
    /// The reason without the option that overrules it.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Brings(findings) => brought(findings),
            Self::Unknown(why) => unknown(why),
        }
    }
}

/// The option that allows it.
pub(super) const ALLOW_UNFIT: &str = "--allow-unfit";

fn brought(findings: &[Finding]) -> String {
    format!("the change does not go with this host:\n{}", lines(findings).join("\n"))
}

fn unknown(why: &str) -> String {
    format!("this host cannot be examined: {why}")
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

    /// Accepts what the candidate brings to this host, or not.
    ///
    /// # Errors
    /// When traffic would certainly be lost, or that is unknown, and the operator has not allowed it.
    pub(super) fn fits(&self) -> Result<(), Unfit> {
        match &self.host {
            _ if self.words.allow_unfit => Ok(()),
            Some(Ok(brought)) if loses(brought) => Err(Unfit::Brings(brought.clone())),
            Some(Err(why)) => Err(Unfit::Unknown(why.clone())),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Warnings about this host for the operator of an accepted candidate.
    pub(crate) fn warnings(&self) -> Vec<String> {
        match &self.host {
            Some(Ok(brought)) => lines(brought),
            Some(Err(why)) => vec![unknown(why)],
            None => Vec::new(),
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
