//! Pools: the pool that receives a service's new flows, and the backend of the pool that receives a slot's new flows.

use crate::{
    abi::{BackendNumber, CELL, Failover, MAX_POOLS, Pool, RETURN_PLACES, Service, State, WhenExhausted, return_place},
    hash::Hash,
    maps::{PoolMaps, View},
};

/// Rounds of searching other slots' candidates when all of the slot's own are gone. Together with the slot's own they
/// cover 16 backends, drawn by weight: enough while a fifth of a pool lives.
const ROUNDS: u32 = 3;

/// Members that the last resort tries. One would do, except for the moment between a backend's death and its move to
/// the end of the list.
const TRIES: u32 = 8;

/// The backend that receives the new flows of `slot`: the best candidate of the first eligible pool.
///
/// Pools are tried in order of priority, beginning with the pool that a failover names, if any. A pool is eligible
/// while at least `min_healthy` of its backends accept new flows, and it is not withheld from the slot. If no pool is
/// eligible, the first pool with any such backend serves; pools that a failover passed over (or evacuated) come last.
/// If no pool has such a backend, `when_exhausted` decides.
#[inline(always)]
pub fn pick<M: PoolMaps>(maps: &M, view: View<'_>, service: &Service, slot: u32) -> Option<BackendNumber> {
    match pick_and_bits(maps, view, service, slot) {
        (0, _) => None,
        (number, _) => Some(number),
    }
}

/// Like [`pick`], but 0 for no backend; and the [`State`] bits that a backend needs to be picked now, 0 if none can be.
#[inline(always)]
pub(super) fn pick_and_bits<M: PoolMaps>(
    maps: &M,
    view: View<'_>,
    service: &Service,
    slot: u32,
) -> (BackendNumber, u32) {
    match eligible(maps, view, service, slot) {
        Some((pool, bits)) => (search(maps, view, pool, service.slot_mask, slot, bits).unwrap_or(0), bits),
        None => (0, 0),
    }
}

/// The pool that receives the new flows of `slot`, and the [`State`] bits that its backends need to receive them.
///
/// The search keeps pool numbers in place of references, and merges them after each step: so the verifier follows one
/// path per step, whatever was found before.
#[inline(always)]
pub fn eligible<'a, M: PoolMaps>(maps: &'a M, view: View<'_>, service: &Service, slot: u32) -> Option<(&'a Pool, u32)> {
    let failover = Failover::from_raw(service.failover);
    let count = u32::from(service.pool_count);
    let first = u32::from(failover.first);
    let (mut serving, mut open) = (NO_POOL, NO_POOL);
    for step in 0..MAX_POOLS as u32 {
        if step >= count {
            break;
        }
        // The order is from the pool that a failover names to the last one, then the pools that it passed over. The
        // position is merged before it is compared, or the comparison would narrow `count` differently at each step.
        let behind = maps.merge_paths((first + step).wrapping_sub(count), u32::MAX);
        let passed_over = behind >> 31 == 0;
        let position = if passed_over { behind } else { behind.wrapping_add(count) };
        let number = u32::from(service.pools[position as usize % MAX_POOLS]);
        let pool = maps.pool(view.bank, number as u16)?;
        if open == NO_POOL && pool.enabled > 0 {
            open = number;
        }
        if pool.available > 0 {
            // Two comparisons with one branch: each branch here is another path for the verifier.
            let lacks =
                pool.available.wrapping_sub(pool.min_healthy.into()) | return_place(slot).wrapping_sub(pool.withheld);
            if !passed_over && lacks >> 31 == 0 {
                serving = number;
                break;
            }
            if serving == NO_POOL {
                serving = number;
            }
        }
        serving = maps.merge_paths(serving, u32::MAX);
        open = maps.merge_paths(open, u32::MAX);
    }
    let (number, bits) = if serving != NO_POOL {
        (serving, State::NEW)
    } else if open != NO_POOL && WhenExhausted::from_raw(service.when_exhausted) == WhenExhausted::Open {
        (open, State::ENABLED)
    } else {
        return None;
    };
    Some((maps.pool(view.bank, number as u16)?, bits))
}

/// Stands for no pool: above the number of any pool.
const NO_POOL: u32 = 1 << 16;

/// The first backend of the pool, in the order of this slot, whose state has `bits`.
///
/// The slot's own candidates are tried first, then those of other slots in an order that depends on the slot (so that
/// the remaining backends of a pool share the load by weight), and at last the member list, which begins with the
/// backends that accept flows. A returning backend is skipped by the slots that it is withheld from, except in the
/// member list.
#[inline(always)]
fn search<M: PoolMaps>(
    maps: &M,
    view: View<'_>,
    pool: &Pool,
    slot_mask: u32,
    slot: u32,
    bits: u32,
) -> Option<BackendNumber> {
    let takes = |number: BackendNumber, place: u32| match maps.backend(number) {
        // Two comparisons with one branch, as in `eligible`.
        Some(backend) => bits & !backend.state | place.wrapping_sub(State(backend.state).withheld()) >> 31 == 0,
        None => false,
    };
    let start = Hash(u64::from(slot));
    let table = pool.table_of(slot_mask);
    let mut from = slot;
    for round in 0..=ROUNDS {
        for number in maps.candidates(table.wrapping_add(from))?.0 {
            if takes(number, return_place(slot)) {
                return Some(number);
            }
        }
        from = view.generation.hash_key.again(start, round).slot(slot_mask);
    }
    let takers = if bits == State::NEW { pool.available } else { pool.enabled };
    for step in 0..TRIES {
        let place = slot % takers.max(1) + step;
        let place = if place < takers { place } else { place.saturating_sub(takers) };
        if place >= u32::from(pool.members) {
            // The cells behind the list belong to other pools.
            break;
        }
        let number = maps.candidates(pool.member_list.wrapping_add(place / CELL as u32))?.number(place);
        if takes(number, RETURN_PLACES) {
            return Some(number);
        }
    }
    None
}
