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

/// All that operators have decided about a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) admin: Admin,
    /// Its health as an operator has forced it, in place of the result of probes; never [`Health::Unknown`].
    pub(crate) forced: Option<Health>,
}

impl From<Admin> for Word {
    fn from(admin: Admin) -> Self {
        Self { admin, forced: None }
    }
}

/// The state of a backend.
///
/// Unknown health counts as up: a missing check is no evidence against a backend. A disabled backend's health is not
/// kept: it is not needed until the operator enables the backend, which then starts as unknown. A forced health
/// takes the place of the one that was found, except where nothing can be sent to the backend.
pub(crate) fn state(word: impl Into<Word>, condition: impl Into<Condition>) -> State {
    let Word { admin, forced } = word.into();
    let found: Condition = condition.into();
    let condition = forced.filter(|_| !found.cut_off).map_or(found, Condition::from);
    let Condition { health, standing, withheld, cut_off: _ } = condition;
    let override_bits = match forced {
        None | Some(Health::Unknown) => 0,
        Some(Health::Up) => State::FORCED_UP,
        Some(Health::Down) => State::FORCED_DOWN,
    };
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
    let bits = match admin {
        Admin::Disabled => State::DISABLED,
        Admin::Drained => State::ENABLED | State::DRAINED | alive | evidence,
        Admin::Enabled => State::ENABLED | new | alive | evidence | u32::from(withheld) << State::WITHHELD_SHIFT,
    };
    State(bits | override_bits)
}

/// The state that follows `before` after another decision of the operator's or in another condition. A forced health stays.
pub(crate) fn changed(before: State, admin: Admin, condition: impl Into<Condition>) -> State {
    with_word(before, Word { admin, ..word(before) }, condition)
}

/// The same with all that operators have decided. A retired backend takes no new flows in any case.
pub(crate) fn with_word(before: State, word: Word, condition: impl Into<Condition>) -> State {
    let after = state(word, condition);
    if before.has_all(State::RETIRED) { removed(after) } else { after }
}

/// The state of a backend after its removal from the configuration.
pub(crate) const fn removed(state: State) -> State {
    State(state.0 & !State::NEW | State::RETIRED)
}

/// The state of a backend after its return to the configuration.
pub(crate) fn returned(removed: State) -> State {
    state(word(removed), condition(removed))
}

/// The condition in `state`; for a retired, drained or disabled backend, as far as the state shows it. Below a forced
/// health nothing is known of the backend.
pub(crate) fn condition(state: State) -> Condition {
    if forced(state).is_some() {
        return Health::Unknown.into();
    }
    let health = health(state);
    let standing = match health {
        Health::Unknown | Health::Up => Standing::Serving,
        Health::Down if state.has_all(State::NEW) => Standing::Serving,
        Health::Down if state.has_all(State::ALIVE) => Standing::Keeping,
        Health::Down => Standing::Out,
    };
    let withheld = u8::try_from(state.withheld()).unwrap_or_default();
    Condition { health, standing, withheld, cut_off: false }
}

/// The operators' decisions in `state`.
pub(crate) const fn word(state: State) -> Word {
    Word { admin: admin(state), forced: forced(state) }
}

/// The health that an operator has forced, in `state`.
pub(crate) const fn forced(state: State) -> Option<Health> {
    if state.has_all(State::FORCED_UP) {
        Some(Health::Up)
    } else if state.has_all(State::FORCED_DOWN) {
        Some(Health::Down)
    } else {
        None
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const ADMINS: [Admin; 3] = [Admin::Enabled, Admin::Drained, Admin::Disabled];
    const FORCED: [Option<Health>; 3] = [None, Some(Health::Up), Some(Health::Down)];
    const FOUND: [Health; 3] = [Health::Unknown, Health::Up, Health::Down];

    #[test]
    fn a_word_stays_whatever_is_found_and_decides_where_something_can_be_sent() {
        for (admin, forced) in ADMINS.into_iter().flat_map(|admin| FORCED.map(|forced| (admin, forced))) {
            let given = Word { admin, forced };
            for (found, cut_off) in FOUND.into_iter().flat_map(|found| [false, true].map(|cut_off| (found, cut_off))) {
                let found = if cut_off { Condition::CUT_OFF } else { found.into() };
                let after = state(given, found);
                assert_eq!(word(after), given);
                assert_eq!(word(changed(removed(after), admin, Health::Unknown)), given, "retired or not");
                assert_eq!(word(returned(removed(after))), given);
                let serves = match admin {
                    Admin::Enabled if cut_off => false,
                    Admin::Enabled => forced.unwrap_or(found.health) != Health::Down,
                    Admin::Drained | Admin::Disabled => false,
                };
                assert_eq!(after.has_all(State::NEW), serves, "{given:?} {found:?}");
            }
        }
    }

    #[test]
    fn a_forced_health_that_is_taken_back_leaves_what_is_found() {
        for (admin, forced) in ADMINS.into_iter().flat_map(|admin| FORCED.map(|forced| (admin, forced))) {
            let before = state(Word { admin, forced }, Health::Unknown);
            for found in FOUND {
                assert_eq!(with_word(before, admin.into(), found), state(admin, found));
            }
        }
    }
}
