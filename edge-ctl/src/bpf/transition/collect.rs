//! Reads the flow records: deletes needless ones and counts the others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use edge_common::{
    abi::{BackendNumber, FlowEnds, Generation, HashKey, ServiceRef},
    flow_table::Flow,
    tables::handover::is_redundant,
};

use super::progress::Waits;
use crate::bpf::{
    BpfError,
    flows::FlowTable,
    maps::{Maps, position},
    slots::Slots,
    view::{Copies, Picker},
};

/// The records that one reading has kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Number of records by service number. Records of no service are in no count; they are kept until they expire,
    /// since the service may come back.
    services: Vec<u64>,
    backends: Vec<u64>,
    /// Slots with records by service number, one bit per slot.
    slots: BTreeMap<u32, Vec<u64>>,
}

impl Tally {
    pub(super) fn of_service(&self, number: u32) -> u64 {
        self.services.get(number as usize).copied().unwrap_or_default()
    }

    pub(super) fn of_backend(&self, number: BackendNumber) -> u64 {
        self.backends.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// Whether a slot of the service has a record. The service is looked up once, since the result is called for each of
    /// its slots.
    pub(super) fn is_recorded(&self, service: u32) -> impl Fn(u32) -> bool + use<'_> {
        let words = self.slots.get(&service).map_or(&[][..], Vec::as_slice);
        move |slot| words.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 != 0)
    }

    /// Whether the reading has kept no record.
    pub(super) const fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    fn count(&mut self, service: Option<(u32, u32)>, backend: BackendNumber) {
        if let Some((number, slot)) = service {
            count(&mut self.services, number as usize);
            let (words, at) = (self.slots.entry(number).or_default(), slot as usize / 64);
            if words.len() <= at {
                words.resize(at + 1, 0);
            }
            words[at] |= 1 << (slot % 64);
        }
        count(&mut self.backends, backend.into());
    }
}

/// Adds one to the count of `number`.
fn count(numbers: &mut Vec<u64>, number: usize) {
    if numbers.len() <= number {
        numbers.resize(number + 1, 0);
    }
    numbers[number] += 1;
}

/// All destinations of the published bank.
#[derive(Debug)]
pub(super) struct Destinations(HashMap<(IpAddr, u16, u8), ServiceRef>);

impl Destinations {
    pub(super) fn of(maps: &Maps, bank: u32, generation: &Generation) -> Self {
        let mut found = HashMap::new();
        let mut add = |vip: IpAddr, port: [u8; 2], protocol, service_ref: ServiceRef| {
            if !service_ref.is_vip() {
                found.insert((vip, u16::from_be_bytes(port), protocol), service_ref);
            }
        };
        // Entries past the mask belong to an older generation.
        let at = |mask: u32| (0..=mask).filter_map(move |n| position(bank, n));
        for entry in
            at(generation.index_mask_v4).filter_map(|at| maps.index_v4.read(at)).filter(|entry| entry.key.used == 1)
        {
            add(entry.key.vip.into(), entry.key.port, entry.key.protocol, entry.service_ref);
        }
        for entry in
            at(generation.index_mask_v6).filter_map(|at| maps.index_v6.read(at)).filter(|entry| entry.key.used == 1)
        {
            add(entry.key.vip.into(), entry.key.port, entry.key.protocol, entry.service_ref);
        }
        Self(found)
    }

    /// The services to which flows may come that had another slot `before`, by number: those with a destination that was
    /// another service's, or whose flows were hashed otherwise, or that take the flows of one that is gone.
    pub(super) fn regrouped(&self, before: &Self) -> BTreeSet<u32> {
        let is_same = |(key, is): (_, &ServiceRef)| {
            // Services that share a table of slots have the same own slots as before.
            before.0.get(key).is_some_and(|was| was.with_slots(0) == is.with_slots(0))
        };
        let new = self.0.iter().filter(|entry| !is_same(*entry)).map(|(_, is)| is);
        let gone = before.0.keys().filter(|key| !self.0.contains_key(key));
        let all_ports = gone.filter_map(|(vip, _, protocol)| self.0.get(&(*vip, 0, *protocol)));
        new.chain(all_ports).map(|service_ref| service_ref.service()).collect()
    }

    /// The target of a flow by the packet path's rule: the entry of its port, otherwise the entry of all ports.
    fn get(&self, ends: &FlowEnds) -> Option<ServiceRef> {
        let at = |port| self.0.get(&(ends.vip, port, ends.protocol)).copied();
        at(ends.port).or_else(|| at(0))
    }
}

/// Entries of the table that one step reads.
const RUN: u32 = 1 << 15;

/// The slot of a flow to `target`, by the packet path's rule.
fn slot(key: &HashKey, service_ref: ServiceRef, flow: &Flow) -> u32 {
    let prefix = service_ref.affinity_prefix();
    let hash = match (flow.ends().client, prefix) {
        (IpAddr::V4(client), 0) => key.hash_v4(client.octets(), flow.ports()),
        (IpAddr::V4(client), _) => key.hash_source_v4(client.octets(), prefix),
        (IpAddr::V6(client), 0) => key.hash_v6(client.octets(), flow.ports()),
        (IpAddr::V6(client), _) => key.hash_source_v6(client.octets(), prefix),
    };
    hash.slot(service_ref.slot_mask())
}

/// One reading of all records, a run at a time.
#[derive(Debug)]
pub(super) struct Reading {
    bank: u32,
    destinations: Destinations,
    /// Number of the next entry.
    position: u32,
    tally: Tally,
    began: Duration,
}

impl Reading {
    pub(super) fn new(maps: &Maps, bank: u32, generation: &Generation, now: Duration) -> Self {
        Self {
            bank,
            destinations: Destinations::of(maps, bank, generation),
            position: 0,
            tally: Tally::default(),
            began: now,
        }
    }

    /// Time at which the reading began.
    pub(super) const fn began(&self) -> Duration {
        self.began
    }

    /// Reads the next run; returns true after the last one. `now` is of the records' clock.
    pub(super) fn go_on(
        &mut self,
        maps: &Maps,
        copies: &Copies,
        waits: &BTreeMap<u32, Waits>,
        now: Duration,
    ) -> Result<bool, BpfError> {
        let table = FlowTable::new(maps, now)?;
        let picker = Picker::new(maps, copies);
        let longest = waits.values().map(|waits| waits.expiry).max().unwrap_or(Waits::UNKNOWN.expiry);
        let end = self.position.saturating_add(RUN).min(table.entries());
        for (flow, found) in (self.position..end).filter_map(|number| table.read(number)) {
            let backend = found.served.backend;
            let service_ref = self.destinations.get(&flow.ends());
            let at = service_ref.map(|service_ref| (service_ref, slot(copies.hash_key(), service_ref, &flow)));
            let service = service_ref.and_then(|service_ref| maps.service(self.bank, service_ref.service()));
            let expiry = service_ref
                .map_or(longest, |service_ref| waits.get(&service_ref.service()).unwrap_or(&Waits::UNKNOWN).expiry);
            let needless = table.is_expired(&found)
                || table.silent(&found) > expiry
                || at.zip(service).is_some_and(|((_, slot), service)| {
                    let owner = Slots::of(maps, &service).owner(slot);
                    // Picked only if the owner is the flow's backend: picking takes longer than all the rest.
                    let pick = if owner == backend { picker.pick(&service, slot) } else { None };
                    is_redundant(backend, owner, pick)
                });
            if needless {
                table.forget(&found);
            } else {
                self.tally.count(at.map(|(service_ref, slot)| (service_ref.service(), slot)), backend);
            }
        }
        self.position = end;
        Ok(end == table.entries())
    }

    /// Counts all records and deletes none.
    pub(super) fn count(mut self, maps: &Maps) -> Result<Tally, BpfError> {
        for (flow, found) in FlowTable::new(maps, self.began)?.all() {
            // Slot 0 for all: a mere count does not clear `look` in any slot.
            let service = self.destinations.get(&flow.ends()).map(|service_ref| (service_ref.service(), 0));
            self.tally.count(service, found.served.backend);
        }
        Ok(self.tally)
    }

    /// The tally of the reading.
    pub(super) fn finish(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }
}
