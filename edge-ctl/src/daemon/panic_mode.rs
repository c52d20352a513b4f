//! Panic: so much of a pool is down, with no other pool to go to, that either the remaining backends would be overrun
//! or the probes are wrong. Then all backends of the pool serve.

#![deny(clippy::disallowed_methods)]
#![deny(clippy::wildcard_enum_match_arm)]

use std::{collections::BTreeMap, time::Duration};

use edge_common::abi::{self, BackendNumber, State, WhenExhausted};

use crate::{
    config::Service,
    control::{
        data_plane::DataPlane,
        inventory::Inventory,
        selection::{self, Counts, Serving},
    },
    health::{Blame, Health},
    plan::{self, Admin},
};

/// How long enough of a pool must have been up before its panic is over: waiting costs nothing.
const CALM: Duration = Duration::from_secs(5);

/// Pools in panic, by position, with the time since which enough of their backends have been up again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Panic(BTreeMap<usize, Option<Duration>>);

impl Panic {
    pub(super) fn has(&self, pool: usize) -> bool {
        self.0.contains_key(&pool)
    }

    /// Whether as many backends of a pool are up as the pool needs; `None` if an operator has left it fewer.
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

    pub(super) fn is_active(&self) -> bool {
        !self.0.is_empty()
    }

    /// Decides about panic for all pools anew; returns the pools where the decision has changed, with the new one.
    /// `is_up` is the health of a backend itself. With `deaf`, it is the health from before this host stopped receiving
    /// answers: then no panic ends.
    pub(super) fn look(
        &mut self,
        inventory: &Inventory,
        plane: &impl DataPlane,
        blame: &[Blame],
        is_up: impl Fn(BackendNumber) -> bool,
        deaf: bool,
        now: Duration,
    ) -> Vec<(usize, bool)> {
        let scene = Scene { inventory, plane, blame, is_up };
        let mut changed = Vec::new();
        for pool in 0..inventory.config.pools.len() {
            let before = self.0.get(&pool).copied();
            let calm_since = before.map(|calm| calm.unwrap_or(now));
            if scene.panics(pool) || before.is_some() && deaf {
                self.0.insert(pool, None);
            } else if calm_since.is_some_and(|since| now.saturating_sub(since) < CALM) && scene.is_alone(pool) {
                self.0.insert(pool, calm_since);
            } else {
                self.0.remove(&pool);
            }
            if before.is_some() != self.has(pool) {
                changed.push((pool, self.has(pool)));
            }
        }
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
        // Fast path: in most pools no backend is down.
        let mut members = self.inventory.members_of(pool).map(|member| member.number);
        if members.all(|number| (self.is_up)(number) || !self.is_wanted(number)) || self.can_bear(pool) {
            return false;
        }
        let mut services = self.inventory.services().filter(|(service, _)| service.pools.contains(&pool));
        self.is_alone(pool) && services.any(|(service, number)| self.serves(service, number, pool))
    }

    /// Whether no service that uses the pool has another pool to go to, and each prefers this pool to none.
    fn is_alone(&self, pool: usize) -> bool {
        let mut services = self.inventory.services().filter(|(service, _)| service.pools.contains(&pool));
        services.all(|(service, _)| self.may(service, pool))
    }

    /// Whether a service has no other pool to go to, and prefers this pool to none.
    fn may(&self, service: &Service, pool: usize) -> bool {
        let is_open = service.when_exhausted == WhenExhausted::Open || self.blame.get(pool) == Some(&Blame::All);
        is_open && !service.pools.iter().any(|other| *other != pool && self.would_take_over(*other))
    }

    /// Whether new flows of a service would go to the pool without its panic.
    fn serves(&self, service: &Service, number: u32, pool: usize) -> bool {
        let mut counts = vec![abi::Pool::default(); self.inventory.config.pools.len()];
        for pool in &service.pools {
            counts[*pool] = self.counted(*pool);
        }
        let serving = selection::serving(&Counts::of(counts), self.plane.failover(number), service);
        let position = serving.position().or_else(|| {
            // The service's `when_exhausted` refuses packets without a pool, but no backend is known to be dead.
            (serving == Serving::Exhausted).then(|| service.pools.iter().position(|known| *known == pool)).flatten()
        });
        position.is_some_and(|position| service.pools[position] == pool)
    }

    /// Whether so much of the pool is up that new flows are better off with these backends alone. `min_healthy` plays
    /// no part here: a dead backend does not make up that number.
    fn can_bear(&self, pool: usize) -> bool {
        let available = self.counted(pool).available;
        let share = self.inventory.config.pools[pool].judging.panic_below;
        available > 0 && f64::from(available) >= share * f64::from(self.wanted(pool))
    }

    /// Whether services would choose this pool instead of another one.
    fn would_take_over(&self, pool: usize) -> bool {
        let needed = u32::from(self.inventory.config.pools[pool].min_healthy).min(self.wanted(pool));
        self.can_bear(pool) && self.counted(pool).available >= needed
    }

    /// The pool's counts if only the backends that are up served.
    fn counted(&self, pool: usize) -> abi::Pool {
        let min_healthy = self.inventory.config.pools[pool].min_healthy.max(1);
        let mut counted = abi::Pool { min_healthy, ..abi::Pool::default() };
        for member in self.inventory.members_of(pool) {
            let state = self.plane.state(member.number);
            counted.available += u32::from(self.is_wanted(member.number) && (self.is_up)(member.number));
            counted.enabled += u32::from(state.has_all(State::ENABLED));
        }
        counted
    }

    /// Number of the pool's backends that operators have in service.
    fn wanted(&self, pool: usize) -> u32 {
        let wanted = self.inventory.members_of(pool).filter(|member| self.is_wanted(member.number));
        u32::try_from(wanted.count()).unwrap_or(u32::MAX)
    }

    /// Whether operators have the backend in service. A backend that is forced down takes no part in a panic.
    fn is_wanted(&self, backend: BackendNumber) -> bool {
        let state = self.plane.state(backend);
        plan::admin(state) == Admin::Enabled && plan::forced(state) != Some(Health::Down)
    }
}
