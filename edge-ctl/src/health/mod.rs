//! Health: what a row of probe results says about a backend. Pure; it does not even know the time.

#[cfg(test)]
mod tests;

use std::fmt;

/// What is known of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Health {
    /// Nobody could look. Serves: doubt keeps traffic flowing.
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
    /// The probe could not be made for a reason of this host's own: which. Says nothing about the backend.
    Inconclusive(String),
}

/// A change of health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
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
/// In a row means that nothing else came between, an inconclusive probe neither: when this host has trouble of its own,
/// failures next to it are doubtful, too, and doubt keeps traffic flowing. Down has no way to unknown: the last evidence
/// stands until there is better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    health: Health,
    rise: u32,
    fall: u32,
    last: Option<Kind>,
    /// Verdicts of the kind `last` in a row. Stands still at its maximum.
    run: u32,
}

/// A verdict without its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pass,
    Fail,
    Inconclusive,
}

impl Machine {
    /// A backend that nobody has looked at yet. `rise` and `fall` count probes; 0 counts as 1.
    #[cfg(test)]
    pub(crate) fn new(rise: u32, fall: u32) -> Self {
        Self::starting_from(Health::Unknown, rise, fall)
    }

    /// A backend whose health somebody else left behind.
    pub(crate) fn starting_from(health: Health, rise: u32, fall: u32) -> Self {
        Self { health, rise: rise.max(1), fall: fall.max(1), last: None, run: 0 }
    }

    pub(crate) fn health(&self) -> Health {
        self.health
    }

    /// Takes the next verdict; gives the change of health when it makes one.
    pub(crate) fn observe(&mut self, verdict: &Verdict) -> Option<Transition> {
        let (kind, detail) = match verdict {
            Verdict::Pass => (Kind::Pass, ""),
            Verdict::Fail(why) => (Kind::Fail, why.as_str()),
            Verdict::Inconclusive(why) => (Kind::Inconclusive, why.as_str()),
        };
        self.run = if self.last == Some(kind) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(kind);

        let (needed, to) = match (self.health, kind) {
            (Health::Unknown, Kind::Pass) => (1, Health::Up),
            (Health::Down, Kind::Pass) => (self.rise, Health::Up),
            (Health::Unknown | Health::Up, Kind::Fail) => (self.fall, Health::Down),
            (Health::Up, Kind::Inconclusive) => (self.fall, Health::Unknown),
            (Health::Up, Kind::Pass)
            | (Health::Down, Kind::Fail)
            | (Health::Unknown | Health::Down, Kind::Inconclusive) => return None,
        };
        if self.run < needed {
            return None;
        }
        let from = self.health;
        self.health = to;
        Some(Transition { from, to, reason: reason(kind, needed, detail) })
    }
}

fn reason(kind: Kind, needed: u32, detail: &str) -> String {
    let probes = if needed == 1 { "1 probe".to_owned() } else { format!("{needed} probes in a row") };
    match kind {
        Kind::Pass => format!("{probes} passed"),
        Kind::Fail => format!("{probes} failed: {detail}"),
        Kind::Inconclusive => format!("{probes} could not be made: {detail}"),
    }
}
