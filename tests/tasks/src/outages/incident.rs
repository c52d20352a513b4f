//! A row of the museum.

use anyhow::Result;
use serde::Serialize;

use super::stage::Stage;

/// A real outage, and its replay.
#[derive(Clone, Copy)]
pub(super) struct Incident {
    /// Name for `cargo xtask outages NAME`.
    pub(super) name: &'static str,
    /// The company, the date, and the fault.
    pub(super) story: &'static str,
    /// The replay's steps in the lab.
    pub(super) done: &'static str,
    /// The required result.
    pub(super) expected: &'static str,
    /// Whether an edge like this one, in front of the failed system, would have helped.
    pub(super) helped: Helped,
    pub(super) why: &'static str,
    /// Whether the replay takes minutes.
    pub(super) long: bool,
    pub(super) replay: fn(&mut Stage) -> Result<Observed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Helped {
    Yes,
    Partly,
}

impl Helped {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Partly => "partly",
        }
    }
}

/// The result of a replay.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) text: String,
    pub(super) met: bool,
}

impl Observed {
    /// The outage is met if all parts hold; the text lists all of them.
    pub(super) fn all(parts: impl IntoIterator<Item = (String, bool)>) -> Self {
        let mut observed = Self { text: String::new(), met: true };
        for (part, met) in parts {
            if !observed.text.is_empty() {
                observed.text.push_str("; ");
            }
            observed.text.push_str(&part);
            if !met {
                observed.text.push_str(" (not met)");
            }
            observed.met &= met;
        }
        observed
    }
}
