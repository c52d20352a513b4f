//! The table of translated flows, in the controller's memory: read entry by entry, while packets use it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::atomic::AtomicU32,
    time::Duration,
};

use edge_common::{
    abi::{Backend, BackendNumber, FlowEnds, NAT_HOPS, NatHead, NatSource, Tracking, map},
    flow_table::{Entry, EntryState, Flow, FlowMemory, FlowTable, Native, Stage, units},
    nat::{self, Hop, Translation},
};

use super::{BpfError, PinnedMaps, error::out_of, flows::duration, maps::Maps, nat_hops};

/// The table's two arrays.
pub(super) struct NatMemory<'a>(&'a Maps);

impl FlowMemory for NatMemory<'_> {
    type Words = Native;

    fn bucket(&self, number: u32) -> Option<&[AtomicU32]> {
        self.0.nat_index.slots(number)
    }

    fn entry(&self, number: u32) -> Option<&Entry<Native>> {
        self.0.nat_flows.entry(number)
    }
}

/// The table of translated flows at one point in time.
pub(super) struct NatTable<'a> {
    memory: NatMemory<'a>,
    pub(super) head: NatHead,
    now: u32,
}

/// The address of a source.
pub(super) fn address(source: &NatSource) -> Option<IpAddr> {
    let [a, b, c, d, ..] = source.address;
    match source.family {
        4 => Some(IpAddr::from([a, b, c, d])),
        6 => Some(IpAddr::from(source.address)),
        _ => None,
    }
}

/// A translated flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NatFlow {
    pub(crate) backend: BackendNumber,
    /// The source address that the backend sees; `None` if that source is no longer known.
    pub(crate) source: Option<IpAddr>,
    pub(crate) source_port: u16,
    pub(crate) stage: Stage,
    /// Time since the last packet, to a quarter of a second.
    pub(crate) silent: Duration,
}

/// Occupancy of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NatUse {
    /// Entries in use; `room`: all entries.
    pub(crate) flows: u32,
    pub(crate) room: u32,
    /// Ports per source, each of which can be used once per backend.
    pub(crate) ports: u32,
    pub(crate) backends: Vec<NatBackend>,
}

/// The flows of one backend from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NatBackend {
    pub(crate) backend: BackendNumber,
    /// `None` if the source is no longer known.
    pub(crate) source: Option<IpAddr>,
    pub(crate) counts: NatCounts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NatCounts {
    /// Ports in use, each by one flow.
    pub(crate) flows: u32,
    /// Flows among these that the backend has not answered or the client has not confirmed yet.
    pub(crate) half_open: u32,
    /// Flows among these that are over, but whose ports are still reserved.
    pub(crate) closed: u32,
}

impl NatCounts {
    fn add(&mut self, stage: Stage) {
        self.flows += 1;
        match stage {
            Stage::HalfOpen | Stage::Answered => self.half_open += 1,
            Stage::Closed | Stage::Finished | Stage::Reset => self.closed += 1,
            Stage::Established | Stage::ClientClosed | Stage::BackendClosed => {}
        }
    }
}

/// An incremental walk over the table, with the result of the last complete walk.
#[derive(Debug, Default)]
pub(super) struct NatWalk {
    next: u32,
    found: BTreeMap<(BackendNumber, u8), NatCounts>,
    hops: BTreeSet<u32>,
    last: Option<NatUse>,
}

/// The idle timeouts of each service's translated flows, by the number of the service and the class of the flow. The
/// longest of a class counts.
pub(crate) type NatIdle = BTreeMap<u16, Vec<(Tracking, Duration)>>;

/// Number of steps in which a walk covers the table.
const PARTS: u32 = 10;

impl<'a> NatTable<'a> {
    /// `None` if nothing was ever translated with these maps. `now` is of `CLOCK_MONOTONIC`.
    pub(super) fn new(maps: &'a Maps, now: Duration) -> Result<Option<Self>, BpfError> {
        let head = maps.nat_head.read(0).ok_or(out_of(map::NAT_HEAD, 0))?;
        let now = units(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        Ok((head.ports != 0).then_some(Self { memory: NatMemory(maps), head, now }))
    }

    pub(super) fn table(&self) -> FlowTable<'_, NatMemory<'a>> {
        let flows = &self.head.flows;
        FlowTable { memory: &self.memory, mask: flows.mask, timeouts: &flows.timeouts, now: self.now }
    }

    /// All flows, in no particular order.
    pub(super) fn all(&self) -> impl Iterator<Item = (Flow, EntryState)> {
        (0..self.memory.0.nat_flows.len()).filter_map(|number| self.table().read(number))
    }

    /// A backend of the maps to which the table belongs.
    pub(super) fn backend(&self, number: BackendNumber) -> Option<Backend> {
        self.memory.0.backends.read(number.into())
    }

    pub(super) fn is_expired(&self, found: &EntryState) -> bool {
        found.life.is_gone(self.now, &self.head.flows.timeouts)
    }

    /// Whether an established flow has been silent for longer than its own service says. Packets know only the longest
    /// timeout of each class.
    fn is_idle(&self, found: &EntryState, service: u16, idle: &NatIdle) -> bool {
        // Most entries are of flows that are over.
        if found.life.stage() != Stage::Established {
            return false;
        }
        let limits = idle.get(&service).map_or(&[][..], Vec::as_slice);
        let is_its = |(tracking, _): &&(Tracking, Duration)| found.life.class() == Some((*tracking).into());
        let longest = limits.iter().filter(is_its).map(|(_, limit)| *limit).max();
        longest.is_some_and(|longest| self.silent(found) > longest + duration(1))
    }

    /// Time since the flow's last packet.
    fn silent(&self, found: &EntryState) -> Duration {
        duration(u32::try_from(found.life.age(self.now)).unwrap_or_default())
    }

    fn flow(&self, found: &EntryState) -> NatFlow {
        let Translation { backend, source, .. } = Translation::of(found.served);
        NatFlow {
            backend,
            source: self.head.sources.get(usize::from(source)).and_then(address),
            source_port: nat::port_of(&self.head, found.number),
            stage: found.life.stage(),
            silent: self.silent(found),
        }
    }
}

impl PinnedMaps {
    /// All translated flows, in no particular order. `now` is of `CLOCK_MONOTONIC`.
    pub(crate) fn nat_flows(&self, now: Duration) -> Result<Vec<(FlowEnds, NatFlow)>, BpfError> {
        let Some(table) = NatTable::new(&self.maps, now)? else { return Ok(Vec::new()) };
        Ok(table.all().map(|(flow, found)| (flow.ends(), table.flow(&found))).collect())
    }

    /// Continues a walk over the table, by a tenth of it: frees entries of flows that are over and counts the others; at
    /// the end of the walk it frees hops that no flow uses. Packets do not depend on it: they reclaim the entries that
    /// they need. `now` is of `CLOCK_MONOTONIC`.
    pub(crate) fn sweep_nat(&mut self, idle: &NatIdle, now: Duration) -> Result<(), BpfError> {
        let mut walk = std::mem::take(&mut self.nat_walk);
        let done = self.walk_nat(&mut walk, self.capacity.nat_flows.div_ceil(PARTS), Some(idle), now);
        if let Ok(true) = done {
            nat_hops::sweep(self.hops(), &walk.hops);
            walk.hops.clear();
        }
        self.nat_walk = walk;
        done.map(drop)
    }

    fn hops(&self) -> impl Iterator<Item = (u32, Hop<'_>)> {
        (1..NAT_HOPS).filter_map(|number| Some((number, Hop(self.maps.nat_hops.words(number)?))))
    }

    /// Stores the present MTUs of the interfaces by which translated answers leave, bytes of IP packet.
    pub(crate) fn set_hop_mtus(&self, mtu_of: impl Fn(u32) -> Option<u32>) {
        nat_hops::set_mtus(self.hops(), mtu_of);
    }

    /// Walks over the whole table without freeing anything.
    pub(super) fn survey_nat(&mut self, now: Duration) -> Result<(), BpfError> {
        let mut walk = NatWalk::default();
        self.walk_nat(&mut walk, u32::MAX, None, now)?;
        self.nat_walk = walk;
        Ok(())
    }

    /// The result of the last complete walk; `None` before the first, or if nothing is translated.
    pub(crate) const fn nat_use(&self) -> Option<&NatUse> {
        self.nat_walk.last.as_ref()
    }

    /// Frees entries only with the idle timeouts `idle`. Returns true at the end of the table.
    fn walk_nat(&self, walk: &mut NatWalk, most: u32, idle: Option<&NatIdle>, now: Duration) -> Result<bool, BpfError> {
        let Some(table) = NatTable::new(&self.maps, now)? else { return Ok(false) };
        let all = self.maps.nat_flows.len();
        let end = walk.next.saturating_add(most).min(all);
        for (_, found) in (walk.next..end).filter_map(|number| table.table().read(number)) {
            let Translation { backend, source, hop, service, .. } = Translation::of(found.served);
            if table.is_expired(&found) || idle.is_some_and(|idle| table.is_idle(&found, service, idle)) {
                if idle.is_some() {
                    table.table().forget(found.number, found.life);
                }
                continue;
            }
            walk.hops.insert(hop.into());
            walk.found.entry((backend, source)).or_default().add(found.life.stage());
        }
        walk.next = end;
        if end < all {
            return Ok(false);
        }
        walk.next = 0;
        let found = std::mem::take(&mut walk.found);
        let backend = |((backend, source), counts): ((BackendNumber, u8), NatCounts)| {
            let source = table.head.sources.get(usize::from(source)).and_then(address);
            NatBackend { backend, source, counts }
        };
        let flows = found.values().map(|counts| counts.flows).sum();
        let backends = found.into_iter().map(backend).collect();
        walk.last = Some(NatUse { flows, room: all, ports: table.head.ports, backends });
        Ok(true)
    }
}
