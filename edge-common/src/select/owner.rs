//! Owners: the backend of a slot's established flows, and whether a backend still serves a service.

use crate::{
    abi::{Backend, BackendNumber, Failover, MAX_POOLS, Service, ServiceRef, SlotAddress, State, slot_address},
    hash::Hash,
    maps::{Maps, PoolMaps},
};

/// The owner of the slot of `flow`, if the owner alone decides: see [`owner_in`]. The slot may be one of a table that
/// several services share, in which no packet changes anything.
#[inline(always)]
pub fn stable_owner<M: Maps>(
    maps: &M,
    service_ref: ServiceRef,
    flow: Hash,
    starts: bool,
) -> Option<(BackendNumber, &Backend)> {
    owner_in(maps, slot_address(service_ref.slots(), flow.slot(service_ref.slot_mask())), starts)
}

/// The slot's owner, if it alone decides: the slot needs no lookup of records, and the owner is alive (and accepts new
/// flows, for a packet that starts one).
#[inline(always)]
pub(super) fn owner_in<M: Maps>(maps: &M, at: SlotAddress, starts: bool) -> Option<(BackendNumber, &Backend)> {
    let slot = maps.slot(at)?;
    if slot.look != 0 {
        return None;
    }
    let backend = maps.backend(slot.owner)?;
    // Multiplies the bit of `NEW` by 0 or 1, which takes no branch.
    let wanted = State::ALIVE | (u32::from(starts) * State::NEW);
    if State(backend.state).has_all(wanted) { Some((slot.owner, backend)) } else { None }
}

/// Whether the backend has any of `bits`, and no failover with evacuation has taken it out of the service.
#[inline(always)]
pub(super) fn serves_any<M: PoolMaps>(maps: &M, service: &Service, number: BackendNumber, bits: u32) -> bool {
    // Hides the value from the verifier, which would otherwise track separately for each call how far the search went.
    let failover = Failover::from_raw(maps.merge_paths(service.failover, u32::MAX));
    let serves = match if number == 0 { None } else { maps.backend(number) } {
        Some(backend) => {
            State(backend.state).has_any(bits)
                && !(failover.evacuate && is_passed_over(maps, service, failover, backend.pool))
        }
        None => false,
    };
    maps.merge_paths(serves.into(), 1) != 0
}

/// Whether a backend no longer receives new flows: it lacks some of `bits`, or a failover has passed over its pool.
#[inline(always)]
pub(super) fn has_left<M: PoolMaps>(maps: &M, service: &Service, number: BackendNumber, bits: u32) -> bool {
    let failover = Failover::from_raw(maps.merge_paths(service.failover, u32::MAX));
    let left = match maps.backend(number) {
        Some(backend) => !State(backend.state).has_all(bits) || is_passed_over(maps, service, failover, backend.pool),
        None => true,
    };
    maps.merge_paths(left.into(), 1) != 0
}

/// Whether `pool` precedes the pool that a failover names, in the service's list.
///
/// The loop always runs over all positions, and its paths are merged after each: a verifier before Linux 6.8 does not
/// follow a loop that ends at a number unknown to the verifier, and refuses the access that results.
#[inline(always)]
fn is_passed_over<M: PoolMaps>(maps: &M, service: &Service, failover: Failover, pool: u16) -> bool {
    let mut passed_over = 0;
    for position in 0..MAX_POOLS {
        let here = position < usize::from(failover.first) && service.pools[position] == pool;
        passed_over = maps.merge_paths(passed_over | u32::from(here), 1);
    }
    passed_over != 0
}
