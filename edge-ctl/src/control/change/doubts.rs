//! Doubts about a generation that its backends' states do not show: frozen health, and a program that is not attached. Pure.

#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

/// What keeps a generation from being known to serve, at one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doubts {
    /// Why health is frozen: states are those from before.
    pub(crate) frozen: Option<String>,
    pub(crate) attached: Attached,
}

/// Whether packets reach the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Attached {
    /// The program is attached to all interfaces of the configuration.
    #[default]
    Everywhere,
    /// The program is still being loaded, or waits to be attached; another one may be attached meanwhile.
    Pending,
    /// The program is not attached everywhere, as described here.
    Lacking(String),
}

impl Doubts {
    /// Whether nothing keeps the generation from being good.
    pub(super) fn are_none(&self) -> bool {
        self.frozen.is_none() && self.attached == Attached::Everywhere
    }
}

/// Facts that were certain just before a generation, or at any look at it: a generation can only have lost these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Health was not frozen.
    health: bool,
    /// The program was attached everywhere.
    attached: bool,
}

impl Seen {
    pub(super) fn of(doubts: &Doubts) -> Self {
        Self { health: doubts.frozen.is_none(), attached: doubts.attached == Attached::Everywhere }
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self { health: self.health || other.health, attached: self.attached || other.attached }
    }

    /// Describes what was seen and is in doubt now.
    pub(super) fn lost(self, doubts: &Doubts) -> Option<String> {
        match (&doubts.attached, &doubts.frozen) {
            (Attached::Lacking(why), _) if self.attached => Some(why.clone()),
            (_, Some(why)) if self.health => Some(format!("health is frozen, and was not before: {why}")),
            (Attached::Everywhere | Attached::Pending | Attached::Lacking(_), Some(_) | None) => None,
        }
    }
}
