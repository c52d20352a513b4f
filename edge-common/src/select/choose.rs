//! The choice of a backend by a flow's record, its slot's owner, and its slot's pick. It reads, and changes nothing.

use super::{
    owner::{has_left, serves_any, stable_owner},
    pools::pick_and_bits,
};
use crate::{
    abi::{BackendNumber, Exit, Service, Slot, SlotAddress, State, Target, Tracking, slot_address},
    flow_table::units,
    hash::Hash,
    maps::{Maps, View},
    step::{Change, Seen, What},
};

/// A packet whose backend is to be chosen.
#[derive(Clone, Copy, Debug)]
pub struct FlowQuery {
    pub target: Target,
    /// The flow's slot is by this.
    pub hash: Hash,
    /// Whether the packet starts a flow.
    pub starts: bool,
    /// Whether the flow may be recorded: not for a packet that only concerns it.
    pub may_record: bool,
}

impl FlowQuery {
    /// The flow's slot.
    #[inline(always)]
    pub(super) const fn slot(&self) -> SlotAddress {
        slot_address(self.target.slots(), self.hash.slot(self.target.slot_mask()))
    }
}

/// What is chosen for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// That depends on the flow's record.
    Ask,
    /// It goes to this backend; `recorded`: since its flow is recorded there.
    Goes { to: BackendNumber, recorded: bool },
    /// It goes to a backend with which the flow's record is to be changed.
    Changes(Change),
}

/// Whether a packet goes where its flow is recorded, whatever owner and pick are. Also one that starts a flow: it may be the second
/// packet of one that has just started, or a forged one of one that runs.
#[inline(always)]
pub fn follows<M: Maps>(maps: &M, service: &Service, seen: Seen) -> bool {
    serves_any(maps, service, seen.backend, State::ALIVE)
}

/// For how long after a change a packet that starts a flow of QUIC may be its client's second one, in units of time: a second. A
/// round trip passes between these two, and a client that hears nothing waits for a second.
const HANDSHAKE: i32 = 4;

/// Whether a packet that seems to start a flow may be of one that began just before a change, and that no record shows. Not of
/// TCP, whose SYN is sent again only if nothing came of the first.
#[inline(always)]
fn may_have_begun<M: Maps>(maps: &M, service: &Service, query: &FlowQuery) -> bool {
    query.target.tracks(Tracking::Quic)
        && service.redirected != 0
        && units(maps.now_ns()).wrapping_sub(service.redirected).cast_signed() < HANDSHAKE
}

/// Chooses the backend for a packet by its flow's record, which it does not [follow](follows()), its slot's owner, and its slot's
/// pick.
///
/// # Errors
/// [`Exit::Exhausted`] when nothing is left, [`Exit::BadTables`] when the service's slots are not there.
#[inline(always)]
pub fn choose<M: Maps>(
    maps: &M,
    view: View<'_>,
    service: &Service,
    query: &FlowQuery,
    seen: Option<Seen>,
) -> Result<Choice, Exit> {
    let slot = query.hash.slot(query.target.slot_mask());
    let Slot { owner, .. } = maps.slot(query.slot()).ok_or(Exit::BadTables)?;
    let goes =
        |to: BackendNumber| if to == 0 { Err(Exit::Exhausted) } else { Ok(Choice::Goes { to, recorded: false }) };
    let Some(Seen { backend: recorded, is_forged }) = seen else {
        // A slow-path packet comes here without having looked for a stable owner.
        if stable_owner(maps, query.target, query.hash, query.starts).is_some() {
            return goes(owner);
        }
        return Ok(Choice::Ask);
    };
    if query.target.tracks(Tracking::Stateless) {
        return goes(pick_and_bits(maps, view, service, slot).0);
    }
    let (pick, bits) = pick_and_bits(maps, view, service, slot);
    // When nothing is left and the service fails open, a backend that is not disabled counts as alive, too.
    let living = if bits == State::ENABLED { State::ALIVE | State::ENABLED } else { State::ALIVE };
    // Who takes its slot's new flows keeps it in any case: a pool that was evacuated serves when no other can.
    if recorded != 0 && recorded == pick || serves_any(maps, service, recorded, living) {
        return Ok(Choice::Goes { to: recorded, recorded: true });
    }
    let owner_lives = serves_any(maps, service, owner, living);
    if !query.may_record {
        return goes(if owner_lives { owner } else { pick });
    }
    // Where no packet shows that a flow starts, a flow whose backend has died starts anew.
    let learns = query.target.tracks(Tracking::Learn);
    let has_begun = may_have_begun(maps, service, query) && recorded == 0 && owner_lives;
    let starts = query.starts && !has_begun || learns && (recorded != 0 || !owner_lives);
    let (what, to) = if is_forged && owner_lives {
        (What::Correct, owner)
    } else if !starts && (recorded != 0 || !owner_lives) || pick == owner || pick == 0 {
        // Without a record it goes to the same backend.
        (What::Remove, if starts || recorded != 0 || !owner_lives { pick } else { owner })
    } else {
        // A new flow goes to the pick, an established one to the owner; and it is recorded where these are not the same.
        (if recorded == 0 { What::Add } else { What::Move }, if starts { pick } else { owner })
    };
    if to == 0 || matches!(what, What::Remove) && recorded == 0 {
        return goes(to);
    }
    let has_left = has_left(maps, service, owner, bits);
    Ok(Choice::Changes(Change { what, to, owner: if owner_lives { owner } else { 0 }, has_left, starts }))
}
