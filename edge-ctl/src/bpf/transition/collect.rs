//! Flow records are read; needless ones are deleted, and the others counted.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use bytemuck::Pod;

use edge_common::{
    abi::{BackendNumber, FlowEnds, FlowKeyV4, FlowKeyV6, FlowRecord, Generation, HashKey, Target},
    lookup::hash::Hash,
    tables::handover::is_redundant,
};

use super::progress::Waits;
use crate::bpf::{
    BpfError,
    flows::{FlowTable, Run},
    maps::{Maps, position},
    slots::Slots,
    view::{Copies, Picker},
};

/// The records that were kept in one reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// By number. Records of no service, which are kept until their time is over since it may come back, are in none.
    services: Vec<u64>,
    backends: Vec<u64>,
    /// Slots with records, by the number of the service: a bit for each.
    slots: BTreeMap<u32, Vec<u64>>,
}

impl Tally {
    pub(super) fn of_service(&self, number: u32) -> u64 {
        self.services.get(number as usize).copied().unwrap_or_default()
    }

    pub(super) fn of_backend(&self, number: BackendNumber) -> u64 {
        self.backends.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// Whether a flow of the service's slot is recorded. The service is looked up once, since it is asked for each of its slots.
    pub(super) fn is_recorded(&self, service: u32) -> impl Fn(u32) -> bool + use<'_> {
        let words = self.slots.get(&service).map_or(&[][..], Vec::as_slice);
        move |slot| words.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 != 0)
    }

    /// Whether there were none.
    pub(super) const fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    fn count(&mut self, service: Option<(u32, u32)>, record: &FlowRecord) {
        if let Some((number, slot)) = service {
            count(&mut self.services, number as usize);
            let (words, at) = (self.slots.entry(number).or_default(), slot as usize / 64);
            if words.len() <= at {
                words.resize(at + 1, 0);
            }
            words[at] |= 1 << (slot % 64);
        }
        count(&mut self.backends, record.backend.into());
    }
}

/// One more at `number`.
fn count(numbers: &mut Vec<u64>, number: usize) {
    if numbers.len() <= number {
        numbers.resize(number + 1, 0);
    }
    numbers[number] += 1;
}

/// All destinations of a published bank.
#[derive(Debug)]
struct Destinations(HashMap<(IpAddr, u16, u8), Target>);

impl Destinations {
    fn of(maps: &Maps, bank: u32, generation: &Generation) -> Self {
        let mut found = HashMap::new();
        let mut add = |vip: IpAddr, port: [u8; 2], protocol, target: Target| {
            if !target.is_vip() {
                found.insert((vip, u16::from_be_bytes(port), protocol), target);
            }
        };
        // What lies behind the mask is of an older generation.
        let at = |mask: u32| (0..=mask).filter_map(move |n| position(bank, n));
        for entry in
            at(generation.index_mask_v4).filter_map(|at| maps.index_v4.read(at)).filter(|entry| entry.key.used == 1)
        {
            add(entry.key.vip.into(), entry.key.port, entry.key.protocol, entry.target);
        }
        for entry in
            at(generation.index_mask_v6).filter_map(|at| maps.index_v6.read(at)).filter(|entry| entry.key.used == 1)
        {
            add(entry.key.vip.into(), entry.key.port, entry.key.protocol, entry.target);
        }
        Self(found)
    }

    /// As a packet finds it: of the port, or else of all ports.
    fn get(&self, ends: &FlowEnds) -> Option<Target> {
        let at = |port| self.0.get(&(ends.vip, port, ends.protocol)).copied();
        at(ends.port).or_else(|| at(0))
    }
}

/// A flow's key, which the packet path has its slot from.
trait FlowKey: Pod {
    fn ends(&self) -> FlowEnds;
    /// `prefix`: 0, or only as many leading bits of the client's address count, and no ports.
    fn hash(&self, key: &HashKey, prefix: u8) -> Hash;
}

impl FlowKey for FlowKeyV4 {
    fn ends(&self) -> FlowEnds {
        self.ends()
    }

    fn hash(&self, key: &HashKey, prefix: u8) -> Hash {
        let client = self.client.to_ne_bytes();
        match prefix {
            0 => key.hash_v4(client, self.ports),
            prefix => key.hash_source_v4(client, prefix),
        }
    }
}

impl FlowKey for FlowKeyV6 {
    fn ends(&self) -> FlowEnds {
        self.ends()
    }

    fn hash(&self, key: &HashKey, prefix: u8) -> Hash {
        let client = bytemuck::cast(self.client);
        match prefix {
            0 => key.hash_v6(client, self.ports),
            prefix => key.hash_source_v6(client, prefix),
        }
    }
}

/// How far a reading has come.
#[derive(Clone, Copy, Debug)]
enum TablePosition {
    V4(Option<u32>),
    V6(Option<u32>),
}

/// All records, read a run at a time.
#[derive(Debug)]
pub(super) struct Reading {
    bank: u32,
    destinations: Destinations,
    position: TablePosition,
    tally: Tally,
    began: Duration,
}

impl Reading {
    pub(super) fn new(maps: &Maps, bank: u32, generation: &Generation, now: Duration) -> Self {
        Self {
            bank,
            destinations: Destinations::of(maps, bank, generation),
            position: TablePosition::V4(None),
            tally: Tally::default(),
            began: now,
        }
    }

    /// When the reading began.
    pub(super) const fn began(&self) -> Duration {
        self.began
    }

    /// Reads a run more; true when it was the last one. `now` is the clock of the records.
    pub(super) fn go_on(
        &mut self,
        maps: &Maps,
        copies: &Copies,
        waits: &BTreeMap<u32, Waits>,
        now: Duration,
    ) -> Result<bool, BpfError> {
        match self.position {
            TablePosition::V4(from) => {
                let next = self.read(&maps.flows_v4, from, maps, copies, waits, now)?;
                self.position = next.map_or(TablePosition::V6(None), |next| TablePosition::V4(Some(next)));
            }
            TablePosition::V6(from) => match self.read(&maps.flows_v6, from, maps, copies, waits, now)? {
                Some(next) => self.position = TablePosition::V6(Some(next)),
                None => return Ok(true),
            },
        }
        Ok(false)
    }

    /// Counts all records, and deletes none.
    pub(super) fn count(mut self, maps: &Maps) -> Result<Tally, BpfError> {
        let v4 = maps.flows_v4.all()?.into_iter().map(|(key, record)| (key.ends(), record));
        let v6 = maps.flows_v6.all()?.into_iter().map(|(key, record)| (key.ends(), record));
        for (ends, record) in v4.chain(v6) {
            // Who only counts settles nothing.
            self.tally.count(self.destinations.get(&ends).map(|target| (target.service(), 0)), &record);
        }
        Ok(self.tally)
    }

    /// What has been kept.
    pub(super) fn finish(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn read<K: FlowKey>(
        &mut self,
        table: &FlowTable<K>,
        from: Option<u32>,
        maps: &Maps,
        copies: &Copies,
        waits: &BTreeMap<u32, Waits>,
        now: Duration,
    ) -> Result<Option<u32>, BpfError> {
        let picker = Picker::new(maps, copies);
        let longest = waits.values().map(|waits| waits.expiry).max().unwrap_or(Waits::UNKNOWN.expiry);
        let Run { records, next } = table.read(from)?;
        let mut done = Vec::new();
        for (key, record) in &records {
            let silent = now.saturating_sub(Duration::from_nanos(record.seen_ns));
            let found = self.destinations.get(&key.ends());
            let service = found.and_then(|found| maps.service(self.bank, found.service()));
            let slot = |target: Target| key.hash(copies.hash_key(), target.affinity_prefix()).slot(target.slot_mask());
            let found = found.map(|target| (target, slot(target)));
            let needless = match (found, service) {
                (Some((target, slot)), Some(service)) => {
                    let expiry = waits.get(&target.service()).unwrap_or(&Waits::UNKNOWN).expiry;
                    let owner = Slots::of(maps, &service).owner(slot);
                    // Found only where it matters: it takes longer than all the rest.
                    let pick = if owner == record.backend { picker.pick(&service, slot) } else { None };
                    is_redundant(record, owner, pick, silent, expiry)
                }
                _ => silent > longest,
            };
            if needless {
                done.push(*key);
            } else {
                self.tally.count(found.map(|(target, slot)| (target.service(), slot)), record);
            }
        }
        table.delete(&done)?;
        Ok(next)
    }
}
