//! The member list of a pool, the last resort of selection.

use crate::abi::{BackendNumber, State};

/// The member list of a pool (see [`Pool`](crate::abi::Pool)): `members` in the order of their addresses, with their states.
pub fn member_list(members: &[(BackendNumber, State)]) -> Vec<BackendNumber> {
    let part =
        |wanted: fn(State) -> bool| members.iter().filter(move |(_, state)| wanted(*state)).map(|(number, _)| *number);
    part(|state| state.has_all(State::NEW))
        .chain(part(|state| !state.has_all(State::NEW) && state.has_all(State::ENABLED)))
        .chain(part(|state| !state.has_all(State::NEW) && !state.has_all(State::ENABLED)))
        .collect()
}
