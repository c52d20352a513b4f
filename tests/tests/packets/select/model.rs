//! Selection in plain lines, to compare the packet path with: what the rules say, not how they are kept fast.
//!
//! It knows the candidate tables, the world, and what is known of a flow. Where a slot's own candidates are all gone, it
//! does not say which backend of the pool serves, only that one does.

use edge_common::{
    abi::{State, Tracking, WhenExhausted},
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
    world.backends.get(usize::from(backend)).is_some_and(|backend| State(backend.state).has_all(bits))
}

/// Whether a candidate takes the flows of a slot.
fn takes(world: &World, backend: u16, bits: u32, slot: u32) -> bool {
    has(world, backend, bits) && slot % 256 >= world.backends[usize::from(backend)].state >> 24
}

/// The pool that takes the flows that start now, and the state that its backends need for it.
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

/// Who takes the flows that start now in a slot.
pub(crate) fn pick(world: &World, memory: &Memory, service: &ServicePlan, slot: u32) -> Goes {
    let Some((pool, bits)) = chosen(world, service, slot) else { return Goes::Nowhere };
    // The published bank is the odd one.
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
    /// Whether the packet starts it.
    pub(crate) starts: bool,
    pub(crate) record: Option<u16>,
    /// Who owns its slot.
    pub(crate) owner: u16,
    /// Who takes the slot's new flows.
    pub(crate) pick: Option<u16>,
}

/// What becomes of a packet, and what is known afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Becomes {
    pub(crate) goes: Option<u16>,
    pub(crate) record: Option<u16>,
    pub(crate) owner: u16,
    /// Whether the slot is marked.
    pub(crate) unrecorded: bool,
}

/// Where a packet of a service in transition goes; `room`: whether there is any for one more record.
pub(crate) fn select(world: &World, service: &ServicePlan, flow: Flow, room: bool) -> Becomes {
    let Flow { starts, record, owner, pick } = flow;
    let evacuated = |backend: u16| {
        let pools = service.pools.iter().take(service.failover.first.into());
        service.failover.evacuate && pools.into_iter().any(|pool| world.backends[usize::from(backend)].pool == *pool)
    };
    let lives = |backend, bits| has(world, backend, bits) && !evacuated(backend);
    // In every slot the same.
    let bits = chosen(world, service, 0).map(|(_, bits)| bits);
    let alive =
        |backend| lives(backend, State::ALIVE) || bits == Some(State::ENABLED) && lives(backend, State::ENABLED);
    // Who gets no new flows any more does not get them since there is no room.
    let has_left = |backend: u16| {
        let passed_over = service.pools.iter().take(service.failover.first.into());
        bits.is_none_or(|bits| !has(world, backend, bits))
            || passed_over.into_iter().any(|pool| world.backends[usize::from(backend)].pool == *pool)
    };

    let same = Becomes { goes: None, record, owner, unrecorded: false };
    if service.tracking == Tracking::Stateless {
        return Becomes { goes: pick, ..same };
    }
    // Who takes the slot's new flows serves those that it has, in an evacuated pool, too, if no other is left.
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
