//! The choice of a backend by a flow's record, its slot's owner, and its slot's pick.

use super::{
    owner::{serves_any, stable_owner},
    pools::pick_and_bits,
};
use crate::{
    abi::{
        BackendNumber, Exit, FlowCount, FlowRecord, RateLimited, Service, Slot, SlotAddress, State, Target, Tracking,
        slot_address,
    },
    lookup::hash::Hash,
    maps::{FlowKey, Maps, View},
};

/// A packet whose backend is to be chosen.
#[derive(Clone, Copy)]
pub struct FlowQuery<'a> {
    pub target: Target,
    pub hash: Hash,
    pub key: FlowKey<'a>,
    /// Whether the packet starts a flow.
    pub starts: bool,
    /// Whether the flow may be recorded: not for a packet that only concerns it.
    pub may_record: bool,
}

/// Chooses the backend for a packet by its flow's record, its slot's owner, and its slot's pick.
///
/// # Errors
/// [`Exit::Exhausted`] when nothing is left, [`Exit::BadTables`] when the service's slots are not there.
#[inline(always)]
pub fn choose<M: Maps>(
    maps: &M,
    view: View<'_>,
    service: &Service,
    query: &FlowQuery<'_>,
) -> Result<BackendNumber, Exit> {
    let slot = query.hash.slot(query.target.slot_mask());
    let address = slot_address(query.target.slots(), slot);
    let Slot { owner, .. } = maps.slot(address).ok_or(Exit::BadTables)?;
    // A slow-path packet comes here without having looked for a stable owner.
    if stable_owner(maps, query.target, query.hash, query.starts).is_some() {
        return Ok(owner);
    }
    let stateless = query.target.tracks(Tracking::Stateless);
    let exhausted = |pick: BackendNumber| if pick == 0 { Err(Exit::Exhausted) } else { Ok(pick) };
    let count = |what| maps.count_flow(query.target.service(), what);

    let now = maps.now_ns();
    let mut recorded = 0;
    if !stateless {
        count(FlowCount::Lookups);
        if let Some(record) = query.key.find(maps, if query.may_record { Some(now) } else { None })
            && record.fingerprint == query.hash.fingerprint()
        {
            recorded = record.backend;
        }
        if !query.starts && serves_any(maps, service, recorded, State::ALIVE) {
            count(FlowCount::Hits);
            return Ok(recorded);
        }
    }

    let (pick, bits) = pick_and_bits(maps, view, service, slot);
    if stateless {
        return exhausted(pick);
    }
    // When nothing is left and the service fails open, a backend that is not disabled counts as alive, too.
    let living = if bits == State::ENABLED { State::ALIVE | State::ENABLED } else { State::ALIVE };
    // Who takes its slot's new flows keeps it in any case: a pool that was evacuated serves when no other can.
    if recorded != 0 && recorded == pick
        || serves_any(maps, service, recorded, if query.starts { bits } else { living })
    {
        count(FlowCount::Hits);
        return Ok(recorded);
    }
    let owner_lives = serves_any(maps, service, owner, living);
    if !query.may_record {
        return if owner_lives { Ok(owner) } else { exhausted(pick) };
    }
    // Where no packet shows that a flow starts, a flow whose backend has died starts anew.
    let learns = query.target.tracks(Tracking::Learn);
    let starts = query.starts || learns && (recorded != 0 || !owner_lives);
    if !starts && recorded != 0 {
        query.key.remove(maps);
        count(FlowCount::StaleRemoved);
    }
    if !starts && (recorded != 0 || !owner_lives) || pick == 0 && starts {
        return exhausted(pick);
    }

    // A new flow goes to the pick, an established one to the owner; and it is recorded where these are not the same.
    let goes = if starts { pick } else { owner };
    if pick != owner && pick != 0 {
        let action = if starts { RateLimited::NewRecord } else { RateLimited::OwnerRecord };
        if maps.try_take(action, now, view.generation.records_per_second)
            && record(maps, view, service, query, address, goes, now)
        {
            count(if starts { FlowCount::RecordedAtNew } else { FlowCount::RecordedAtOwner });
            return Ok(goes);
        }
    }
    // An older record names another backend.
    if recorded != 0 {
        query.key.remove(maps);
    }
    if pick == owner || pick == 0 {
        return Ok(goes);
    }
    if owner_lives {
        maps.set_unrecorded(address);
        count(if starts { FlowCount::KeptAtOwner } else { FlowCount::InsertFailed });
        return Ok(owner);
    }
    maps.set_owner(address, pick);
    count(FlowCount::OwnerTakenOver);
    Ok(pick)
}

/// Records the flow at `backend`; false if there is no room.
#[inline(always)]
fn record<M: Maps>(
    maps: &M,
    view: View<'_>,
    service: &Service,
    query: &FlowQuery<'_>,
    slot: SlotAddress,
    backend: BackendNumber,
    now: u64,
) -> bool {
    // Before the record is there, or a packet might not look for it.
    maps.set_look(slot);
    if !maps.is_in_transition(view.bank, query.target.service(), service) {
        maps.start_transition(view.bank, query.target.service());
    }
    query.key.insert(maps, FlowRecord::new(backend, query.hash.fingerprint(), now))
}
