//! Pools: the pool that receives a service's new flows, and the backend in it that receives a slot's.

use crate::{
    abi::{BackendNumber, CELL, Failover, MAX_POOLS, Pool, RETURN_PLACES, Service, State, WhenExhausted, return_place},
    hash::Hash,
    maps::{PoolMaps, View},
};

/// Rounds of looking at other slots' candidates when all of the slot's own are gone. Together with the slot's own they
/// see 16 backends, chosen as the weights say: enough while a fifth of a pool lives.
const ROUNDS: u32 = 3;

/// Members that the last resort looks at. One would do, but for the moment between a backend's death and its move to the
/// end of the list.
const TRIES: u32 = 8;

/// Who takes the flows that start now in `slot`: the best candidate of the first eligible pool.
///
/// Pools are tried in order of priority, from where a failover says. One is eligible while at least `min_healthy` of its
/// backends take new flows, and it is not withheld from the slot. When none is, the first with any such backend serves, those that a failover passed over (or
/// evacuated) last; when there is none of these either, `when_exhausted` decides.
#[inline(always)]
pub fn pick<M: PoolMaps>(maps: &M, view: View<'_>, service: &Service, slot: u32) -> Option<BackendNumber> {
    match pick_and_bits(maps, view, service, slot) {
        (0, _) => None,
        (number, _) => Some(number),
    }
}

/// The same, 0 for nobody, and the [`State`] bits that a backend needs for it now: none when none would do.
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

/// The pool that receives the new flows of `slot`, and the [`State`] bits that its backends need for it.
///
/// The search keeps numbers of pools in place of references, and merges them after each step: a verifier follows one path per
/// step then, whatever was found before.
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
        // From the pool that a failover names to the last one, then those that it passed over. Merged before it is compared, or
        // the comparison would narrow `count` in a way of its own at each step.
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

/// The number of no pool.
const NO_POOL: u32 = 1 << 16;

/// The first backend of the pool, in the order of this slot, whose state has `bits`.
///
/// First the slot's own candidates, then those of other slots in an order that the slot fixes (so that what is left of a
/// pool shares the load by weight), and at last the member list, in which those that take flows stand first. One that comes
/// back is passed over by the slots that it is withheld from, unless it comes to the list.
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
        // As above.
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
            // Behind the list stand other pools' cells.
            break;
        }
        let number = maps.candidates(pool.member_list.wrapping_add(place / CELL as u32))?.number(place);
        if takes(number, RETURN_PLACES) {
            return Some(number);
        }
    }
    None
}
