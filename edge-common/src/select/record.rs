//! A flow's record, as one packet of the flow sees and changes it.

use super::{FlowQuery, Sign};
use crate::{
    abi::{BackendNumber, FlowCount, FlowHead, RateLimited, Service, SlotAddress, Tracking},
    flow_table::{
        Anywhere, Birth, Certainty, Claim, EntryState, Flow, FlowTable, Native, Refused, Served, Signal, Stage, since,
        units,
    },
    hash::Hash,
    maps::{Maps, View},
    step::{Change, Seen, What},
};

/// Limit of the distance from the sequence number of a SYN to that of a packet that proves the start of its flow: the
/// data that a client sends before it receives anything more, which can arrive in any order (RFC 6928).
const FIRST_WINDOW: u32 = 1 << 14;
/// Limit of the distance between a flow's packets within a unit of time for a FIN or RST among them to be believed, in
/// sequence numbers: 30 Mbit/s from the client. A faster flow ends with its idle timeout.
const NEAR: u32 = 1 << 20;
/// Time for which a second SYN counts as the same start, whatever its sequence number, in units.
const SAME_START: i32 = 4;

/// A packet's flow in the table.
pub struct Recorded<'a, M: Maps> {
    maps: &'a M,
    table: FlowTable<'a, M::Flows>,
    flow: &'a Flow,
    place: Hash,
    sign: Sign,
    now_ns: u64,
}

impl<'a, M: Maps> Recorded<'a, M> {
    /// `None` if there is no flow table.
    #[inline(always)]
    pub fn new(maps: &'a M, view: View<'_>, flow: &'a Flow, sign: Sign) -> Option<Self> {
        let now_ns = maps.now_ns();
        let FlowHead { timeouts, mask, .. } = maps.flow_head()?;
        let table = FlowTable { memory: maps.flows(), mask: *mask, timeouts, now: units(now_ns) };
        let place = flow.hash(&view.generation.hash_key);
        Some(Self { maps, table, flow, place, sign, now_ns })
    }

    #[inline(always)]
    fn find(&self) -> Option<EntryState> {
        self.table.find(self.flow, self.place)
    }

    /// Looks up the flow's record, and notes in it that a packet was seen now, unless the packet only quotes the flow. The
    /// record of a flow that has ended does not count for a packet that starts a flow, and is removed.
    #[inline(always)]
    pub fn see(&self, query: &FlowQuery) -> Seen {
        let Some(found) = self.find() else { return Seen::default() };
        let seen = Seen { backend: found.served.backend, is_forged: false };
        if !query.may_record {
            return seen;
        }
        let (life, now) = (found.life, self.table.now);
        let follows = self.sign.quotes.wrapping_sub(found.served.sequence) < FIRST_WINDOW;
        let contradicts = life.is_tentative() && !follows;
        if query.starts {
            let is_other = contradicts && self.sign.expects != found.served.sequence;
            if is_other && life.age(now) < SAME_START {
                return seen;
            }
            if is_other || matches!(life.stage(), Stage::Reset) || life.is_gone(now, self.table.timeouts) {
                // The client starts a new connection.
                self.table.remove(&found);
                return Seen::default();
            }
        } else if contradicts {
            return Seen { backend: 0, is_forged: true };
        }
        if self.touch(&found, query.starts) { seen } else { Seen::default() }
    }

    /// Notes that a packet of the flow was seen, which `starts` a flow or does not.
    ///
    /// A FIN or RST counts only if its sequence number is near those of the flow, since a sender that does not see the
    /// flow's packets can't guess them, and only while all packets of the flow were near each other. Otherwise some of
    /// them are forged, perhaps those that the flow was recorded by, and any packet shows that the flow goes on.
    #[inline(always)]
    fn touch(&self, found: &EntryState, starts: bool) -> bool {
        let (Sign { signal, quotes, expects }, known) = (self.sign, found.served.sequence);
        if starts && found.life.stage().is_over() {
            return self.table.touch(found, signal, expects);
        }
        let is_near = quotes.wrapping_sub(known).wrapping_add(NEAR) < 2 * NEAR;
        if is_near && !found.life.is_doubted() {
            return self.table.touch(found, signal, quotes);
        }
        self.table.touch(&self.table.doubt(found), Signal::Data, known)
    }

    /// Changes the flow's record, and returns the backend that the packet goes to.
    #[inline(always)]
    pub fn amend(&self, service: &Service, query: &FlowQuery, change: Change) -> BackendNumber {
        let (found, number) = (self.find(), query.service_ref.service());
        let done = match (found, change.what) {
            (None, _) | (_, What::Add | What::Mark) => false,
            (Some(found), What::Remove) => {
                self.table.remove(&found);
                self.maps.count_flow(number, FlowCount::StaleRemoved);
                true
            }
            (Some(found), What::Move) => {
                let served = Served { backend: change.to, ..found.served };
                let Sign { signal, quotes, .. } = self.sign;
                let done = self.table.touch(&found, signal, quotes) && self.table.serve(&found, served);
                if done {
                    self.maps.count_flow(number, recorded(change.starts));
                }
                done
            }
        };
        if !done {
            self.maps.set_unrecorded(query.slot(service));
        }
        change.to
    }

    /// Adds a record, and returns the backend that the packet goes to.
    #[inline(always)]
    pub fn add(&self, view: View<'_>, service: &Service, query: &FlowQuery, change: Change) -> BackendNumber {
        let Change { to, owner, has_left, starts, .. } = change;
        let (number, slot) = (query.service_ref.service(), query.slot(service));
        // No packet follows a RST.
        if !starts && matches!(self.sign.signal, Signal::Reset) {
            return to;
        }
        let action = if starts { RateLimited::NewRecord } else { RateLimited::OwnerRecord };
        let mut refused = Refused::Raced;
        if self.maps.try_take(action, self.now_ns, view.generation.records_per_second) {
            // Precedes the insertion, or a packet might not look for the record.
            self.maps.set_look(slot);
            if !self.maps.is_in_transition(view.bank, number, service) {
                self.maps.start_transition(view.bank, number);
            }
            match self.insert(query, slot, to, starts) {
                Ok(_) => {
                    self.maps.count_flow(number, recorded(starts));
                    return to;
                }
                Err(why) => refused = why,
            }
        } else {
            self.maps.count_flow(number, FlowCount::OverLimit);
        }
        if !starts {
            self.maps.set_unrecorded(slot);
            self.maps.count_flow(number, FlowCount::InsertFailed);
            return owner;
        }
        if owner != 0 && !(has_left && matches!(refused, Refused::Full)) {
            self.maps.set_start_unrecorded(slot);
            self.maps.count_flow(number, FlowCount::KeptAtOwner);
            return owner;
        }
        self.maps.set_owner(slot, to);
        self.maps.count_flow(number, FlowCount::OwnerTakenOver);
        to
    }

    #[inline(always)]
    fn insert(
        &self,
        query: &FlowQuery,
        slot: SlotAddress,
        backend: BackendNumber,
        starts: bool,
    ) -> Result<u32, Refused> {
        let tracking = query.service_ref.tracking();
        // A client that sends rarely is genuine all the same.
        let (stage, certainty) = match (starts, tracking) {
            (true, Tracking::Learn) => (Stage::Established, Certainty::Certain),
            (true, _) => (Stage::HalfOpen, Certainty::Tentative),
            (false, _) => (Stage::Established, Certainty::Once),
        };
        // The sequence number of a FIN is not trusted as the flow's: the FIN may be forged.
        let elsewhere = if matches!(self.sign.signal, Signal::Fin) { 1 << 31 } else { 0 };
        let (since, slot) = (since(self.table.now), slot.number());
        let served = Served { backend, since, slot, sequence: self.sign.expects ^ elsewhere };
        let birth = Birth { stage, class: tracking.into(), certainty, served };
        let claim = RecordClaim { places: Anywhere::new(self.place, self.table.mask), maps: self.maps };
        self.table.insert(self.flow, self.place, &birth, &claim)
    }
}

/// The places that a record may have in the table.
struct RecordClaim<'a, M> {
    places: Anywhere,
    maps: &'a M,
}

impl<M: Maps> Claim<Native> for RecordClaim<'_, M> {
    #[inline(always)]
    fn place(&self, probe: u32) -> u32 {
        Claim::<Native>::place(&self.places, probe)
    }

    #[inline(always)]
    fn last(&self) -> u32 {
        Claim::<Native>::last(&self.places)
    }

    /// A displaced flow has no record any more, so its slot must not be handed over and is marked. A flow is displaced
    /// only while its backend owns its slot, so not once the slot was handed over to another one.
    #[inline(always)]
    fn may_displace(&self, served: Served) -> bool {
        let slot = SlotAddress::of_number(served.slot);
        self.maps.set_unrecorded(slot);
        self.maps.slot(slot).is_some_and(|slot| slot.owner == served.backend)
    }
}

/// The counter for a flow that is recorded.
const fn recorded(starts: bool) -> FlowCount {
    if starts { FlowCount::RecordedAtNew } else { FlowCount::RecordedAtOwner }
}
