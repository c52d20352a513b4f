//! Health: what probes say of backends, and what follows from it. Pure: time is an argument.
//!
//! ```text
//! verdicts -> Machine (one backend)  -> judge (its pool, all pools) -> Condition (what the packet path is given)
//!             up, down, unknown;        who is to blame: it, its       serves, keeps its flows, is out
//!             hard or soft evidence     provider, or this host?
//! ```
//!
//! An answer that is wrong is *hard* evidence; silence is *soft*: the probe may be what was lost.

// Time is an argument here, or is not needed.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

mod machine;
mod damper;
mod judge;
mod failback;

#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use self::{
    failback::{Return, withheld},
    judge::{Blame, Count, Deafness, blame, deafness, hears},
    machine::Machine,
};

/// What is known of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Health {
    /// No probe could be made. Serves: doubt keeps traffic flowing.
    #[default]
    Unknown,
    Up,
    Down,
}

impl Health {
    /// As people read it.
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

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The backend answered as expected.
    Pass,
    /// The backend, or the way to it, answered otherwise: what happened. Hard evidence.
    Fail(String),
    /// Nobody answered: what was waited for. Soft evidence.
    Silent(String),
    /// The probe could not be made for a reason of this host's own: which. No evidence about the backend.
    Inconclusive(String),
}

/// Why a backend is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// It answered, and wrongly.
    Hard,
    /// It did not answer.
    Soft,
}

/// A change of health, or of the evidence for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthChange {
    pub from: Health,
    pub to: Health,
    /// Why, for people: `3 probes in a row failed: connection refused`.
    pub reason: String,
}

/// What a backend is there for, as far as health decides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It takes new flows.
    #[default]
    Serving,
    /// It takes no new flows, and its established ones stay.
    Keeping,
    /// It gets no packets.
    Out,
}

/// What the packet path is given of a backend's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    pub health: Health,
    pub standing: Standing,
    /// Places of the order in which slots return that it is still withheld from.
    pub withheld: u8,
}

impl From<Health> for Condition {
    /// Without any doubt.
    fn from(health: Health) -> Self {
        let standing = match health {
            Health::Unknown | Health::Up => Standing::Serving,
            Health::Down => Standing::Out,
        };
        Self { health, standing, withheld: 0 }
    }
}
