//! Panic: so much of a pool is down, with no other pool to go to, that the rest would be overrun, or the probes are wrong. Then
//! all of it serves.

#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeSet;

use edge_common::abi::{self, BackendNumber, State, WhenExhausted};

use crate::{
    config::Service,
    control::{
        data_plane::DataPlane,
        inventory::Inventory,
        selection::{self, Counts, Serving},
    },
    health::Blame,
    plan::{self, Admin},
};

/// Pools that panic, by position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Panic(BTreeSet<usize>);

impl Panic {
    pub(super) fn has(&self, pool: usize) -> bool {
        self.0.contains(&pool)
    }

    /// Whether as many of a pool are up as it needs; `None` where an operator has left it fewer.
    pub(super) fn is_enough_up(
        inventory: &Inventory,
        plane: &impl DataPlane,
        pool: usize,
        is_up: impl Fn(BackendNumber) -> bool,
    ) -> Option<bool> {
        let scene = Scene { inventory, plane, blame: &[], is_up };
        let needed = u32::from(inventory.config.pools[pool].min_healthy);
        let is_enough = scene.counted(pool).available >= needed;
        (is_enough || scene.wanted(pool) >= needed).then_some(is_enough)
    }

    /// Decides for all pools anew; returns those that it is another way for. `is_up` is what is known of a backend itself.
    pub(super) fn look(
        &mut self,
        inventory: &Inventory,
        plane: &impl DataPlane,
        blame: &[Blame],
        is_up: impl Fn(BackendNumber) -> bool,
    ) -> Vec<(usize, bool)> {
        let scene = Scene { inventory, plane, blame, is_up };
        let now: BTreeSet<_> = (0..inventory.config.pools.len()).filter(|pool| scene.panics(*pool)).collect();
        let changed = self.0.symmetric_difference(&now).map(|pool| (*pool, now.contains(pool))).collect();
        self.0 = now;
        changed
    }
}

struct Scene<'a, P, U> {
    inventory: &'a Inventory,
    plane: &'a P,
    blame: &'a [Blame],
    is_up: U,
}

impl<P: DataPlane, U: Fn(BackendNumber) -> bool> Scene<'_, P, U> {
    fn panics(&self, pool: usize) -> bool {
        if self.inventory.config.pools[pool].judging.panic_below == 0.0 {
            return false;
        }
        // Most pools have nobody who is down, and need no more.
        if self.inventory.members_of(pool).all(|member| (self.is_up)(member.number)) || self.is_enough(pool) {
            return false;
        }
        let services = || self.inventory.services().filter(|(service, _)| service.pools.contains(&pool));
        services().all(|(service, _)| self.may(service, pool))
            && services().any(|(service, number)| self.serves(service, number, pool))
    }

    /// Whether a service has no other pool to go to, and would rather have this one than none.
    fn may(&self, service: &Service, pool: usize) -> bool {
        let is_open = service.when_exhausted == WhenExhausted::Open || self.blame.get(pool) == Some(&Blame::All);
        is_open && !service.pools.iter().any(|other| *other != pool && self.is_enough(*other))
    }

    /// Whether new flows of a service would go to the pool as it really is.
    fn serves(&self, service: &Service, number: u32, pool: usize) -> bool {
        let mut counts = vec![abi::Pool::default(); self.inventory.config.pools.len()];
        for pool in &service.pools {
            counts[*pool] = self.counted(*pool);
        }
        let serving = selection::serving(&Counts::of(counts), self.plane.failover(number), service);
        let position = serving.position().or_else(|| {
            // Its policy is to serve nobody: but nothing is known to be dead.
            (serving == Serving::Exhausted).then(|| service.pools.iter().position(|known| *known == pool)).flatten()
        });
        position.is_some_and(|position| service.pools[position] == pool)
    }

    /// Whether enough of the pool is up to go to it without panic.
    fn is_enough(&self, pool: usize) -> bool {
        let config = &self.inventory.config.pools[pool];
        let counted = self.counted(pool);
        let wanted = self.wanted(pool);
        counted.available > 0
            && counted.available >= u32::from(config.min_healthy).min(wanted)
            && f64::from(counted.available) >= config.judging.panic_below * f64::from(wanted)
    }

    /// The pool as it would be if nobody served but those that are up.
    fn counted(&self, pool: usize) -> abi::Pool {
        let min_healthy = self.inventory.config.pools[pool].min_healthy.max(1);
        let mut counted = abi::Pool { min_healthy, ..abi::Pool::default() };
        for member in self.inventory.members_of(pool) {
            let state = self.plane.state(member.number);
            counted.available += u32::from(plan::admin(state) == Admin::Enabled && (self.is_up)(member.number));
            counted.enabled += u32::from(state.has_all(State::ENABLED));
        }
        counted
    }

    /// How many of the pool an operator wants to serve.
    fn wanted(&self, pool: usize) -> u32 {
        let members = self.inventory.members_of(pool);
        let wanted = members.filter(|member| plan::admin(self.plane.state(member.number)) == Admin::Enabled);
        u32::try_from(wanted.count()).unwrap_or(u32::MAX)
    }
}
