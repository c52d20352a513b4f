//! A backend's state: the operator's decision and health, folded into what the packet path reads, and back.

#![deny(clippy::wildcard_enum_match_arm)]

use edge_common::abi::State;

use crate::health::Health;

/// The operator's decision about a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Admin {
    #[default]
    Enabled,
    /// Established flows stay, no new ones come.
    Drained,
    /// Nothing comes, not even when all else is exhausted.
    Disabled,
}

/// The state of a backend.
///
/// Unknown health serves as up does: not having looked is no evidence against a backend. A disabled backend's health is
/// not kept: it is not needed until the operator enables it, when it starts as unknown.
pub(crate) const fn state(admin: Admin, health: Health) -> State {
    let evidence = match health {
        Health::Unknown => 0,
        Health::Up => State::UP,
        Health::Down => State::DOWN,
    };
    let alive = match health {
        Health::Unknown | Health::Up => State::ALIVE,
        Health::Down => 0,
    };
    State(match admin {
        Admin::Disabled => State::DISABLED,
        Admin::Drained => State::ENABLED | State::DRAINED | alive | evidence,
        Admin::Enabled => State::ENABLED | if alive == 0 { 0 } else { State::NEW } | alive | evidence,
    })
}

/// The state of a backend that was in `before`, with another decision of the operator's or other health. A retired
/// backend takes no new flows in any case.
pub(crate) const fn changed(before: State, admin: Admin, health: Health) -> State {
    let after = state(admin, health);
    if before.has_all(State::RETIRED) { removed(after) } else { after }
}

/// The same state, of a backend that is not in the configuration any more.
pub(crate) const fn removed(state: State) -> State {
    State(state.0 & !State::NEW | State::RETIRED)
}

/// The same state, of a backend that is in the configuration.
pub(crate) const fn returned(removed: State) -> State {
    state(admin(removed), health(removed))
}

/// The operator's decision in `state`.
pub(crate) const fn admin(state: State) -> Admin {
    if state.has_all(State::DISABLED) {
        Admin::Disabled
    } else if state.has_all(State::DRAINED) {
        Admin::Drained
    } else {
        Admin::Enabled
    }
}

/// The health in `state`; unknown for a disabled backend.
pub(crate) const fn health(state: State) -> Health {
    if state.has_all(State::UP) {
        Health::Up
    } else if state.has_all(State::DOWN) {
        Health::Down
    } else {
        Health::Unknown
    }
}
