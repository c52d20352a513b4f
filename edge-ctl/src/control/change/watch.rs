//! Watches a generation after it came into force. The generation is good once no service has lost availability for a
//! while, and nothing was in doubt. It is to blame if a service is worse off than with the previous configuration,
//! according to the present states of the backends, and for doubts that began after it came into force. Pure.

#![deny(clippy::disallowed_methods)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use edge_common::abi::State;

use super::{
    History,
    diff::pools_of,
    doubts::{Doubts, Seen},
};
use crate::{
    config::{Backend, Config, Pool, Service, configured, is_meant, is_same},
    control::{data_plane::DataPlane, inventory::Inventory},
    health::Health,
    plan::{self, Admin},
};

/// Consecutive looks at which a generation must be to blame: at a single one, a backend may be between two states.
const PATIENCE: u32 = 2;

/// How well a service is served; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// By a pool with as many backends as it needs, at this position of the service's list.
    Full(usize),
    /// By a pool with fewer backends than it needs.
    Short,
    /// By no backend that takes new flows.
    None,
}

/// Levels by the names of services.
type Levels = Vec<(String, Level)>;

/// A generation under watch.
#[derive(Debug)]
pub(crate) struct Watch {
    generation: u64,
    /// Time since which no service has lost anything and nothing was in doubt, in milliseconds of `CLOCK_BOOTTIME`.
    since_ms: u64,
    /// Level of each service at the last look.
    levels: Levels,
    /// Levels just before this generation; empty if there was no look.
    baseline: Levels,
    /// Levels that were seen without doubt at any look, and just before this generation.
    seen: Seen,
    /// The previous configuration, if it may come back.
    before: Option<Before>,
    /// The loss that the generation has caused, and the number of consecutive looks with that loss.
    blamed: Option<(String, u32)>,
}

/// The alternative to the generation under watch.
#[derive(Debug)]
struct Before {
    config: Config,
    /// `POOL/BACKEND` of the backends that took no new flows then.
    unavailable: BTreeSet<String>,
}

impl Watch {
    /// Starts to watch the generation in force. `last` is the watch over the previous generation, and `None` at a start of
    /// the daemon, which has no data of the time before; `before` is the configuration that comes back if this
    /// generation is on trial; `doubts` are those just before it came into force.
    pub(crate) fn start(
        last: Option<Self>,
        inventory: &Inventory,
        plane: &impl DataPlane,
        before: Option<&Config>,
        history: &History,
        doubts: &Doubts,
        now_ms: u64,
    ) -> Self {
        let trial = history.trial.as_ref().filter(|trial| trial.generation == inventory.generation);
        let before = trial.zip(before).map(|(trial, before)| Before {
            config: before.clone(),
            unavailable: trial.unavailable.iter().cloned().collect(),
        });
        let levels = levels(inventory, plane);
        let (baseline, seen) = last.map(|last| (last.levels, Seen::of(doubts))).unwrap_or_default();
        let generation = inventory.generation;
        Self { generation, since_ms: now_ms, levels, baseline, seen, before, blamed: None }
    }

    /// Checks the level of all services, and what is in doubt. `now_ms` is of `CLOCK_BOOTTIME`.
    pub(crate) fn look(&mut self, inventory: &Inventory, plane: &impl DataPlane, doubts: &Doubts, now_ms: u64) {
        let now = levels(inventory, plane);
        if self.generation != inventory.generation {
            // The same generation was published again, under another number.
            self.generation = inventory.generation;
        }
        let is_worse = |before: &Levels| {
            let before: BTreeMap<_, _> = before.iter().map(|(name, level)| (name, level)).collect();
            now.iter().any(|(name, level)| before.get(name).is_some_and(|before| rank(*level) > rank(**before)))
        };
        // Worse than at the last look, or than before this generation.
        let is_lost = is_worse(&self.levels) || is_worse(&self.baseline);
        if is_lost || !doubts.are_none() || is_any_unknown(inventory, plane) {
            self.since_ms = now_ms;
        }
        self.levels = now;
        self.seen = self.seen.or(Seen::of(doubts));
        let seen = self.seen;
        let blame = self.before.as_ref().and_then(|before| {
            let lost = before.blame(inventory, plane, &self.levels);
            lost.or_else(|| seen.lost(doubts))
        });
        self.blamed = blame.map(|why| {
            let times = self.blamed.take().map_or(0, |(_, times)| times);
            (why, times + 1)
        });
    }

    pub(crate) fn is_good(&self, soak: Duration, now_ms: u64) -> bool {
        u128::from(now_ms.saturating_sub(self.since_ms)) >= soak.as_millis()
    }

    /// The loss that the change has caused, if it was seen at enough looks.
    pub(crate) fn blame(&self) -> Option<String> {
        self.blamed.as_ref().filter(|(_, times)| *times >= PATIENCE).map(|(why, _)| why.clone())
    }
}

impl Before {
    /// Describes the first service that is worse off than with the previous configuration.
    fn blame(&self, inventory: &Inventory, plane: &impl DataPlane, now: &Levels) -> Option<String> {
        let would = self.would_take(inventory, plane);
        let now: BTreeMap<_, _> = now.iter().map(|(name, level)| (name.as_str(), *level)).collect();
        let served = self.config.services.iter().flat_map(|service| {
            let after = inventory.config.services.iter();
            after.filter(|after| is_meant(&service.name, &after.name)).map(move |after| (service, after))
        });
        served.into_iter().find_map(|(service, after)| {
            let now = *now.get(after.name.as_str())?;
            let lost = match (level(&self.config, service, &would), now) {
                (Level::Full(would), Level::Full(now)) => {
                    // A pool serves although a pool before it in the service's list would have served with the previous configuration.
                    let before = pools_of(&self.config, service);
                    let mut after = pools_of(&inventory.config, after).into_iter();
                    let position = after.position(|pool| is_same(&pool, &before[would]));
                    position.is_some_and(|position| position < now)
                }
                (would, now) => rank(now) > rank(would),
            };
            let described = described(&inventory.config, after, now);
            lost.then(|| format!("service {} is {described}, and would not be without the change", service.name))
        })
    }

    /// Number of backends of each pool that would take new flows: by their present states if their probe is the same as
    /// then, else by their states then.
    fn would_take(&self, inventory: &Inventory, plane: &impl DataPlane) -> Vec<usize> {
        let probes: BTreeMap<_, _> =
            inventory.config.pools.iter().map(|pool| (configured(&pool.name).0, &pool.probe)).collect();
        let members = inventory.members().map(|member| {
            let key = (configured(&member.pool.name).0, member.backend.name.as_str(), member.backend.address);
            (key, takes(plane.state(member.number)))
        });
        // A retired backend takes no new flows, but it is probed as its pool is.
        let retired = inventory.retired.iter().map(|retired| {
            let key = (configured(&retired.pool).0, retired.name.as_str(), retired.address);
            (key, !plane.state(retired.number).has_all(State::DOWN))
        });
        let known: BTreeMap<_, _> = retired.chain(members).collect();
        let count = |pool: &Pool| {
            let is_probed_so = probes.get(configured(&pool.name).0).is_some_and(|probe| **probe == pool.probe);
            let would = |backend: &&Backend| {
                let then = !self.unavailable.contains(&format!("{}/{}", pool.name, backend.name));
                let now = known.get(&(configured(&pool.name).0, backend.name.as_str(), backend.address));
                now.filter(|_| is_probed_so).copied().unwrap_or(then)
            };
            pool.backends.iter().filter(would).count()
        };
        self.config.pools.iter().map(count).collect()
    }
}

/// Whether a backend takes new flows, and not just for lack of a better one.
pub(super) const fn takes(state: State) -> bool {
    state.has_all(State::NEW) && !state.has_all(State::DOWN)
}

/// Whether nothing is known of any backend of a probed service that operators have left enabled.
fn is_any_unknown(inventory: &Inventory, plane: &impl DataPlane) -> bool {
    inventory.config.services.iter().any(|service| {
        let is_probed = service.pools.iter().any(|pool| inventory.config.pools[*pool].probe.is_some());
        let members = service.pools.iter().flat_map(|pool| inventory.members_of(*pool));
        let states = members.map(|member| plane.state(member.number));
        let mut enabled = states.filter(|state| plan::admin(*state) == Admin::Enabled).peekable();
        is_probed && enabled.peek().is_some() && enabled.all(|state| plan::health(state) == Health::Unknown)
    })
}

/// Level of each service in force.
fn levels(inventory: &Inventory, plane: &impl DataPlane) -> Levels {
    let config = &inventory.config;
    let count = |pool| inventory.members_of(pool).filter(|member| takes(plane.state(member.number))).count();
    let counts: Vec<_> = (0..config.pools.len()).map(count).collect();
    config.services.iter().map(|service| (service.name.clone(), level(config, service, &counts))).collect()
}

/// Level of a service, given the number of backends of each pool that take new flows. Failovers are operators'
/// decisions, and do not count here.
fn level(config: &Config, service: &Service, counts: &[usize]) -> Level {
    let is_full = |at: &usize| counts[*at] > 0 && counts[*at] >= usize::from(config.pools[*at].min_healthy);
    match service.pools.iter().position(is_full) {
        Some(position) => Level::Full(position),
        None if service.pools.iter().any(|at| counts[*at] > 0) => Level::Short,
        None => Level::None,
    }
}

const fn rank(level: Level) -> u8 {
    match level {
        Level::Full(_) => 0,
        Level::Short => 1,
        Level::None => 2,
    }
}

fn described(config: &Config, service: &Service, level: Level) -> String {
    match level {
        Level::Full(position) => format!("served by pool {}", config.pools[service.pools[position]].name),
        Level::Short => "served by a pool with fewer backends than it needs".to_owned(),
        Level::None => "served by no backend that takes new flows".to_owned(),
    }
}
