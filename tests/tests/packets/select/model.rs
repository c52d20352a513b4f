//! A simple model of selection, to compare the packet path with: the rules, without their optimisations.
//!
//! The model uses the candidate tables, the world, and what is known of a flow. If all of a slot's own candidates are
//! gone, it predicts only that some backend of the pool serves.

use edge_common::{
    abi::{State, Tracking, WhenExhausted},
    host::Memory,
};
use edge_tests::world::{ServicePlan, World};

/// Possible destinations of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goes {
    To(u16),
    /// Any of these.
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
    world.backends.get(usize::from(backend)).is_some_and(|backend| State(backend.state).has_all(bits))
}

/// Whether a candidate takes flows of a slot.
fn takes(world: &World, backend: u16, bits: u32, slot: u32) -> bool {
    has(world, backend, bits) && slot % 256 >= world.backends[usize::from(backend)].state >> 24
}

/// The pool that takes new flows, and the state bits that its backends need.
fn chosen(world: &World, service: &ServicePlan, slot: u32) -> Option<(u16, u32)> {
    let first = usize::from(service.failover.first).min(service.pools.len());
    let (passed_over, rest) = service.pools.split_at(first);
    let healthy = |pool: &&u16| {
        let available = members(world, **pool, State::NEW).len();
        let plan = &world.pools[usize::from(**pool)];
        available > 0 && available >= usize::from(plan.min_healthy) && slot % 256 >= plan.withheld
    };
    let every = || rest.iter().chain(passed_over);
    let any = |bits: u32| every().find(|pool| !members(world, **pool, bits).is_empty());
    match rest.iter().find(healthy).or_else(|| any(State::NEW)) {
        Some(pool) => Some((*pool, State::NEW)),
        None if service.when_exhausted == WhenExhausted::Open => {
            any(State::ENABLED).map(|pool| (*pool, State::ENABLED))
        }
        None => None,
    }
}

fn members(world: &World, pool: u16, bits: u32) -> Vec<u16> {
    world.pools[usize::from(pool)].members.iter().copied().filter(|member| has(world, *member, bits)).collect()
}

/// The backends that may take new flows of a slot.
pub(crate) fn pick(world: &World, memory: &Memory, service: &ServicePlan, slot: u32) -> Goes {
    let Some((pool, bits)) = chosen(world, service, slot) else { return Goes::Nowhere };
    // The published bank is the one with odd numbers.
    let table = memory.pools[2 * usize::from(pool) + 1].table_of(world.slots - 1);
    let candidates = memory.candidates[(table + slot) as usize].0;
    match candidates.into_iter().find(|candidate| *candidate != 0 && takes(world, *candidate, bits, slot)) {
        Some(best) => Goes::To(best),
        None => Goes::Among(members(world, pool, bits)),
    }
}

/// A packet's flow, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    /// Whether the packet starts the flow.
    pub(crate) starts: bool,
    pub(crate) record: Option<u16>,
    /// Owner of the flow's slot.
    pub(crate) owner: u16,
    /// Pick of the flow's slot.
    pub(crate) pick: Option<u16>,
}

/// Destination of a packet, and the state afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Becomes {
    pub(crate) goes: Option<u16>,
    pub(crate) record: Option<u16>,
    pub(crate) owner: u16,
    /// Whether the slot is marked.
    pub(crate) unrecorded: bool,
}

/// Selects a backend in a service in transition; `room` is whether another record fits.
pub(crate) fn select(world: &World, service: &ServicePlan, flow: Flow, room: bool) -> Becomes {
    let Flow { starts, record, owner, pick } = flow;
    let evacuated = |backend: u16| {
        let pools = service.pools.iter().take(service.failover.first.into());
        service.failover.evacuate && pools.into_iter().any(|pool| world.backends[usize::from(backend)].pool == *pool)
    };
    let lives = |backend, bits| has(world, backend, bits) && !evacuated(backend);
    // The same in every slot.
    let bits = chosen(world, service, 0).map(|(_, bits)| bits);
    let alive =
        |backend| lives(backend, State::ALIVE) || bits == Some(State::ENABLED) && lives(backend, State::ENABLED);
    // A backend that no longer takes new flows must not get them just because the table is full.
    let has_left = |backend: u16| {
        let passed_over = service.pools.iter().take(service.failover.first.into());
        bits.is_none_or(|bits| !has(world, backend, bits))
            || passed_over.into_iter().any(|pool| world.backends[usize::from(backend)].pool == *pool)
    };

    let same = Becomes { goes: None, record, owner, unrecorded: false };
    if service.tracking == Tracking::Stateless {
        return Becomes { goes: pick, ..same };
    }
    // The pick also serves the slot's established flows, even in an evacuated pool, if no other backend is left.
    let serves = |backend| alive(backend) || Some(backend) == pick;
    if let Some(backend) = record.filter(|backend| serves(*backend)) {
        return Becomes { goes: Some(backend), ..same };
    }
    let starts = starts || service.tracking == Tracking::Learn && (record.is_some() || !alive(owner));
    if !starts {
        return if record.is_some() {
            Becomes { goes: pick, record: record.filter(|_| pick.is_none()), ..same }
        } else if !alive(owner) {
            Becomes { goes: pick, ..same }
        } else if pick.is_none_or(|pick| pick == owner) {
            Becomes { goes: Some(owner), ..same }
        } else if room {
            Becomes { goes: Some(owner), record: Some(owner), ..same }
        } else {
            Becomes { goes: Some(owner), unrecorded: true, ..same }
        };
    }
    let Some(pick) = pick else { return same };
    if pick == owner {
        Becomes { goes: Some(owner), record: None, ..same }
    } else if room || record.is_some() {
        Becomes { goes: Some(pick), record: Some(pick), ..same }
    } else if alive(owner) && !has_left(owner) {
        Becomes { goes: Some(owner), unrecorded: true, ..same }
    } else {
        Becomes { goes: Some(pick), owner: pick, ..same }
    }
}
