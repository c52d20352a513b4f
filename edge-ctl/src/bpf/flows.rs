//! The flow table, in the controller's memory: read entry by entry, while packets use it.

use std::{sync::atomic::AtomicU32, time::Duration};

use edge_common::{
    abi::{BackendNumber, FlowEnds, FlowHead, HashKey, Timeouts, Tracking, map},
    flow_table::{
        self, Anywhere, Birth, Certainty, Class, Entry, EntryState, Flow, FlowMemory, Native, Served, Signal, Stage,
        age_of, since, units,
    },
};

use super::{BpfError, PinnedMaps, error::out_of, maps::Maps};

impl FlowMemory for Maps {
    type Words = Native;

    fn bucket(&self, number: u32) -> Option<&[AtomicU32]> {
        self.flow_index.slots(number)
    }

    fn entry(&self, number: u32) -> Option<&Entry<Native>> {
        self.flows.entry(number)
    }
}

/// The flow table at one point in time.
pub(super) struct FlowTable<'a> {
    maps: &'a Maps,
    head: FlowHead,
    now: u32,
}

/// A flow record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowRecord {
    pub(crate) backend: BackendNumber,
    pub(crate) stage: Stage,
    /// Time since the flow was recorded, to a quarter of a minute; `silent`: time since its last packet, to a quarter of
    /// a second.
    pub(crate) age: Duration,
    pub(crate) silent: Duration,
}

impl<'a> FlowTable<'a> {
    /// `now` is of `CLOCK_MONOTONIC`.
    pub(super) fn new(maps: &'a Maps, now: Duration) -> Result<Self, BpfError> {
        let head = maps.flow_head.read(0).ok_or(out_of(map::FLOW_HEAD, 0))?;
        Ok(Self { maps, head, now: units(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)) })
    }

    fn table(&self) -> flow_table::FlowTable<'_, Maps> {
        flow_table::FlowTable { memory: self.maps, mask: self.head.mask, timeouts: &self.head.timeouts, now: self.now }
    }

    /// Number of entries, free or not.
    pub(super) fn entries(&self) -> u32 {
        self.maps.flows.len()
    }

    /// The flow in entry `number`; `None` if the entry is free.
    pub(super) fn read(&self, number: u32) -> Option<(Flow, EntryState)> {
        self.table().read(number)
    }

    /// The entry of a flow, expired or not.
    pub(super) fn find(&self, flow: &Flow, hash: edge_common::hash::Hash) -> Option<EntryState> {
        self.table().find(flow, hash)
    }

    /// The time that expiry is measured against, in the table's units.
    pub(super) const fn units(&self) -> u32 {
        self.now
    }

    /// All records, in no particular order.
    pub(super) fn all(&self) -> impl Iterator<Item = (Flow, EntryState)> {
        (0..self.entries()).filter_map(|number| self.read(number))
    }

    /// Time since the flow's last packet.
    pub(super) fn silent(&self, found: &EntryState) -> Duration {
        duration(u32::try_from(found.life.age(self.now)).unwrap_or_default())
    }

    /// Whether a flow is over, or has exceeded the idle timeout of its class.
    pub(super) fn is_expired(&self, found: &EntryState) -> bool {
        found.life.is_gone(self.now, &self.head.timeouts)
    }

    /// Frees an entry if it still holds the same flow.
    pub(super) fn forget(&self, found: &EntryState) {
        self.table().forget(found.number, found.life);
    }

    pub(super) fn record(&self, found: &EntryState) -> FlowRecord {
        let Served { backend, since, .. } = found.served;
        // A flow is recorded no later than it was last seen.
        let (age, silent) = (duration(age_of(since, self.now)), self.silent(found));
        FlowRecord { backend, stage: found.life.stage(), age: age.max(silent), silent }
    }

    /// Copies a flow's record from another table, as seen now. Returns false, and changes nothing, if the flow has a
    /// record here already or there is no room.
    pub(super) fn carry(
        &self,
        key: &HashKey,
        flow: &Flow,
        class: Class,
        found: &EntryState,
        backend: BackendNumber,
    ) -> bool {
        let (table, hash, life) = (self.table(), flow.hash(key), found.life);
        let served = Served { backend, ..found.served };
        // `Once` holds for the slot of the old table; the flow has another slot here.
        let certainty = if life.is_tentative() { Certainty::Tentative } else { Certainty::Certain };
        let birth = Birth { stage: life.stage(), class, certainty, served };
        table.find(flow, hash).is_none() && table.insert(flow, hash, &birth, &Anywhere::new(hash, table.mask)).is_ok()
    }
}

/// A duration from the table's units.
pub(super) const fn duration(units: u32) -> Duration {
    Duration::from_nanos((units as u64) << flow_table::UNIT)
}

impl PinnedMaps {
    /// All flow records of both IP versions, in no particular order. `now` is of `CLOCK_MONOTONIC`.
    pub(crate) fn flows(&self, now: Duration) -> Result<Vec<(FlowEnds, FlowRecord)>, BpfError> {
        let table = FlowTable::new(&self.maps, now)?;
        Ok(table.all().map(|(flow, found)| (flow.ends(), table.record(&found))).collect())
    }

    /// Records a TCP flow at a backend, or refreshes its record, as the packet path does. For tests and benches. `None`
    /// if there is no room.
    pub(crate) fn record_flow(&self, ends: FlowEnds, backend: BackendNumber, now: Duration) -> Option<()> {
        let (_, generation) = self.maps.published()?;
        let table = FlowTable::new(&self.maps, now).ok()?;
        let (flow, table) = (Flow::from(ends), table.table());
        let hash = flow.hash(&generation.hash_key);
        if table.see(&flow, hash, Signal::Data, 0).is_some() {
            return Some(());
        }
        let served = Served { backend, since: since(table.now), ..Served::default() };
        let birth =
            Birth { stage: Stage::Established, class: Tracking::Tcp.into(), certainty: Certainty::Certain, served };
        table.insert(&flow, hash, &birth, &Anywhere::new(hash, table.mask)).ok().map(|_| ())
    }

    /// Writes the idle timeouts. Unless `exact`, the longer of the old and the new timeout applies, for as long as
    /// packets use the previous generation.
    pub(super) fn write_timeouts(&self, timeouts: &Timeouts, exact: bool) -> Result<(), BpfError> {
        let out_of = out_of(map::FLOW_HEAD, 0);
        let Some(before) = self.maps.flow_head.read(0) else { return Err(out_of) };
        let timeouts = if exact { *timeouts } else { before.timeouts.longest(timeouts) };
        let head = FlowHead { timeouts, mask: self.capacity.flows.saturating_sub(1), reserved: 0 };
        self.maps.flow_head.write(0, head).ok_or(out_of)
    }
}
