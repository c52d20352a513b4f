//! Selection: which backend gets a packet.
//!
//! Each slot of a service has an *owner*, whose its running flows are, and in each pool *candidates*, who take the flows
//! that start now. A running flow's packet costs one read of the owner. A SYN asks [`pick`]; if that is another backend
//! than the owner, the owner follows at once, with one store.
//!
//! A UDP packet does not say whether it starts a flow, so it goes to the owner while that lives; whoever changes what
//! `pick` would say (the controller) moves the owners of UDP services after it.
//!
//! Everything here depends on the slot and the published state alone, never on the packet: all packets of a slot go the
//! same way, on every edge.

use crate::{
    abi::{Backend, BackendNumber, CELL, Failover, MAX_POOLS, Pool, Service, State, WhenExhausted},
    exit::Exit,
    hash::Hash,
    tables::{Tables, View},
};

/// Rounds of looking at other slots' candidates when all of the slot's own are gone. Together with the slot's own they
/// see 16 backends, chosen as the weights say: enough while a fifth of a pool lives.
const ROUNDS: u32 = 3;

/// Members that the last resort looks at. One would do, but for the moment between a backend's death and its move to the
/// end of the list.
const TRIES: u32 = 8;

/// Selects the backend for a packet of the slot that `flow` falls into; `owners` is the service's first cell of them.
///
/// # Errors
/// [`Exit::Exhausted`] when nothing is left, [`Exit::BadTables`] when the service's owners are not there.
#[inline(always)]
pub fn select<'a, T: Tables>(
    tables: &'a T,
    view: View<'_>,
    service: &Service,
    owners: u32,
    flow: Hash,
    starts: bool,
) -> Result<(BackendNumber, &'a Backend), Exit> {
    let slot = flow.slot(view.generation.slot_mask);
    let cell = owners.wrapping_add(slot / CELL as u32);
    let owner = tables.owner(cell, slot).ok_or(Exit::BadTables)?;
    let failover = Failover::from_raw(service.failover);
    // Flow records, when they come, are asked here: after the owner's read, before its verdict counts.
    if !starts
        && let Some(backend) = tables.backend(owner)
        && State(backend.state).has(State::ALIVE)
        && !(failover.evacuate && is_evacuated(service, failover, backend.pool))
    {
        return Ok((owner, backend));
    }
    let chosen = pick(tables, view, service, slot).ok_or(Exit::Exhausted)?;
    if starts && chosen != owner {
        tables.set_owner(cell, slot, chosen);
    }
    Ok((chosen, tables.backend(chosen).ok_or(Exit::BadTables)?))
}

/// Who takes the flows that start now in `slot`: the best candidate of the first eligible pool.
///
/// Pools are asked in order of priority, from where a failover says. One is eligible while at least `min_healthy` of its
/// backends take new flows. When none is, the first with any such backend serves, those that a failover passed over
/// last; when there is none of these either, `when_exhausted` decides. An evacuated pool serves in no case.
#[inline(never)]
pub fn pick<T: Tables>(tables: &T, view: View<'_>, service: &Service, slot: u32) -> Option<BackendNumber> {
    let (pool, bits) = eligible(tables, view, service)?;
    search(tables, view, pool, slot, bits)
}

/// The pool that takes the flows that start now, and the [`State`] bits that its backends need for it.
#[inline(always)]
fn eligible<'a, T: Tables>(tables: &'a T, view: View<'_>, service: &Service) -> Option<(&'a Pool, u32)> {
    let failover = Failover::from_raw(service.failover);
    let count = usize::from(service.pool_count);
    let first = usize::from(failover.first);
    let mut few: Option<&Pool> = None;
    let mut open: Option<&Pool> = None;
    for step in 0..MAX_POOLS {
        if step >= count {
            break;
        }
        // From the pool that a failover names to the last one, then those that it passed over.
        let passed_over = first + step >= count;
        if passed_over && failover.evacuate {
            break;
        }
        let position = if passed_over { first + step - count } else { first + step };
        let pool = tables.pool(view.half, service.pools[position % MAX_POOLS])?;
        if !passed_over && pool.available > 0 && pool.available >= u32::from(pool.min_healthy) {
            few = Some(pool);
            break;
        }
        if few.is_none() && pool.available > 0 {
            few = Some(pool);
        }
        if open.is_none() && pool.enabled > 0 {
            open = Some(pool);
        }
    }
    match (few, open, WhenExhausted::from_raw(service.when_exhausted)) {
        (Some(pool), ..) => Some((pool, State::NEW)),
        (None, Some(pool), WhenExhausted::Open) => Some((pool, State::ENABLED)),
        _ => None,
    }
}

/// The first backend of the pool, in the order of this slot, whose state has `bits`.
///
/// First the slot's own candidates, then those of other slots in an order that the slot fixes (so that what is left of a
/// pool shares the load by weight), and at last the member list, in which those that take flows stand first.
#[inline(always)]
fn search<T: Tables>(tables: &T, view: View<'_>, pool: &Pool, slot: u32, bits: u32) -> Option<BackendNumber> {
    let takes = |number: BackendNumber| match tables.backend(number) {
        Some(backend) => State(backend.state).has(bits),
        None => false,
    };
    let start = Hash(u64::from(slot));
    let mut from = slot;
    for round in 0..=ROUNDS {
        for number in tables.candidates(pool.table.wrapping_add(from))?.0 {
            if takes(number) {
                return Some(number);
            }
        }
        from = view.generation.hash_key.again(start, round).slot(view.generation.slot_mask);
    }
    let takers = if bits == State::NEW { pool.available } else { pool.enabled };
    for step in 0..TRIES {
        let place = slot % takers.max(1) + step;
        let place = if place < takers { place } else { place.saturating_sub(takers) };
        let number = tables.candidates(pool.member_list.wrapping_add(place / CELL as u32))?.lane(place);
        if takes(number) {
            return Some(number);
        }
    }
    None
}

/// Whether a failover with evacuation has taken `pool` out of the service.
#[inline(always)]
fn is_evacuated(service: &Service, failover: Failover, pool: u16) -> bool {
    for position in 0..MAX_POOLS {
        if position >= usize::from(failover.first) {
            break;
        }
        if service.pools[position] == pool {
            return true;
        }
    }
    false
}

/// The member list of a pool (see [`Pool`]): `members` in the order of their addresses, with their states.
#[cfg(any(test, feature = "std"))]
pub fn member_list(members: &[(BackendNumber, State)]) -> Vec<BackendNumber> {
    let part =
        |wanted: fn(State) -> bool| members.iter().filter(move |(_, state)| wanted(*state)).map(|(number, _)| *number);
    part(|state| state.has(State::NEW))
        .chain(part(|state| !state.has(State::NEW) && state.has(State::ENABLED)))
        .chain(part(|state| !state.has(State::NEW) && !state.has(State::ENABLED)))
        .collect()
}
