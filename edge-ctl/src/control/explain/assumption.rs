//! `--if NAME=STATE`: what if a backend, or all of a pool, were in another state.

use std::{fmt, str::FromStr};

use edge_common::abi::{BackendNumber, State};
use thiserror::Error;

use super::ExplainError;
use crate::{
    bpf::{Explained, PinnedMaps},
    config::is_meant,
    control::inventory::Inventory,
    health::{Condition, Health},
    plan::{self, Admin, PoolRecord, Word},
};

/// Something that is assumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assumption {
    /// A pool or a backend.
    pub(crate) name: String,
    pub(crate) state: Assumed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assumed {
    Up,
    Down,
    Unknown,
    Drained,
    Disabled,
    Enabled,
}

const STATES: [(&str, Assumed); 6] = [
    ("up", Assumed::Up),
    ("down", Assumed::Down),
    ("unknown", Assumed::Unknown),
    ("drained", Assumed::Drained),
    ("disabled", Assumed::Disabled),
    ("enabled", Assumed::Enabled),
];

/// A text that assumes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("write NAME=STATE: a pool or a backend, and up, down, unknown, drained, disabled or enabled")]
pub(crate) struct BadAssumption;

impl FromStr for Assumption {
    type Err = BadAssumption;

    fn from_str(text: &str) -> Result<Self, BadAssumption> {
        let (name, word) = text.split_once('=').ok_or(BadAssumption)?;
        let (_, state) = STATES.into_iter().find(|(known, _)| *known == word).ok_or(BadAssumption)?;
        Ok(Self { name: name.to_owned(), state })
    }
}

impl fmt::Display for Assumption {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = STATES.into_iter().find(|(_, state)| *state == self.state).map_or("", |(word, _)| word);
        write!(to, "{} is {word}", self.name)
    }
}

impl Assumed {
    /// The state of a backend under this assumption.
    fn of(self, before: State) -> State {
        let (word, condition) = (plan::word(before), plan::condition(before));
        let found = |health: Health| (word.admin.into(), health.into());
        let decided = |admin| (Word { admin, ..word }, condition);
        let (word, condition): (Word, Condition) = match self {
            Self::Up => found(Health::Up),
            Self::Down => found(Health::Down),
            Self::Unknown => found(Health::Unknown),
            Self::Drained => decided(Admin::Drained),
            Self::Disabled => decided(Admin::Disabled),
            Self::Enabled => decided(Admin::Enabled),
        };
        plan::state(word, condition)
    }
}

/// Changes the copy accordingly, in the order of the assumptions.
pub(super) fn assume(
    explained: &mut Explained,
    maps: &PinnedMaps,
    inventory: &Inventory,
    services: &[u32],
    assumptions: &[Assumption],
) -> Result<(), ExplainError> {
    if assumptions.is_empty() {
        return Ok(());
    }
    let snapshot = maps.snapshot()?.ok_or(crate::bpf::BpfError::Unpublished)?;
    let pools: Vec<(u16, &PoolRecord)> = snapshot.pools.iter().map(|pool| (pool.number, pool)).collect();
    for assumption in assumptions {
        let numbers = named(inventory, &assumption.name)?;
        let change = |number, state| if numbers.contains(&number) { assumption.state.of(state) } else { state };
        explained.assume(services, &pools, change);
    }
    Ok(())
}

/// The backends of a pool, or one backend's.
fn named(inventory: &Inventory, name: &str) -> Result<Vec<BackendNumber>, ExplainError> {
    let members = inventory.members().filter(|member| is_meant(name, &member.pool.name));
    let pool: Vec<_> = members.map(|member| member.number).collect();
    if pool.is_empty() { Ok(inventory.backend(name)?.numbers) } else { Ok(pool) }
}
