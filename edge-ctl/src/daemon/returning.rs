//! The way back of pools that were left, and of backends that were down: after a time, and by a growing share of slots.

#![deny(clippy::wildcard_enum_match_arm)]

use std::{collections::BTreeMap, time::Duration};

use edge_common::abi::BackendNumber;

use crate::{
    config::Pool,
    control::{data_plane::DataPlane, inventory::Inventory},
    health::{self, Return},
};

/// Pools and backends on their way back.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// By the position of the pool.
    pools: Vec<Way>,
    starts: BTreeMap<BackendNumber, Start>,
}

#[derive(Clone, Debug, Default)]
struct Way {
    name: String,
    /// Whether a service that uses it has another one.
    has_other: bool,
    at: Return,
}

/// A backend that has come back.
#[derive(Clone, Copy, Debug)]
struct Start {
    since: Duration,
    over: Duration,
    withheld: u8,
}

impl Ways {
    /// Goes on with the pools of `inventory`. One that an earlier daemon withheld waits anew.
    pub(super) fn restart(&mut self, inventory: &Inventory, plane: &impl DataPlane, now: Duration) {
        let before = std::mem::take(&mut self.pools);
        let before: BTreeMap<_, _> = before.into_iter().map(|way| (way.name, way.at)).collect();
        let mut has_other = vec![false; inventory.config.pools.len()];
        for service in inventory.config.services.iter().filter(|service| service.pools.len() > 1) {
            service.pools.iter().for_each(|pool| has_other[*pool] = true);
        }
        let pools = inventory.config.pools.iter().zip(&inventory.pools).zip(has_other);
        let way = |((pool, number), has_other): ((&Pool, &u16), bool)| {
            let left = if plane.withheld(*number) > 0 { Return::Lost { since: now } } else { Return::Whole };
            let at = before.get(&pool.name).copied().unwrap_or(left);
            Way { name: pool.name.clone(), has_other, at: if has_other { at } else { Return::Whole } }
        };
        self.pools = pools.map(way).collect();
    }

    /// Whether anything is on its way.
    pub(super) fn is_active(&self) -> bool {
        !self.starts.is_empty() || self.pools.iter().any(|way| way.at != Return::Whole)
    }

    /// A backend has come back.
    pub(super) fn start(&mut self, backend: BackendNumber, over: Duration, now: Duration) {
        let withheld = share(Duration::ZERO, over);
        if withheld > 0 {
            self.starts.insert(backend, Start { since: now, over, withheld });
        }
    }

    /// It is gone again.
    pub(super) fn stop(&mut self, backend: BackendNumber) {
        self.starts.remove(&backend);
    }

    /// How many places are withheld from a backend.
    pub(super) fn of(&self, backend: BackendNumber) -> u8 {
        self.starts.get(&backend).map_or(0, |start| start.withheld)
    }

    /// Backends whose share is another one now, and what is withheld from them.
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

    /// One step of all pools, where `enough` says whether as many of a pool are up as it needs; `None` where an operator has
    /// taken the rest. Returns pools of which something else is withheld than is in the maps, and those that begin to return.
    pub(super) fn step(
        &mut self,
        inventory: &Inventory,
        enough: impl Fn(usize) -> Option<bool>,
        now: Duration,
    ) -> (Vec<(usize, u32)>, Vec<usize>) {
        let (mut withheld, mut returning) = (Vec::new(), Vec::new());
        for (position, (way, pool)) in self.pools.iter_mut().zip(&inventory.config.pools).enumerate() {
            if way.has_other
                && let Some(enough) = enough(position)
            {
                let judging = &pool.judging;
                let next = way.at.step(enough, judging.failback_after, judging.failback_over, now);
                let returns = |at| matches!(at, Return::Returning { .. });
                if returns(next) && !returns(way.at) {
                    returning.push(position);
                }
                way.at = next;
            }
            withheld.push((position, way.at.withheld(pool.judging.failback_over, now)));
        }
        (withheld, returning)
    }

    /// An operator wants a pool to take its flows now. Whether it was kept from it.
    pub(super) fn release(&mut self, pool: usize) -> bool {
        match self.pools.get_mut(pool) {
            Some(way) if matches!(way.at, Return::Steady { .. } | Return::Returning { .. }) => {
                way.at = Return::Whole;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Pools that were lost to a wave of silence that was this host's own were not.
    pub(super) fn pardon(&mut self, inventory: &Inventory, now: Duration) {
        for (way, pool) in self.pools.iter_mut().zip(&inventory.config.pools) {
            let wave = pool.probe.as_ref().map_or(Duration::ZERO, |probe| probe.fall_time() * 2);
            if let Return::Lost { since } | Return::Steady { since } = way.at
                && now.saturating_sub(since) <= wave
            {
                way.at = Return::Whole;
            }
        }
    }
}

/// What is withheld from a backend: it never gets nothing.
fn share(elapsed: Duration, over: Duration) -> u8 {
    u8::try_from(health::withheld(elapsed, over)).unwrap_or(u8::MAX)
}
