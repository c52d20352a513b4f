//! Health: probe results of backends, and the conclusions from them. Pure: time is an argument.
//!
//! ```text
//! verdicts -> Machine (one backend)  -> judge (its pool, all pools)  -> Condition (for the packet path)
//!             up, down, unknown;        cause: the backend, its         serves, keeps its flows, is out
//!             hard or soft evidence     provider or this host
//! ```
//!
//! A wrong answer is *hard* evidence; silence is *soft*: the probe itself may have been lost. A report that a backend is
//! unreachable is soft as well, but takes a backend out as soon as others of its pool are heard.

// Time is an argument here or is not needed.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

mod machine;
mod damper;
mod judge;
mod deafness;
mod failback;
mod suspicion;
mod gray;

#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use self::{
    deafness::{Deafness, References, deafness, hears},
    failback::{Return, withheld},
    gray::{Handshakes, Recent, is_gray},
    judge::{Blame, Count, Heard, blame},
    machine::Machine,
    suspicion::{Change, Signs, Watch},
};

/// Health of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Health {
    /// No probe could be made. Such a backend serves: doubt keeps traffic flowing.
    #[default]
    Unknown,
    Up,
    Down,
}

impl Health {
    /// The name for display.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Result of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The backend answered as expected.
    Pass,
    /// The backend gave another answer than expected, described here. Hard evidence.
    Fail(String),
    /// A router on the path, or this host's own search for the next hop, reported that the backend can't be reached, as
    /// described here. Evidence against a single backend; against all at once no more than silence is, since a router that
    /// loses its uplink reports this of every backend.
    Unreachable(String),
    /// No answer to the probe described here. Soft evidence.
    Silent(String),
    /// The probe could not be made for a reason of this host's own, described here. No evidence about the backend.
    Inconclusive(String),
}

/// Why a backend is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// The backend gave a wrong answer.
    Hard,
    /// The backend did not answer, or was reported as unreachable.
    Soft,
}

/// A change of health, or of the evidence for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthChange {
    pub from: Health,
    pub to: Health,
    /// The reason in words, for the operator: `3 probes in a row failed: connection refused`.
    pub reason: String,
}

/// The use of a backend, as far as health decides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The backend takes new flows.
    #[default]
    Serving,
    /// The backend takes no new flows, and its established ones stay.
    Keeping,
    /// The backend gets no packets.
    Out,
}

/// The part of a backend's health that the packet path depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    pub health: Health,
    pub standing: Standing,
    /// Number of places, in the order in which slots return, that are still withheld from the backend.
    pub withheld: u8,
    /// Nothing can be sent there, whatever probes and operators report.
    pub cut_off: bool,
}

impl Condition {
    /// Nothing can be sent there.
    pub(crate) const CUT_OFF: Self = Self { health: Health::Down, standing: Standing::Out, withheld: 0, cut_off: true };
}

impl From<Health> for Condition {
    /// The condition of a backend whose health is not in doubt.
    fn from(health: Health) -> Self {
        let standing = match health {
            Health::Unknown | Health::Up => Standing::Serving,
            Health::Down => Standing::Out,
        };
        Self { health, standing, withheld: 0, cut_off: false }
    }
}
