//! A copy of the maps, on which the packet path's own code shows what becomes of a packet, at present or under an
//! assumption. The maps are not written.

use std::time::Duration;

use edge_common::{
    abi::{BackendNumber, FlowEnds, FlowHead, Mac, SLOTS_PER_CELL, Service, SlotCell, State, Station, banked, map},
    flow_table::{Anywhere, Birth, Certainty, Flow},
    host::{Flows, Frame, Located, Memory, Nat},
    pipeline,
    step::Outcome,
};

use super::{
    Answer, BpfError, FlowRecord, NatFlow, PinnedMaps, STATION, error::out_of, flows::FlowTable, mapped::Mapped,
    maps::position,
};
use crate::plan::{self, PoolRecord};

/// Entries of the copy's flow table, which holds a single flow.
const FLOWS: usize = 64;

/// A copy of the maps as far as they concern some services.
pub(crate) struct Explained {
    pub(crate) memory: Memory,
    pub(crate) bank: u32,
    pub(crate) ingress: u32,
}

impl PinnedMaps {
    /// Copies the published generation, with the tables of these services. Packets arrive on the interface `ingress`, at
    /// a station added for them.
    pub(crate) fn explained(&self, services: &[u32], ingress: u32, now: Duration) -> Result<Explained, BpfError> {
        let maps = &self.maps;
        let (bank, _) = maps.published().ok_or(BpfError::Unpublished)?;
        let mut memory = Memory::default();
        memory.published = maps.published.read(0).ok_or(out_of(map::PUBLISHED, 0))?;
        memory.published.active = bank;
        memory.published.generations[bank as usize].stations[0] = Station::new(ingress, Mac::new(STATION));
        // A table that services share has the same owners, and nothing that an assumption changes.
        let common = self.snapshot()?.map(|snapshot| snapshot.common_cells()).unwrap_or_default();
        memory.service_index_v4 = maps.index_v4.all().map(|entry| self.with_own_slots(entry, bank, &common)).collect();
        memory.service_index_v6 = maps.index_v6.all().map(|entry| self.with_own_slots(entry, bank, &common)).collect();
        memory.services = maps.services.all().collect();
        memory.pools = maps.pools.all().collect();
        memory.backends = maps.backends.all().collect();
        // Most of these are never read, and so take no memory.
        memory.candidates = vec![bytemuck::Zeroable::zeroed(); maps.candidates.len() as usize];
        let mut slots = vec![SlotCell::default(); maps.slots.len() as usize];
        for number in services {
            let Some(service) = maps.service(bank, *number) else { continue };
            copy(&maps.slots, service.slots, (service.slot_mask / SLOTS_PER_CELL) + 1, &mut slots);
            copy(&maps.candidates, service.servers, service.server_mask + 1, &mut memory.candidates);
            for pool in pools_of(&service) {
                let Some(pool) = position(bank, pool.into()).and_then(|at| maps.pools.read(at)) else { continue };
                // `sizes` has a bit for each table size, so as a number it is the total number of cells.
                copy(&maps.candidates, pool.table, pool.sizes, &mut memory.candidates);
                let cells = u32::from(pool.members).div_ceil(4);
                copy(&maps.candidates, pool.member_list, cells, &mut memory.candidates);
            }
        }
        memory.slots = slots.into();
        memory.flows = Flows::new(FLOWS);
        if let Some(head) = maps.nat_head.read(0).filter(|head| head.ports > 0) {
            memory.nat = Nat::new(head);
        }
        memory.clock_ns.set(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        Ok(Explained { memory, bank, ingress })
    }

    /// Copies the record of a flow into `explained` and returns it; `None` if there is no record or it has expired.
    pub(crate) fn explain_record(
        &self,
        explained: &mut Explained,
        ends: FlowEnds,
        now: Duration,
    ) -> Result<Option<FlowRecord>, BpfError> {
        let table = FlowTable::new(&self.maps, now)?;
        let head = self.maps.flow_head.read(0).ok_or(out_of(map::FLOW_HEAD, 0))?;
        let mask = explained.memory.flows.head.mask;
        explained.memory.flows.head = FlowHead { mask, ..head };
        let generation = &explained.memory.published.generations[(explained.bank & 1) as usize];
        let flow = Flow::from(ends);
        let hash = flow.hash(&generation.hash_key);
        let Some(found) = table.find(&flow, hash).filter(|found| !table.is_expired(found)) else { return Ok(None) };
        let Some(class) = found.life.class() else { return Ok(None) };
        let certainty = if found.life.is_tentative() { Certainty::Tentative } else { Certainty::Certain };
        let birth = Birth { stage: found.life.stage(), class, certainty, served: found.served };
        let copy = explained.memory.flows.table(table.units());
        // An empty table has room for one entry.
        let _full = copy.insert(&flow, hash, &birth, &Anywhere::new(hash, mask));
        Ok(Some(table.record(&found)))
    }

    /// The entry of a translated flow.
    pub(crate) fn explain_translated(&self, ends: FlowEnds, now: Duration) -> Result<Option<NatFlow>, BpfError> {
        Ok(self.nat_flows(now)?.into_iter().find(|(flow, _)| *flow == ends).map(|(_, found)| found))
    }
}

impl Explained {
    /// The outcome of a frame sent to the copy's station, given the flows copied so far.
    pub(crate) fn answer(&self, frame: &[u8]) -> Answer {
        let mut frame = Frame::new(frame).from_interface(self.ingress);
        let Outcome { exit, egress } = pipeline::process(&mut frame, &self.memory);
        // Only a forwarded packet has an egress interface.
        let backend = if egress == 0 { 0 } else { self.memory.last_backend() };
        Answer { exit, frame: frame.bytes().to_vec(), backend }
    }

    /// The flow and the slot of a frame.
    pub(crate) fn locate(&self, frame: &[u8]) -> Option<Located> {
        self.memory.locate(&Frame::new(frame).from_interface(self.ingress))
    }

    pub(crate) fn service(&self, number: u32) -> Option<&Service> {
        self.memory.services.get(position(self.bank, number)? as usize)
    }

    /// Changes states, and the counts derived from them, as the controller does.
    pub(crate) fn assume(
        &mut self,
        services: &[u32],
        pools: &[(u16, &PoolRecord)],
        change: impl Fn(BackendNumber, State) -> State,
    ) {
        for (number, record) in pools {
            let order = plan::member_order(&record.backends);
            let mut changed = false;
            for backend in &order {
                let Some(entry) = self.memory.backends.get_mut(usize::from(*backend)) else { continue };
                let state = change(*backend, State(entry.state)).0;
                changed |= std::mem::replace(&mut entry.state, state) != state;
            }
            if changed {
                self.recount(*number, &order);
                // After a change packets look at all slots.
                for service in services {
                    self.look(*service);
                }
            }
        }
    }

    fn recount(&mut self, number: u16, order: &[BackendNumber]) {
        let state = |backend: &BackendNumber| {
            State(self.memory.backends.get(usize::from(*backend)).map_or(0, |backend| backend.state))
        };
        let members: Vec<_> = order.iter().map(|backend| (*backend, state(backend))).collect();
        let at = banked(self.bank, number.into()) as usize;
        let Some(pool) = self.memory.pools.get_mut(at) else { return };
        (pool.available, pool.enabled) = plan::counts(members.iter().map(|(_, state)| *state));
        let first = pool.member_list as usize;
        for (place, cell) in plan::member_list(&members).into_iter().enumerate() {
            if let Some(listed) = self.memory.candidates.get_mut(first + place) {
                *listed = cell;
            }
        }
    }

    fn look(&self, service: u32) {
        let Some(Service { slots, slot_mask, .. }) = self.service(service).copied() else { return };
        let cells = slots as usize..=(slots + slot_mask / SLOTS_PER_CELL) as usize;
        if let Some(cells) = self.memory.slots.borrow_mut().get_mut(cells) {
            cells.iter_mut().flat_map(|cell| &mut cell.0).for_each(|slot| slot.look = 1);
        }
    }
}

fn pools_of(service: &Service) -> impl Iterator<Item = u16> {
    service.pools.into_iter().take(service.pool_count.into())
}

/// Copies `count` entries from `first` on to the same indexes of `to`.
fn copy<T: bytemuck::Pod>(map: &Mapped<T>, first: u32, count: u32, to: &mut [T]) {
    for number in first..first.saturating_add(count) {
        let (Some(value), Some(place)) = (map.read(number), to.get_mut(number as usize)) else { return };
        *place = value;
    }
}
