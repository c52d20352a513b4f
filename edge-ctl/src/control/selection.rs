//! Selection of the pool that new flows of a service go to, by the packet path's own rule.

#![deny(clippy::disallowed_methods)]
#![deny(clippy::wildcard_enum_match_arm)]

use edge_common::{
    abi::{self, BackendNumber, Cell, Failover, Generation, State, WhenExhausted},
    maps::{PoolMaps, View},
    select,
};

use super::{data_plane::DataPlane, inventory::Inventory};
use crate::config::{Service, configured};

/// Where new flows of a service go. Numbers are positions in the service's list of pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serving {
    /// To this pool, which has enough backends.
    Pool(usize),
    /// To this pool, which has too few, since no pool has enough.
    Short(usize),
    /// To this pool, which a failover has passed over, since no pool after it has enough.
    PassedOver(usize),
    /// To all backends of this pool, up or not, since too few of them are up, and there is no other pool (panic).
    Panic(usize),
    /// To this pool as if all of its backends were up, since no pool has any that is (`when_exhausted = open`).
    Open(usize),
    /// Nowhere.
    Exhausted,
}

impl Serving {
    /// The pool that new flows go to.
    pub(crate) fn position(self) -> Option<usize> {
        match self {
            Self::Pool(position)
            | Self::Short(position)
            | Self::PassedOver(position)
            | Self::Panic(position)
            | Self::Open(position) => Some(position),
            Self::Exhausted => None,
        }
    }

    /// The same case for the pool at another position.
    pub(crate) fn at(self, position: usize) -> Self {
        match self {
            Self::Pool(_) => Self::Pool(position),
            Self::Short(_) => Self::Short(position),
            Self::PassedOver(_) => Self::PassedOver(position),
            Self::Panic(_) => Self::Panic(position),
            Self::Open(_) => Self::Open(position),
            Self::Exhausted => Self::Exhausted,
        }
    }

    /// Orders from best to worst.
    pub(crate) fn rank(self) -> (u8, usize) {
        match self {
            Self::Pool(position) => (0, position),
            Self::Short(position) => (1, position),
            Self::PassedOver(position) => (2, position),
            Self::Panic(position) => (3, position),
            Self::Open(position) => (4, position),
            Self::Exhausted => (5, 0),
        }
    }
}

/// The pools at one moment, each with its counts of backends. Counted once for all services, since there may be
/// thousands of services and pools.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pools: Vec<abi::Pool>,
    /// For each pool, the number of backends that take new flows although they are down.
    panicking: Vec<u32>,
    /// For each pool, the number of backends that take new flows and whose health is unknown.
    unknown: Vec<u32>,
}

impl Counts {
    pub(crate) fn take(inventory: &Inventory, plane: &impl DataPlane) -> Self {
        let mut counts = Self::of(Vec::with_capacity(inventory.config.pools.len()));
        for pool in 0..inventory.config.pools.len() {
            counts.count(inventory, plane, pool);
        }
        counts
    }

    /// Counts from these pools, in the order of the configuration.
    pub(crate) fn of(pools: Vec<abi::Pool>) -> Self {
        Self { pools, ..Self::default() }
    }

    /// The share of its new flows that is withheld from the pool, 0 to 1.
    pub(crate) fn withheld(&self, pool: usize) -> f64 {
        self.pools.get(pool).map_or(0.0, |pool| f64::from(pool.withheld) / f64::from(abi::RETURN_PLACES))
    }

    /// Number of backends of the pool that take new flows.
    pub(crate) fn available(&self, pool: usize) -> usize {
        self.pools.get(pool).map_or(0, |pool| pool.available as usize)
    }

    /// Whether all backends of the pool serve, up or not.
    pub(crate) fn panics(&self, pool: usize) -> bool {
        self.panicking.get(pool).is_some_and(|panicking| *panicking > 0)
    }

    /// Whether the pool serves, and the health of all its serving backends is unknown.
    pub(crate) fn is_unknown(&self, pool: usize) -> bool {
        let unknown = self.unknown.get(pool).map_or(0, |unknown| *unknown as usize);
        unknown > 0 && unknown == self.available(pool)
    }

    fn count(&mut self, inventory: &Inventory, plane: &impl DataPlane, pool: usize) {
        let mut counted = abi::Pool {
            min_healthy: inventory.config.pools[pool].min_healthy.max(1),
            withheld: inventory.pools.get(pool).map_or(0, |number| plane.withheld(*number)),
            ..abi::Pool::default()
        };
        let (mut panicking, mut unknown) = (0, 0);
        for member in inventory.members_of(pool) {
            let state = plane.state(member.number);
            counted.available += u32::from(state.has_all(State::NEW));
            counted.enabled += u32::from(state.has_all(State::ENABLED));
            panicking += u32::from(state.has_all(State::NEW | State::DOWN));
            unknown += u32::from(state.has_all(State::NEW) && !state.has_any(State::UP | State::DOWN));
        }
        self.pools.push(counted);
        self.panicking.push(panicking);
        self.unknown.push(unknown);
    }
}

/// The slot that returns last: once it has returned, the whole service has.
const LAST: u32 = 0;

/// Where new flows of the service go now, decided by the packet path's own rule.
pub(crate) fn serving(counts: &Counts, failover: Failover, service: &Service) -> Serving {
    let counted = CountedPools(service.pools.iter().filter_map(|&pool| counts.pools.get(pool).copied()).collect());
    let mut wanted = abi::Service {
        pool_count: u8::try_from(service.pools.len()).unwrap_or(u8::MAX),
        failover: failover.to_raw(),
        when_exhausted: service.when_exhausted as u8,
        ..abi::Service::default()
    };
    // Here the number of a pool is its position in the service's list.
    for (position, pool) in (0..).zip(&mut wanted.pools) {
        *pool = position;
    }
    let generation = Generation::default();
    let Some((pool, bits)) = select::eligible(&counted, View { bank: 0, generation: &generation }, &wanted, LAST)
    else {
        return Serving::Exhausted;
    };
    let Some(position) = counted.0.iter().position(|counted| std::ptr::eq(counted, pool)) else {
        return Serving::Exhausted;
    };
    if bits == State::ENABLED {
        Serving::Open(position)
    } else if service.pools.get(position).is_some_and(|pool| counts.panics(*pool)) {
        Serving::Panic(position)
    } else if position < usize::from(failover.first) {
        Serving::PassedOver(position)
    } else if pool.available >= u32::from(pool.min_healthy) {
        Serving::Pool(position)
    } else {
        Serving::Short(position)
    }
}

/// The pools of one service in its order, each with its counts of backends.
struct CountedPools(Vec<abi::Pool>);

impl PoolMaps for CountedPools {
    fn pool(&self, _bank: u32, number: u16) -> Option<&abi::Pool> {
        self.0.get(usize::from(number))
    }

    // A pool is chosen by its counts alone.
    fn backend(&self, _number: BackendNumber) -> Option<&abi::Backend> {
        None
    }

    fn candidates(&self, _cell: u32) -> Option<Cell> {
        None
    }
}

/// The selections for all services, in the order of the configuration.
pub(crate) fn all(inventory: &Inventory, plane: &impl DataPlane) -> Vec<Serving> {
    let counts = Counts::take(inventory, plane);
    inventory.services().map(|(service, number)| serving(&counts, plane.failover(number), service)).collect()
}

/// Describes where new flows go, by a sentence whose subject is the service.
pub(crate) fn described(inventory: &Inventory, service: &Service, serving: Serving) -> String {
    let name = |position: usize| configured(&inventory.config.pools[service.pools[position]].name).0;
    match serving {
        Serving::Pool(position) => format!("goes to pool {}", name(position)),
        Serving::Short(position) => {
            format!("goes to pool {}, which has too few backends: no pool has as many as it needs", name(position))
        }
        Serving::PassedOver(position) => {
            format!("goes to pool {} in spite of the failover: no pool after it has enough backends", name(position))
        }
        Serving::Panic(position) => {
            format!("goes to all of pool {}, up or not, since too few of it are up (panic)", name(position))
        }
        Serving::Open(position) => {
            format!("goes to pool {} although none of it is available (when_exhausted = open)", name(position))
        }
        Serving::Exhausted => match service.when_exhausted {
            WhenExhausted::Open => "has no backend that is not disabled: its clients are refused".to_owned(),
            WhenExhausted::Reject => {
                "has no backend left: its clients are refused (when_exhausted = reject)".to_owned()
            }
            WhenExhausted::Drop => "has no backend left: its packets are dropped (when_exhausted = drop)".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fixture::{FakeDataPlane, inventory};

    /// The selection for service web. `states` has a letter for each backend: three of provider-a (which needs 2), then
    /// those of provider-b.
    fn web(states: &str, failover: Failover, policy: WhenExhausted) -> Serving {
        let mut inventory = inventory();
        inventory.config.services[0].when_exhausted = policy;
        let mut plane = FakeDataPlane::fresh(&inventory);
        for (number, letter) in (1..).zip(states.chars()) {
            let bits = match letter {
                'u' => State::NEW | State::ALIVE | State::ENABLED | State::UP,
                'd' => State::ENABLED | State::DOWN,
                _ => State::DISABLED,
            };
            plane.states.insert(number, State(bits));
        }
        serving(&Counts::take(&inventory, &plane), failover, &inventory.config.services[0])
    }

    #[test]
    fn pools_serve_in_order() {
        let (none, open) = (Failover::default(), WhenExhausted::Open);
        let over = Failover { first: 1, evacuate: false };
        let evacuated = Failover { first: 1, evacuate: true };
        for (states, failover, policy, expected) in [
            ("uuuuuu", none, open, Serving::Pool(0)),
            ("uudddd", none, open, Serving::Pool(0)),
            ("udduuu", none, open, Serving::Pool(1)),
            ("uddddd", none, open, Serving::Short(0)),
            ("dddddd", none, open, Serving::Open(0)),
            ("xxxddd", none, open, Serving::Open(1)),
            ("xxxxxx", none, open, Serving::Exhausted),
            ("dddddd", none, WhenExhausted::Reject, Serving::Exhausted),
            ("uuuuuu", over, open, Serving::Pool(1)),
            ("uuuddd", over, open, Serving::PassedOver(0)),
            ("uuuddd", evacuated, open, Serving::PassedOver(0)),
            ("uuuxxx", evacuated, open, Serving::PassedOver(0)),
            ("dddddd", evacuated, open, Serving::Open(1)),
            ("xxxxxx", evacuated, open, Serving::Exhausted),
        ] {
            assert_eq!(web(states, failover, policy), expected, "{states} {failover:?} {policy:?}");
        }
    }
}
