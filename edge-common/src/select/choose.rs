//! Chooses a backend by a flow's record and its slot's owner and pick. The choice reads maps and changes nothing.

use super::{
    owner::{has_left, owner_in, serves_any},
    pools::pick_and_bits,
};
use crate::{
    abi::{BackendNumber, Exit, Service, ServiceRef, Slot, SlotAddress, State, Tracking, slot_address},
    flow_table::units,
    hash::Hash,
    maps::{Maps, View},
    step::{Change, Seen, What},
};

/// A packet whose backend is to be chosen.
#[derive(Clone, Copy, Debug)]
pub struct FlowQuery {
    pub service_ref: ServiceRef,
    /// Determines the flow's slot.
    pub hash: Hash,
    /// Whether the packet starts a flow.
    pub starts: bool,
    /// Whether the flow may be recorded: not for a packet that only quotes the flow.
    pub may_record: bool,
}

impl FlowQuery {
    /// The flow's slot among the service's own; `service_ref` may name a table that several services share.
    #[inline(always)]
    pub(super) const fn slot(&self, service: &Service) -> SlotAddress {
        slot_address(service.slots, self.hash.slot(self.service_ref.slot_mask()))
    }
}

/// Result of [`choose()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The choice depends on the flow's record, which is to be looked up first.
    LookUp,
    /// The packet goes to this backend; `recorded` if the flow's record names the backend.
    Goes { to: BackendNumber, recorded: bool },
    /// The packet goes to a backend, and the flow's record is to be changed accordingly.
    Changes(Change),
}

/// Whether a packet goes to the backend in its flow's record, whatever the owner and the pick are. This includes a
/// packet that starts a flow: it may be the second packet of a flow that has just started, or a forged packet of an
/// established flow.
#[inline(always)]
pub fn follows<M: Maps>(maps: &M, service: &Service, seen: Seen) -> bool {
    serves_any(maps, service, seen.backend, State::ALIVE)
}

/// Time after a change in which a packet that starts a QUIC flow may be its client's second packet, in units: one
/// second. A round trip passes between a client's first two packets, and a client that gets no answer waits for a
/// second.
const HANDSHAKE: i32 = 4;

/// Whether a packet that seems to start a flow may belong to a flow that began just before a change and has no record.
/// Never for TCP, whose SYN is sent again only if the first SYN came to nothing.
#[inline(always)]
fn may_have_begun<M: Maps>(maps: &M, service: &Service, query: &FlowQuery) -> bool {
    query.service_ref.tracks(Tracking::Quic)
        && service.redirected != 0
        && units(maps.now_ns()).wrapping_sub(service.redirected).cast_signed() < HANDSHAKE
}

/// Chooses the backend for a packet by its flow's record, its slot's owner, and its slot's pick. Called when
/// [`follows()`] is false: the record alone does not decide.
///
/// # Errors
/// [`Exit::Exhausted`] if no backend is left, [`Exit::BadTables`] if the service's slots are missing.
#[inline(always)]
pub fn choose<M: Maps>(
    maps: &M,
    view: View<'_>,
    service: &Service,
    query: &FlowQuery,
    seen: Option<Seen>,
) -> Result<Choice, Exit> {
    let slot = query.hash.slot(query.service_ref.slot_mask());
    let Slot { owner, .. } = maps.slot(query.slot(service)).ok_or(Exit::BadTables)?;
    let goes =
        |to: BackendNumber| if to == 0 { Err(Exit::Exhausted) } else { Ok(Choice::Goes { to, recorded: false }) };
    let Some(Seen { backend: recorded, is_forged }) = seen else {
        // A slow-path packet arrives here before any check for a stable owner.
        if owner_in(maps, query.slot(service), query.starts).is_some() {
            return goes(owner);
        }
        return Ok(Choice::LookUp);
    };
    if query.service_ref.tracks(Tracking::Stateless) {
        return goes(pick_and_bits(maps, view, service, slot).0);
    }
    let (pick, bits) = pick_and_bits(maps, view, service, slot);
    // If no backend is left and the service fails open, a backend that is not disabled counts as alive, too.
    let living = if bits == State::ENABLED { State::ALIVE | State::ENABLED } else { State::ALIVE };
    // The pick keeps its recorded flows in any case: an evacuated pool serves when no other pool can.
    if recorded != 0 && recorded == pick || serves_any(maps, service, recorded, living) {
        return Ok(Choice::Goes { to: recorded, recorded: true });
    }
    let owner_lives = serves_any(maps, service, owner, living);
    if !query.may_record {
        return goes(if owner_lives { owner } else { pick });
    }
    // With `Learn` no packet shows that a flow starts, so a flow whose backend has died starts anew.
    let learns = query.service_ref.tracks(Tracking::Learn);
    let has_begun = may_have_begun(maps, service, query) && recorded == 0 && owner_lives;
    let starts = query.starts && !has_begun || learns && (recorded != 0 || !owner_lives);
    let (what, to) = if is_forged && owner_lives {
        (What::Mark, owner)
    } else if !starts && (recorded != 0 || !owner_lives) || pick == owner || pick == 0 {
        // Without a record the flow goes to the same backend.
        (What::Remove, if starts || recorded != 0 || !owner_lives { pick } else { owner })
    } else {
        // A new flow goes to the pick, an established one to the owner; the flow is recorded, since pick and owner
        // differ.
        (if recorded == 0 { What::Add } else { What::Move }, if starts { pick } else { owner })
    };
    if to == 0 || matches!(what, What::Remove) && recorded == 0 {
        return goes(to);
    }
    let has_left = has_left(maps, service, owner, bits);
    Ok(Choice::Changes(Change { what, to, owner: if owner_lives { owner } else { 0 }, has_left, starts }))
}
