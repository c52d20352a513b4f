//! The return of pools that were left, and of backends that were down: after a wait, and with a growing share of slots.

#![deny(clippy::disallowed_methods)]
#![deny(clippy::wildcard_enum_match_arm)]

use std::{collections::BTreeMap, time::Duration};

use edge_common::abi::BackendNumber;

use crate::{
    config::Pool,
    control::{data_plane::DataPlane, inventory::Inventory},
    health::{self, Return},
};

/// Pools and backends that are returning.
#[derive(Debug, Default)]
pub(super) struct Returns {
    /// By the position of the pool.
    pools: Vec<PoolReturn>,
    starts: BTreeMap<BackendNumber, Start>,
}

#[derive(Clone, Debug, Default)]
struct PoolReturn {
    name: String,
    /// Whether a service that uses the pool has another one.
    has_other: bool,
    at: Return,
}

/// The slow start of a backend that has come back.
#[derive(Clone, Copy, Debug)]
struct Start {
    since: Duration,
    over: Duration,
    withheld: u8,
}

impl Returns {
    /// Continues with the pools of `inventory`. A pool that an earlier daemon withheld slots from waits anew.
    pub(super) fn restart(&mut self, inventory: &Inventory, plane: &impl DataPlane, now: Duration) {
        let before = std::mem::take(&mut self.pools);
        let before: BTreeMap<_, _> = before.into_iter().map(|pool| (pool.name, pool.at)).collect();
        let mut has_other = vec![false; inventory.config.pools.len()];
        for service in inventory.config.services.iter().filter(|service| service.pools.len() > 1) {
            service.pools.iter().for_each(|pool| has_other[*pool] = true);
        }
        let pools = inventory.config.pools.iter().zip(&inventory.pools).zip(has_other);
        let pool_return = |((pool, number), has_other): ((&Pool, &u16), bool)| {
            let left = if plane.withheld(*number) > 0 { Return::Lost { since: now } } else { Return::Whole };
            let at = before.get(&pool.name).copied().unwrap_or(left);
            PoolReturn { name: pool.name.clone(), has_other, at: if has_other { at } else { Return::Whole } }
        };
        self.pools = pools.map(pool_return).collect();
    }

    /// Whether any pool or backend is returning.
    pub(super) fn is_active(&self) -> bool {
        !self.starts.is_empty() || self.pools.iter().any(|pool| pool.at != Return::Whole)
    }

    /// Begins the slow start of a backend that has come back.
    pub(super) fn start(&mut self, backend: BackendNumber, over: Duration, now: Duration) {
        let withheld = share(Duration::ZERO, over);
        if withheld > 0 {
            self.starts.insert(backend, Start { since: now, over, withheld });
        }
    }

    /// Ends the slow start of a backend that is down again.
    pub(super) fn stop(&mut self, backend: BackendNumber) {
        self.starts.remove(&backend);
    }

    /// Number of places that are withheld from a backend.
    pub(super) fn of(&self, backend: BackendNumber) -> u8 {
        self.starts.get(&backend).map_or(0, |start| start.withheld)
    }

    /// Updates the shares of backends; returns those that have changed, with the number of places withheld now.
    pub(super) fn shares(&mut self, now: Duration) -> Vec<(BackendNumber, u8)> {
        let mut changed = Vec::new();
        for (backend, start) in &mut self.starts {
            let withheld = share(now.saturating_sub(start.since), start.over);
            if withheld != start.withheld {
                start.withheld = withheld;
                changed.push((*backend, withheld));
            }
        }
        self.starts.retain(|_, start| start.withheld > 0);
        changed
    }

    /// One step of all pools. `enough` is whether as many backends of a pool are up as the pool needs; `None` if an
    /// operator has taken the others away. Returns the number of places to withhold from each pool, and the pools that
    /// begin to return.
    pub(super) fn step(
        &mut self,
        inventory: &Inventory,
        enough: impl Fn(usize) -> Option<bool>,
        now: Duration,
    ) -> (Vec<(usize, u32)>, Vec<usize>) {
        let (mut withheld, mut returning) = (Vec::new(), Vec::new());
        for (position, (state, pool)) in self.pools.iter_mut().zip(&inventory.config.pools).enumerate() {
            if state.has_other
                && let Some(enough) = enough(position)
            {
                let judging = &pool.judging;
                let next = state.at.step(enough, judging.failback_after, judging.failback_over, now);
                let is_returning = |at| matches!(at, Return::Returning { .. });
                if is_returning(next) && !is_returning(state.at) {
                    returning.push(position);
                }
                state.at = next;
            }
            withheld.push((position, state.at.withheld(pool.judging.failback_over, now)));
        }
        (withheld, returning)
    }

    /// Gives a pool all of its flows at once, by an operator's command. Returns whether the pool was waiting or
    /// returning.
    pub(super) fn release(&mut self, pool: usize) -> bool {
        match self.pools.get_mut(pool) {
            Some(state) if matches!(state.at, Return::Steady { .. } | Return::Returning { .. }) => {
                state.at = Return::Whole;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Restores the pools that were lost to a wave of silence, since the silence was this host's own.
    pub(super) fn pardon(&mut self, inventory: &Inventory, now: Duration) {
        for (state, pool) in self.pools.iter_mut().zip(&inventory.config.pools) {
            let wave = pool.probe.as_ref().map_or(Duration::ZERO, |probe| probe.fall_time() * 2);
            if let Return::Lost { since } | Return::Steady { since } = state.at
                && now.saturating_sub(since) <= wave
            {
                state.at = Return::Whole;
            }
        }
    }
}

/// Number of places withheld from a backend: 255 of 256 at most, so that the backend gets some.
fn share(elapsed: Duration, over: Duration) -> u8 {
    u8::try_from(health::withheld(elapsed, over)).unwrap_or(u8::MAX)
}
