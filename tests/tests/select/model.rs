//! Selection in a few plain lines, to compare the packet path with: what the rules say, not how they are kept fast.
//!
//! It knows the candidate tables and the world, nothing else. Where a slot's own candidates are all gone, it does not say
//! which backend of the pool serves, only that one does.

use edge_common::{
    abi::{State, WhenExhausted},
    host::Memory,
};
use edge_tests::world::{ServicePlan, World};

/// Where a packet may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goes {
    To(u16),
    /// To one of these.
    Among(Vec<u16>),
    Nowhere,
}

impl Goes {
    pub(crate) fn allows(&self, backend: Option<u16>) -> bool {
        match (self, backend) {
            (Self::To(expected), Some(found)) => *expected == found,
            (Self::Among(some), Some(found)) => some.contains(&found),
            (Self::Nowhere, None) => true,
            _ => false,
        }
    }
}

fn has(world: &World, backend: u16, bits: u32) -> bool {
    world.backends.get(usize::from(backend)).is_some_and(|backend| State(backend.state).has(bits))
}

/// Who takes the flows that start now in a slot.
pub(crate) fn pick(world: &World, memory: &Memory, service: &ServicePlan, slot: u32) -> Goes {
    let first = usize::from(service.failover.first).min(service.pools.len());
    let (passed_over, rest) = service.pools.split_at(first);
    let with = |pool: u16, bits| {
        let members = world.pools[usize::from(pool)].members.iter().copied();
        members.filter(|member| has(world, *member, bits)).collect::<Vec<_>>()
    };
    let healthy = |pool: &&u16| {
        let available = with(**pool, State::NEW).len();
        available > 0 && available >= usize::from(world.pools[usize::from(**pool)].min_healthy)
    };
    let passed_over = if service.failover.evacuate { &[] } else { passed_over };
    let every = || rest.iter().chain(passed_over);
    let any = |bits: u32| every().find(|pool| !with(**pool, bits).is_empty());
    let chosen = match rest.iter().find(healthy).or_else(|| any(State::NEW)) {
        Some(pool) => Some((*pool, State::NEW)),
        None if service.when_exhausted == WhenExhausted::Open => {
            any(State::ENABLED).map(|pool| (*pool, State::ENABLED))
        }
        None => None,
    };
    let Some((pool, bits)) = chosen else { return Goes::Nowhere };
    // The published half is the odd one.
    let table = memory.pools[2 * usize::from(pool) + 1].table;
    let candidates = memory.candidates[(table + slot) as usize].0;
    match candidates.into_iter().find(|candidate| *candidate != 0 && has(world, *candidate, bits)) {
        Some(best) => Goes::To(best),
        None => Goes::Among(with(pool, bits)),
    }
}

/// Where a packet of a slot goes whose owner is `owner`.
pub(crate) fn select(
    world: &World,
    memory: &Memory,
    service: &ServicePlan,
    slot: u32,
    owner: u16,
    starts: bool,
) -> Goes {
    let evacuated = service.failover.evacuate
        && service
            .pools
            .iter()
            .take(service.failover.first.into())
            .any(|pool| world.backends.get(usize::from(owner)).is_some_and(|backend| backend.pool == *pool));
    if !starts && has(world, owner, State::ALIVE) && !evacuated {
        return Goes::To(owner);
    }
    pick(world, memory, service, slot)
}
