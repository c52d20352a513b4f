//! A backend's state: combines the operator's decision and health into the packet path's word, and takes it apart again.

#![deny(clippy::wildcard_enum_match_arm)]

use edge_common::abi::State;

use crate::health::{Condition, Health, Standing};

/// The operator's decision about a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Admin {
    #[default]
    Enabled,
    /// Established flows stay, and no new ones are accepted.
    Drained,
    /// No flows are accepted, not even if all else is exhausted.
    Disabled,
}

/// The state of a backend.
///
/// Unknown health counts as up: a missing check is no evidence against a backend. A disabled backend's health is not
/// kept: it is not needed until the operator enables the backend, which then starts as unknown.
pub(crate) fn state(admin: Admin, condition: impl Into<Condition>) -> State {
    let Condition { health, standing, withheld } = condition.into();
    let evidence = match health {
        Health::Unknown => 0,
        Health::Up => State::UP,
        Health::Down => State::DOWN,
    };
    let (new, alive) = match standing {
        Standing::Serving => (State::NEW, State::ALIVE),
        Standing::Keeping => (0, State::ALIVE),
        Standing::Out => (0, 0),
    };
    State(match admin {
        Admin::Disabled => State::DISABLED,
        Admin::Drained => State::ENABLED | State::DRAINED | alive | evidence,
        Admin::Enabled => State::ENABLED | new | alive | evidence | u32::from(withheld) << State::WITHHELD_SHIFT,
    })
}

/// The state that follows `before` after another decision of the operator's or in another condition. A retired backend
/// takes no new flows in any case.
pub(crate) fn changed(before: State, admin: Admin, condition: impl Into<Condition>) -> State {
    let after = state(admin, condition);
    if before.has_all(State::RETIRED) { removed(after) } else { after }
}

/// The state of a backend after its removal from the configuration.
pub(crate) const fn removed(state: State) -> State {
    State(state.0 & !State::NEW | State::RETIRED)
}

/// The state of a backend after its return to the configuration.
pub(crate) fn returned(removed: State) -> State {
    state(admin(removed), condition(removed))
}

/// The condition in `state`; for a retired, drained or disabled backend, as far as the state shows it.
pub(crate) fn condition(state: State) -> Condition {
    let health = health(state);
    let standing = match health {
        Health::Unknown | Health::Up => Standing::Serving,
        Health::Down if state.has_all(State::NEW) => Standing::Serving,
        Health::Down if state.has_all(State::ALIVE) => Standing::Keeping,
        Health::Down => Standing::Out,
    };
    let withheld = u8::try_from(state.withheld()).unwrap_or_default();
    Condition { health, standing, withheld }
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
