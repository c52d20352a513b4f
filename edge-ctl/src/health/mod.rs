//! Health: a backend's state from a row of probe results. Pure; it does not even know the time.

// Time is an argument here, or is not needed.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

#[cfg(test)]
mod tests;

use std::fmt;

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
    /// The backend, or the way to it, did not: what happened.
    Fail(String),
    /// The probe could not be made for a reason of this host's own: which. No evidence about the backend.
    Inconclusive(String),
}

/// A change of health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthChange {
    pub from: Health,
    pub to: Health,
    /// Why, for people: `3 probes in a row failed: connection refused`.
    pub reason: String,
}

/// The health of one backend.
///
/// ```text
///                 1 pass                          `fall` fails in a row
///   +---------+ -----------> +------+ ----------------------------------> +------+
///   | unknown |              |  up  |                                     | down |
///   +---------+ <----------- +------+ <---------------------------------- +------+
///        |       `fall` inconclusive           `rise` passes in a row        ^
///        |             in a row                                              |
///        +-------------------------------------------------------------------+
///                                `fall` fails in a row
/// ```
///
/// In a row means that nothing else came between, an inconclusive probe neither: when this host has a fault of its own,
/// failures next to it are doubtful, too, and doubt keeps traffic flowing. Down has no way to unknown by probes: the last
/// evidence stands until there is better. When there is none at all any more, [`forget`](Self::forget) leads there from
/// everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    health: Health,
    rise: u32,
    fall: u32,
    last: Option<VerdictKind>,
    /// Verdicts of the kind `last` in a row. Stands still at its maximum.
    run: u32,
}

/// A verdict without its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VerdictKind {
    Pass,
    Fail,
    Inconclusive,
}

impl Machine {
    /// A backend that was not probed yet. `rise` and `fall` count probes; 0 counts as 1.
    #[cfg(test)]
    pub(crate) fn new(rise: u32, fall: u32) -> Self {
        Self::starting_from(Health::Unknown, rise, fall)
    }

    /// A backend whose health an earlier daemon has left behind.
    pub(crate) fn starting_from(health: Health, rise: u32, fall: u32) -> Self {
        Self { health, rise: rise.max(1), fall: fall.max(1), last: None, run: 0 }
    }

    pub(crate) fn health(&self) -> Health {
        self.health
    }

    /// The last evidence is too old to be any: nothing is known.
    pub(crate) fn forget(&mut self, reason: &str) -> Option<HealthChange> {
        let from = self.health;
        (self.health, self.last, self.run) = (Health::Unknown, None, 0);
        (from != Health::Unknown).then(|| HealthChange { from, to: Health::Unknown, reason: reason.to_owned() })
    }

    /// Takes the next verdict; gives the change of health when it makes one.
    pub(crate) fn observe(&mut self, verdict: &Verdict) -> Option<HealthChange> {
        let (kind, detail) = match verdict {
            Verdict::Pass => (VerdictKind::Pass, ""),
            Verdict::Fail(why) => (VerdictKind::Fail, why.as_str()),
            Verdict::Inconclusive(why) => (VerdictKind::Inconclusive, why.as_str()),
        };
        self.run = if self.last == Some(kind) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(kind);

        let (needed, to) = match (self.health, kind) {
            (Health::Unknown, VerdictKind::Pass) => (1, Health::Up),
            (Health::Down, VerdictKind::Pass) => (self.rise, Health::Up),
            (Health::Unknown | Health::Up, VerdictKind::Fail) => (self.fall, Health::Down),
            (Health::Up, VerdictKind::Inconclusive) => (self.fall, Health::Unknown),
            (Health::Up, VerdictKind::Pass)
            | (Health::Down, VerdictKind::Fail)
            | (Health::Unknown | Health::Down, VerdictKind::Inconclusive) => return None,
        };
        if self.run < needed {
            return None;
        }
        let from = self.health;
        self.health = to;
        Some(HealthChange { from, to, reason: reason(kind, needed, detail) })
    }
}

fn reason(kind: VerdictKind, needed: u32, detail: &str) -> String {
    let probes = if needed == 1 { "1 probe".to_owned() } else { format!("{needed} probes in a row") };
    match kind {
        VerdictKind::Pass => format!("{probes} passed"),
        VerdictKind::Fail => format!("{probes} failed: {detail}"),
        VerdictKind::Inconclusive => format!("{probes} could not be made: {detail}"),
    }
}
