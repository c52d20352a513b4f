//! A configuration that is to come into force: its content, its origin, and what the operator allows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, Weights},
    preflight::Finding,
};

/// A valid configuration that is not in force yet.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) config: Config,
    pub(crate) how: How,
    /// The file that it was read from.
    pub(crate) file: Option<String>,
    pub(crate) words: Words,
    /// The earlier generation whose text this is.
    pub(crate) text_of: Option<u64>,
    /// What it brings to this host that the configuration in force does not have; `None` if it need not go with this
    /// host. Until the two were compared, all that a look at this host has found about it.
    pub(crate) host: Option<Look>,
}

/// Findings about a configuration on this host, or why it cannot be examined.
pub(crate) type Look = Result<Vec<Finding>, String>;

impl Candidate {
    /// The candidate with the weights of operators that are in force; those that it brings itself are for further backends.
    pub(crate) fn weighted(mut self, in_force: &Weights) -> Self {
        let weights = in_force.clone().and(self.config.weights.clone());
        self.config = self.config.weighted(&weights);
        self
    }

    /// A line about the end of the candidate's trial, if it comes into force on trial.
    pub(crate) fn deadline(&self) -> Option<String> {
        self.words.confirm().map(|confirm| {
            let confirm = humantime::format_duration(confirm);
            format!("it is undone in {confirm}, unless `edge-ctl confirm` comes before")
        })
    }

    /// Why the generation in force is given up for this one, if the change takes it back.
    pub(crate) fn why_undone(&self) -> Option<String> {
        let Words { reason, .. } = &self.words;
        match (self.how, reason) {
            (How::Undo, reason) => Some(reason.clone().unwrap_or_default()),
            (How::Rollback, Some(reason)) => Some(format!("rolled back by an operator: {reason}")),
            (How::Rollback, None) => Some("rolled back by an operator".to_owned()),
            (How::Start | How::Sighup | How::Reload | How::Apply | How::Restored | How::Unknown, _) => None,
        }
    }
}

/// Options that an operator gives with a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Words {
    /// Number of removals that are allowed: see the guard.
    pub(crate) allow_removal: u32,
    /// Whether flows may move.
    pub(crate) allow_moves: bool,
    /// Whether the change may come into force without a rehearsal, or although its rehearsal fails.
    pub(crate) allow_unrehearsed: bool,
    /// Whether the change may come into force although it certainly loses traffic on this host, or that is unknown.
    pub(crate) allow_unfit: bool,
    /// Milliseconds after which the change is undone, unless it is confirmed.
    pub(crate) confirm_ms: Option<u64>,
    pub(crate) reason: Option<String>,
    /// Name of the operator, as given by the operator.
    pub(crate) by: Option<String>,
}

impl Words {
    pub(crate) fn confirm(&self) -> Option<Duration> {
        self.confirm_ms.map(Duration::from_millis)
    }

    /// The end of a trial that begins now, in milliseconds of `CLOCK_BOOTTIME`.
    pub(crate) fn until(&self, now_ms: u64) -> Option<u64> {
        self.confirm_ms.map(|confirm| now_ms.saturating_add(confirm))
    }
}

/// How a generation came into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    Start,
    Sighup,
    Reload,
    Apply,
    /// The text of an earlier generation, by an operator's request.
    Rollback,
    /// The text of an earlier generation, since the one on trial was not confirmed, or took availability away.
    Undo,
    /// The text of a generation before the reboot, in place of a bad file.
    Restored,
    /// By a program that keeps no history.
    Unknown,
}

impl How {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Sighup => "SIGHUP",
            Self::Reload => "reload",
            Self::Apply => "apply",
            Self::Rollback => "rollback",
            Self::Undo => "undo",
            Self::Restored => "restored",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the text is that of the daemon's own file.
    pub(crate) const fn is_of_file(self) -> bool {
        matches!(self, Self::Start | Self::Sighup | Self::Reload)
    }

    /// Whether an earlier configuration comes back: nothing in it is new, so nothing in it is refused.
    pub(crate) const fn is_back(self) -> bool {
        matches!(self, Self::Rollback | Self::Undo | Self::Restored)
    }
}
