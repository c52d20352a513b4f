//! Selection: which backend gets a packet.
//!
//! Each slot of a service has an *owner*, whose its running flows are, and in each pool *candidates*, who take the flows
//! that start now: [`pick`]. While the service is settled these are the same, and a packet costs one read of the owner:
//! [`settled`]. After a change they differ in some slots, for a time. Then flows are recorded, but only where the owner
//! would be the wrong answer, now or once it follows: [`choose`]. So a flow whose backend lives stays there.
//!
//! ```text
//! packet      record              owner                pick(NEW)          goes to
//! starts      takes new flows                                             the record's backend
//!             none, or replaced                        is the owner       the owner
//!                                                      another one        the pick, recorded
//!                                 alive                no room            the owner; the slot is marked as missed
//!                                 dead                 no room            the pick, which becomes the owner
//! runs        its backend lives                                           the record's backend
//!             its backend died                                            the pick; the record is dropped
//!             none                alive                is the owner       the owner
//!                                 alive                another one        the owner, recorded, or marked as missed
//!                                 dead                                    the pick, whose host answers with a RST
//! ```
//!
//! No record ever makes room for another one. A flood of new flows so costs them the choice of their backend, and nobody
//! a flow. Only the controller moves owners, but for the one case above.

use crate::{
    abi::{
        Backend, BackendNumber, CELL, Failover, FlowCount, FlowRecord, MAX_POOLS, Pool, Service, Spending, State,
        Target, Tracking, WhenExhausted,
    },
    exit::Exit,
    hash::Hash,
    tables::{FlowKey, Tables, View},
};

/// Rounds of looking at other slots' candidates when all of the slot's own are gone. Together with the slot's own they
/// see 16 backends, chosen as the weights say: enough while a fifth of a pool lives.
const ROUNDS: u32 = 3;

/// Members that the last resort looks at. One would do, but for the moment between a backend's death and its move to the
/// end of the list.
const TRIES: u32 = 8;

/// The owner of the slot that `flow` falls into, if that is all that needs to be known: the service is settled, and the
/// owner alive (takes new flows, for a packet that starts one).
#[inline(always)]
pub fn settled<'a, T: Tables>(
    tables: &'a T,
    view: View<'_>,
    target: Target,
    service: &Service,
    flow: Hash,
    starts: bool,
) -> Option<(BackendNumber, &'a Backend)> {
    let slot = flow.slot(view.generation.slot_mask);
    let owner = tables.owner(target.owners().wrapping_add(slot / CELL as u32), slot)?;
    let backend = tables.backend(owner)?;
    let wanted = if starts { State::ALIVE | State::NEW } else { State::ALIVE };
    let settled = !tables.is_unsettled(view.half, target.service, service);
    if settled && State(backend.state).has(wanted) { Some((owner, backend)) } else { None }
}

/// A packet whose backend is to be chosen.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub target: Target,
    pub hash: Hash,
    pub key: FlowKey<'a>,
    /// Whether the packet starts a flow.
    pub starts: bool,
    /// Whether the flow may be recorded: not for a packet that only concerns it.
    pub records: bool,
}

/// Chooses the backend for a packet by all that is known of its flow.
///
/// # Errors
/// [`Exit::Exhausted`] when nothing is left, [`Exit::BadTables`] when the service's owners are not there.
#[inline(always)]
pub fn choose<T: Tables>(
    tables: &T,
    view: View<'_>,
    service: &Service,
    asked: &Asked<'_>,
) -> Result<BackendNumber, Exit> {
    let slot = asked.hash.slot(view.generation.slot_mask);
    let cell = asked.target.owners().wrapping_add(slot / CELL as u32);
    let owner = tables.owner(cell, slot).ok_or(Exit::BadTables)?;
    // A packet that is not plain comes here without having asked.
    if settled(tables, view, asked.target, service, asked.hash, asked.starts).is_some() {
        return Ok(owner);
    }
    let tracking = Tracking::from_raw(service.tracking);
    let exhausted = |pick: BackendNumber| if pick == 0 { Err(Exit::Exhausted) } else { Ok(pick) };
    let count = |what| tables.count_flow(asked.target.service, what);

    let now = tables.now_ns();
    let mut recorded = 0;
    if tracking != Tracking::Stateless {
        count(FlowCount::Asked);
        if let Some(record) = asked.key.find(tables, if asked.records { Some(now) } else { None })
            && record.mark == asked.hash.mark()
        {
            recorded = record.backend;
        }
        if !asked.starts && alive(tables, service, recorded, State::ALIVE) {
            count(FlowCount::Found);
            return Ok(recorded);
        }
    }

    let (pick, bits) = pick_and_bits(tables, view, service, slot);
    if tracking == Tracking::Stateless {
        return exhausted(pick);
    }
    // When nothing is left and the service fails open, who is not disabled counts as alive, too.
    let living = if bits == State::ENABLED { State::ALIVE | State::ENABLED } else { State::ALIVE };
    if alive(tables, service, recorded, if asked.starts { bits } else { living }) {
        count(FlowCount::Found);
        return Ok(recorded);
    }
    let owner_lives = alive(tables, service, owner, living);
    if !asked.records {
        return if owner_lives { Ok(owner) } else { exhausted(pick) };
    }
    // Where nothing says that a flow starts, one starts anew whose backend has died.
    let learns = tracking == Tracking::Learn;
    let starts = asked.starts || learns && (recorded != 0 || !owner_lives);
    if !starts && recorded != 0 {
        asked.key.remove(tables);
        count(FlowCount::DeadDropped);
    }
    if !starts && (recorded != 0 || !owner_lives) || pick == 0 && starts {
        return exhausted(pick);
    }

    // It goes to the pick or, running, to the owner; and is recorded where these are not the same.
    let goes = if starts { pick } else { owner };
    if pick != owner && pick != 0 {
        let spending = if starts { Spending::NewRecord } else { Spending::OwnerRecord };
        if record(tables, view, service, asked, goes, now, spending) {
            count(if starts { FlowCount::RecordedAtNew } else { FlowCount::RecordedAtOwner });
            return Ok(goes);
        }
    }
    // An older record would say something else.
    if recorded != 0 {
        asked.key.remove(tables);
    }
    if pick == owner || pick == 0 {
        return Ok(goes);
    }
    if owner_lives {
        tables.miss(cell, slot);
        count(if starts { FlowCount::SentToOwner } else { FlowCount::Missed });
        return Ok(owner);
    }
    tables.set_owner(cell, slot, pick);
    count(FlowCount::OwnerTakenOver);
    Ok(pick)
}

/// Records the flow at `backend`; false if there is no room, or too much was recorded in this second.
#[inline(always)]
fn record<T: Tables>(
    tables: &T,
    view: View<'_>,
    service: &Service,
    asked: &Asked<'_>,
    backend: BackendNumber,
    now: u64,
    spending: Spending,
) -> bool {
    if !tables.spend(spending, now, view.generation.records_per_second) {
        return false;
    }
    // Before the record is there, or a packet might not look for it.
    if !tables.is_unsettled(view.half, asked.target.service, service) {
        tables.unsettle(view.half, asked.target.service);
    }
    asked.key.insert(tables, FlowRecord::new(backend, asked.hash.mark(), now))
}

/// Whether the backend has any of `bits`, and no failover with evacuation has taken it out of the service.
#[inline(always)]
fn alive<T: Tables>(tables: &T, service: &Service, number: BackendNumber, bits: u32) -> bool {
    // Hidden, or the verifier would remember for each of these questions how far it had to look.
    let failover = Failover::from_raw(tables.merge_paths(service.failover, u32::MAX));
    let alive = match if number == 0 { None } else { tables.backend(number) } {
        Some(backend) => {
            backend.state & bits != 0 && !(failover.evacuate && is_evacuated(tables, service, failover, backend.pool))
        }
        None => false,
    };
    tables.merge_paths(alive.into(), 1) != 0
}

/// Who takes the flows that start now in `slot`: the best candidate of the first eligible pool.
///
/// Pools are asked in order of priority, from where a failover says. One is eligible while at least `min_healthy` of its
/// backends take new flows. When none is, the first with any such backend serves, those that a failover passed over
/// last; when there is none of these either, `when_exhausted` decides. An evacuated pool serves in no case.
#[inline(always)]
pub fn pick<T: Tables>(tables: &T, view: View<'_>, service: &Service, slot: u32) -> Option<BackendNumber> {
    match pick_and_bits(tables, view, service, slot) {
        (0, _) => None,
        (number, _) => Some(number),
    }
}

/// The same, 0 for nobody, and the [`State`] bits that a backend needs for it now: none when none would do.
#[inline(always)]
fn pick_and_bits<T: Tables>(tables: &T, view: View<'_>, service: &Service, slot: u32) -> (BackendNumber, u32) {
    match eligible(tables, view, service) {
        Some((pool, bits)) => (search(tables, view, pool, slot, bits).unwrap_or(0), bits),
        None => (0, 0),
    }
}

/// The pool that takes the flows that start now, and the [`State`] bits that its backends need for it.
#[inline(always)]
pub fn eligible<'a, T: Tables>(tables: &'a T, view: View<'_>, service: &Service) -> Option<(&'a Pool, u32)> {
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
        if place >= u32::from(pool.members) {
            // Behind the list stand other pools' cells.
            break;
        }
        let number = tables.candidates(pool.member_list.wrapping_add(place / CELL as u32))?.lane(place);
        if takes(number) {
            return Some(number);
        }
    }
    None
}

/// Whether a failover with evacuation has taken `pool` out of the service.
///
/// The loop always runs over all positions, and its paths are merged after each: a verifier before Linux 6.8 does not
/// follow a loop that ends at a number unknown to it, and refuses the access that comes of it.
#[inline(always)]
fn is_evacuated<T: Tables>(tables: &T, service: &Service, failover: Failover, pool: u16) -> bool {
    let mut evacuated = 0;
    for position in 0..MAX_POOLS {
        let here = position < usize::from(failover.first) && service.pools[position] == pool;
        evacuated = tables.merge_paths(evacuated | u32::from(here), 1);
    }
    evacuated != 0
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
