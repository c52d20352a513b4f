//! Watches a generation after it came into force. It is good once no service has lost availability for a while; and it is to blame
//! for what a service lacks that it would have had with the configuration before, with what is known of the backends now. Pure.

use std::{collections::BTreeSet, time::Duration};

use edge_common::abi::{BackendNumber, State};

use super::{History, diff::pools_of};
use crate::{
    config::{Config, Pool, Service},
    control::{data_plane::DataPlane, inventory::Inventory},
    plan::RetiredRecord,
};

/// For how many looks in a row a generation must be to blame: a backend may be between two states for one.
const PATIENCE: u32 = 2;

/// How well a service is served; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// By a pool with as many backends as it needs, at this position of the service's list.
    Full(usize),
    /// By what is left of a pool.
    Short,
    /// By no backend that takes new flows.
    None,
}

/// By the names of services.
type Levels = Vec<(String, Level)>;

/// A generation under watch.
#[derive(Debug)]
pub(crate) struct Watch {
    generation: u64,
    /// Since when no service has lost anything, milliseconds of `CLOCK_BOOTTIME`.
    since_ms: u64,
    /// Of each service when last looked at, by its name.
    levels: Levels,
    /// The same just before this generation; empty where nobody looked.
    baseline: Levels,
    /// The configuration before, where it may come back.
    before: Option<Before>,
    /// What it is to blame for, and how often in a row.
    blamed: Option<(String, u32)>,
}

/// What would be in force otherwise.
#[derive(Debug)]
struct Before {
    config: Config,
    /// `POOL/BACKEND` of those that took no new flows then.
    unavailable: BTreeSet<String>,
}

impl Watch {
    /// Starts at the generation in force, which has replaced `before`, and that what `last` has watched.
    pub(crate) fn start(
        last: Option<Self>,
        inventory: &Inventory,
        plane: &impl DataPlane,
        before: &Config,
        history: &History,
        now_ms: u64,
    ) -> Self {
        let trial = history.trial.as_ref().filter(|trial| trial.generation == inventory.generation);
        let before = trial
            .map(|trial| Before { config: before.clone(), unavailable: trial.unavailable.iter().cloned().collect() });
        let levels = levels(inventory, plane);
        let baseline = last.map_or_else(Vec::new, |last| last.levels);
        Self { generation: inventory.generation, since_ms: now_ms, levels, baseline, before, blamed: None }
    }

    /// Looks at all services. `now_ms` is `CLOCK_BOOTTIME`.
    pub(crate) fn look(&mut self, inventory: &Inventory, plane: &impl DataPlane, now_ms: u64) {
        let now = levels(inventory, plane);
        if self.generation != inventory.generation {
            // Published again as it was.
            self.generation = inventory.generation;
        }
        let is_worse = |before: &Levels| {
            now.iter()
                .any(|(name, level)| before.iter().any(|(known, before)| known == name && rank(*level) > rank(*before)))
        };
        // Since a moment ago, or still than before this generation.
        if is_worse(&self.levels) || is_worse(&self.baseline) {
            self.since_ms = now_ms;
        }
        self.levels = now;
        let blame = self.before.as_ref().and_then(|before| before.blame(inventory, plane, &self.levels));
        self.blamed = blame.map(|why| {
            let times = self.blamed.take().map_or(0, |(_, times)| times);
            (why, times + 1)
        });
    }

    pub(crate) fn is_good(&self, soak: Duration, now_ms: u64) -> bool {
        u128::from(now_ms.saturating_sub(self.since_ms)) >= soak.as_millis()
    }

    /// What the change has taken away.
    pub(crate) fn blame(&self) -> Option<String> {
        self.blamed.as_ref().filter(|(_, times)| *times >= PATIENCE).map(|(why, _)| why.clone())
    }
}

impl Before {
    /// The first service that is worse off than it would be with the configuration before.
    fn blame(&self, inventory: &Inventory, plane: &impl DataPlane, now: &[(String, Level)]) -> Option<String> {
        let available = |pool: &Pool, name: &str| self.would_take(inventory, plane, pool, name);
        self.config.services.iter().find_map(|service| {
            let (_, now) = now.iter().find(|(name, _)| *name == service.name)?;
            let after = inventory.config.services.iter().find(|after| after.name == service.name)?;
            let would =
                level(&self.config, service, |pool| pool.backends.iter().filter(|b| available(pool, &b.name)).count());
            let lost = match (would, *now) {
                (Level::Full(would), Level::Full(now)) => {
                    // Another pool serves, although the one before is still in the list, and further to the front.
                    let before = pools_of(&self.config, service);
                    let position = pools_of(&inventory.config, after).iter().position(|pool| *pool == before[would]);
                    position.is_some_and(|position| position < now)
                }
                (would, now) => rank(now) > rank(would),
            };
            lost.then(|| {
                format!(
                    "service {} is {}, and was not to be without it",
                    service.name,
                    described(&inventory.config, after, *now)
                )
            })
        })
    }

    /// Whether the backend would take new flows: what is known now, where it is probed as it was; else what was known then.
    fn would_take(&self, inventory: &Inventory, plane: &impl DataPlane, pool: &Pool, name: &str) -> bool {
        let full = format!("{}/{name}", pool.name);
        let then = !self.unavailable.contains(&full);
        let Some(address) = pool.backends.iter().find(|backend| backend.name == name).map(|backend| backend.address)
        else {
            return then;
        };
        let same = inventory.members().find(|member| {
            member.pool.name == pool.name
                && member.backend.name == name
                && member.backend.address == address
                && member.pool.probe == pool.probe
        });
        if let Some(member) = same {
            return is_available(plane, member.number);
        }
        let is_it =
            |retired: &&RetiredRecord| retired.pool == pool.name && retired.name == name && retired.address == address;
        // A retired backend takes no new flows, but it is probed, if its pool is as before.
        let is_probed =
            |retired: &&RetiredRecord| inventory.retired_pool(retired).is_some_and(|now| now.probe == pool.probe);
        let retired = inventory.retired.iter().find(is_it).filter(is_probed);
        then && retired.is_none_or(|retired| !plane.state(retired.number).has_all(State::DOWN))
    }
}

/// Whether it takes new flows, and not only since nothing else is left (panic).
fn is_available(plane: &impl DataPlane, backend: BackendNumber) -> bool {
    let state = plane.state(backend);
    state.has_all(State::NEW) && !state.has_any(State::DOWN)
}

/// Of each service in force.
fn levels(inventory: &Inventory, plane: &impl DataPlane) -> Vec<(String, Level)> {
    let config = &inventory.config;
    let counts: Vec<_> = (0..config.pools.len())
        .map(|pool| inventory.members_of(pool).filter(|member| is_available(plane, member.number)).count())
        .collect();
    let of = |service: &Service| {
        let count =
            |pool: &Pool| config.pools.iter().position(|known| known.name == pool.name).map_or(0, |at| counts[at]);
        (service.name.clone(), level(config, service, count))
    };
    config.services.iter().map(of).collect()
}

/// How well a service is served, given how many backends of a pool take new flows. Failovers are the operator's own, and do not
/// count here.
fn level(config: &Config, service: &Service, available: impl Fn(&Pool) -> usize) -> Level {
    let pools: Vec<_> = service.pools.iter().map(|at| &config.pools[*at]).map(|pool| (pool, available(pool))).collect();
    let full = pools.iter().position(|(pool, count)| *count > 0 && *count >= usize::from(pool.min_healthy));
    match full {
        Some(position) => Level::Full(position),
        None if pools.iter().any(|(_, count)| *count > 0) => Level::Short,
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
        Level::Short => "served by what is left of a pool".to_owned(),
        Level::None => "served by no backend that takes new flows".to_owned(),
    }
}
