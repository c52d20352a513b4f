//! Retired backends: removed from the configuration, they keep their numbers while flows may be recorded with them.

use std::collections::BTreeSet;

use super::Previous;
use crate::{
    config::Config,
    plan::{BackendRecord, RetiredRecord, Snapshot},
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
    let removed = previous.into_iter().flat_map(|previous| previous.snapshot.backends()).map(|(pool, backend)| {
        let BackendRecord { name, number, address, port, server } = backend.clone();
        RetiredRecord { pool: pool.name.clone(), name, number, address, port, server }
    });
    kept.iter().map(|&known| known.clone()).chain(removed).filter(|known| !configured.contains(&known.number)).collect()
}
