//! Retired backends: removed from the configuration, they keep their numbers while flows may be recorded with them.

use std::collections::BTreeSet;

use edge_common::abi::{State, map};

use super::{
    Capacity, Image, PlanError, Previous,
    numbers::{Numbers, narrow},
    pools::new_backend,
};
use crate::{
    config::{Config, configured},
    plan::{BackendRecord, RetiredRecord, Snapshot, removed},
};

/// The retired backends of the previous generation whose numbers are not free: they are still named, or they come back.
pub(super) fn kept<'a>(config: &Config, previous: Option<Previous<'a>>) -> Vec<&'a RetiredRecord> {
    let Some(Previous { snapshot, in_use, .. }) = previous else { return Vec::new() };
    let returns = |known: &RetiredRecord| {
        let pool = config.pools.iter().find(|pool| pool.name == known.pool);
        pool.is_some_and(|pool| pool.backends.iter().any(|backend| known.is(&pool.name, backend)))
    };
    snapshot.retired.iter().filter(|known| in_use(known.number) || returns(known)).collect()
}

/// The retired backends of the new generation: those kept from the previous one, and those removed now.
pub(super) fn retired(previous: Option<Previous<'_>>, kept: &[&RetiredRecord], new: &Snapshot) -> Vec<RetiredRecord> {
    let configured: BTreeSet<_> = new.backends().map(|(_, backend)| backend.number).collect();
    let removed = previous.into_iter().flat_map(|previous| records(previous.snapshot));
    kept.iter().map(|&known| known.clone()).chain(removed).filter(|known| !configured.contains(&known.number)).collect()
}

/// Backends with flows, in force or removed before, that a configuration for new maps lacks or has at another address.
/// Their numbers are those of the old maps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaving {
    /// Those that get numbers in the new maps, so that their flows are carried over.
    pub kept: Vec<RetiredRecord>,
    /// Those for which the new maps have no room.
    pub cut: Vec<RetiredRecord>,
}

/// The backends that leave with `config` in new maps of `capacity`.
pub(crate) fn leaving(previous: Option<Previous<'_>>, config: &Config, capacity: &Capacity) -> Leaving {
    let Some(Previous { snapshot, in_use, .. }) = previous else { return Leaving::default() };
    let backends = || config.pools.iter().flat_map(|pool| pool.backends.iter().map(move |known| (pool, known)));
    let there: BTreeSet<_> =
        backends().map(|(pool, known)| (configured(&pool.name).0, known.name.as_str(), known.address)).collect();
    let stays =
        |known: &RetiredRecord| there.contains(&(configured(&known.pool).0, known.name.as_str(), known.address));
    let retired = snapshot.retired.iter().filter(|known| in_use(known.number)).cloned();
    let mut kept: Vec<_> = records(snapshot).chain(retired).filter(|known| !stays(known)).collect();
    // Number 0 stands for no backend.
    let room = (capacity.backends as usize).saturating_sub(backends().count() + 1);
    let cut = kept.split_off(room.min(kept.len()));
    Leaving { kept, cut }
}

/// The backends of a configuration as they are recorded after their removal.
fn records(snapshot: &Snapshot) -> impl Iterator<Item = RetiredRecord> {
    snapshot.backends().map(|(pool, backend)| {
        let BackendRecord { name, number, address, port, server } = backend.clone();
        RetiredRecord { pool: pool.name.clone(), name, number, address, port, server }
    })
}

impl Image {
    /// Adds retired backends, with numbers of their own, to the first image of new maps of this capacity.
    pub(crate) fn retire(&mut self, leaving: &[RetiredRecord], capacity: &Capacity) -> Result<(), PlanError> {
        let configured: Vec<_> = self.snapshot.backends().map(|(_, backend)| backend.number.into()).collect();
        let mut numbers = Numbers::new(1, capacity.backends, configured.into_iter());
        for known in leaving {
            let free = numbers.next().ok_or_else(|| numbers.full(map::BACKENDS, "backends", leaving.len()))?;
            let number = narrow(free);
            let pool = self.snapshot.pool(&known.pool).map_or(u16::MAX, |pool| pool.number);
            let backend = new_backend(known.address, known.port, pool, removed(State(0)));
            self.backends.push((number, backend));
            self.snapshot.retired.push(RetiredRecord { number, ..known.clone() });
        }
        self.write_json(capacity)
    }
}
