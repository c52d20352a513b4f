//! The table of translated flows, in the controller's memory: read entry by entry, while packets use it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::atomic::AtomicU32,
    time::Duration,
};

use edge_common::{
    abi::{BackendNumber, Family, FlowEnds, NAT_HOPS, NAT_SOURCES, NatChoice, NatHead, NatSource, map},
    flow_table::{
        Birth, Certainty, Entry, EntryState, Flow, FlowMemory, FlowTable, Life, Native, Served, Stage, units,
    },
    nat::{self, Hop, OnePlace, Translation},
};

use super::{BpfError, PinnedMaps, error::out_of, flows::duration, maps::Maps, nat_hops};
use crate::plan::NatPlan;

/// The table's two arrays.
struct NatMemory<'a>(&'a Maps);

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
    head: NatHead,
    now: u32,
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

/// Number of steps in which a walk covers the table.
const PARTS: u32 = 10;

impl<'a> NatTable<'a> {
    /// `None` if nothing was ever translated with these maps. `now` is of `CLOCK_MONOTONIC`.
    pub(super) fn new(maps: &'a Maps, now: Duration) -> Result<Option<Self>, BpfError> {
        let head = maps.nat_head.read(0).ok_or(out_of(map::NAT_HEAD, 0))?;
        let now = units(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        Ok((head.ports != 0).then_some(Self { memory: NatMemory(maps), head, now }))
    }

    fn table(&self) -> FlowTable<'_, NatMemory<'a>> {
        let flows = &self.head.flows;
        FlowTable { memory: &self.memory, mask: flows.mask, timeouts: &flows.timeouts, now: self.now }
    }

    /// All flows, in no particular order.
    pub(super) fn all(&self) -> impl Iterator<Item = (Flow, EntryState)> {
        (0..self.memory.0.nat_flows.len()).filter_map(|number| self.table().read(number))
    }

    pub(super) fn is_expired(&self, found: &EntryState) -> bool {
        found.life.is_gone(self.now, &self.head.flows.timeouts)
    }

    fn flow(&self, found: &EntryState) -> NatFlow {
        let Translation { backend, source, .. } = Translation::of(found.served);
        NatFlow {
            backend,
            source: self.head.sources.get(usize::from(source)).and_then(address),
            source_port: nat::port_of(&self.head, found.number),
            stage: found.life.stage(),
            silent: duration(u32::try_from(found.life.age(self.now)).unwrap_or_default()),
        }
    }

    /// Copies a flow from another table to its place here, which follows from its translation. Returns false if it has
    /// no place or is not added.
    fn carry(
        &self,
        from: &Self,
        flow: &Flow,
        found: &EntryState,
        backend: BackendNumber,
        services: &dyn Fn(u16) -> Option<u16>,
    ) -> bool {
        let (translation, Some(class)) = (Translation::of(found.served), found.life.class()) else { return false };
        let was = from.head.sources.get(usize::from(translation.source)).filter(|source| source.family != 0);
        let Some(was) = was else { return false };
        let number = (0u8..).zip(&self.head.sources).find(|(_, source)| *source == was).map(|(number, _)| number);
        let (Some(source), Some(service)) = (number, services(translation.service)) else { return false };
        let table = self.table();
        let hash = flow.hash(&self.head.hash_key);
        let port = nat::port_of(&from.head, found.number);
        let Some(place) = self.place(found, from, port, flow) else { return false };
        let served = Translation { backend, source, service, hop: 0, ..translation }.served(found.served.sequence);
        let birth = Birth { stage: found.life.stage(), class, certainty: Certainty::Certain, served };
        table.find(flow, hash).is_none() && table.insert(flow, hash, &birth, &OnePlace(place)).is_ok()
    }

    /// The place in this table of a flow that keeps its source port `port`.
    fn place(&self, found: &EntryState, from: &Self, port: u16, flow: &Flow) -> Option<u32> {
        let offset = u32::from(port).checked_sub(self.head.first_port).filter(|offset| *offset < self.head.ports)?;
        let Served { backend, .. } = found.served;
        let Translation { source, port: backend_port, .. } = Translation::of(found.served);
        let to = from.memory.0.backends.read(backend.into())?;
        let v6 = to.family == Family::V6 as u8;
        let words = |address| edge_common::flow_table::words_of(address, v6);
        let own = from.head.sources.get(usize::from(source))?.address;
        let tuple = nat::tuple(&self.head, words(to.address), words(own), backend_port, flow.protocol());
        Some(nat::place(&self.head, tuple, offset))
    }
}

/// The address of a source.
fn address(source: &NatSource) -> Option<IpAddr> {
    let [a, b, c, d, ..] = source.address;
    match source.family {
        4 => Some(IpAddr::from([a, b, c, d])),
        6 => Some(IpAddr::from(source.address)),
        _ => None,
    }
}

fn source(address: IpAddr) -> NatSource {
    let (family, address) = Family::split(address);
    NatSource { address, family: family as u32, reserved: 0 }
}

/// The numbers of `wanted` among `sources`, repeated to fill the list: whichever place a packet reads during a write has
/// a valid number.
fn choice(sources: &[NatSource; NAT_SOURCES], wanted: &[IpAddr], v4: bool) -> NatChoice {
    let number = |address: &IpAddr| sources.iter().position(|known| *known == source(*address));
    let numbers: Vec<_> = wanted
        .iter()
        .filter(|address| address.is_ipv4() == v4)
        .filter_map(number)
        .filter_map(|n| u8::try_from(n).ok())
        .collect();
    let mut choice = NatChoice { numbers: [0; NAT_SOURCES], count: u32::try_from(numbers.len()).unwrap_or_default() };
    for (place, number) in choice.numbers.iter_mut().zip(numbers.iter().cycle()) {
        *place = *number;
    }
    choice
}

/// The head of a new table, with the plan's sources.
pub(super) fn with_sources(mut head: NatHead, plan: &NatPlan) -> NatHead {
    for (place, address) in head.sources.iter_mut().zip(&plan.sources) {
        *place = source(*address);
    }
    head.flows.timeouts = plan.timeouts;
    head.sources_v4 = choice(&head.sources, &plan.sources, true);
    head.sources_v6 = choice(&head.sources, &plan.sources, false);
    head
}

impl PinnedMaps {
    /// All translated flows, in no particular order. `now` is of `CLOCK_MONOTONIC`.
    pub(crate) fn nat_flows(&self, now: Duration) -> Result<Vec<(FlowEnds, NatFlow)>, BpfError> {
        let Some(table) = NatTable::new(&self.maps, now)? else { return Ok(Vec::new()) };
        Ok(table.all().map(|(flow, found)| (flow.ends(), table.flow(&found))).collect())
    }

    /// Writes the sources of translated flows and their idle timeouts. Unless `exact`, the longer of the old and the new
    /// timeout applies.
    ///
    /// # Errors
    /// If there are more sources than numbers: removed sources keep theirs while flows still use them.
    pub(super) fn write_nat(&self, plan: &NatPlan, exact: bool) -> Result<(), BpfError> {
        let out_of = || out_of(map::NAT_HEAD, 0);
        let before = self.maps.nat_head.read(0).ok_or_else(out_of)?;
        let (ports, entries) = (plan.ports.count(), self.capacity.nat_flows);
        let mut head = NatHead::new(before.hash_key, plan.ports.first, ports, entries / ports.max(1), |_| 0);
        if before.ports == 0 {
            // An independent random key, so that a change of the configuration's key moves no flow.
            head.hash_key = edge_common::abi::HashKey(rand::random());
        }
        head.flows.mask = entries.saturating_sub(1);
        head.flows.timeouts = if exact { plan.timeouts } else { before.flows.timeouts.longest(&plan.timeouts) };
        head.sources = self.numbered(&before, &plan.sources)?;
        // The sources are written before the lists that refer to them.
        (head.sources_v4, head.sources_v6) = (before.sources_v4, before.sources_v6);
        self.maps.nat_head.write(0, head).ok_or_else(out_of)?;
        head.sources_v4 = choice(&head.sources, &plan.sources, true);
        head.sources_v6 = choice(&head.sources, &plan.sources, false);
        self.maps.nat_head.write(0, head).ok_or_else(out_of)
    }

    /// The sources by number: each keeps its number for as long as a flow may use it.
    fn numbered(&self, before: &NatHead, wanted: &[IpAddr]) -> Result<[NatSource; NAT_SOURCES], BpfError> {
        let mut sources = before.sources;
        let mut missing: Vec<_> =
            wanted.iter().map(|address| source(*address)).filter(|new| !sources.contains(new)).collect();
        if missing.is_empty() {
            return Ok(sources);
        }
        let table = NatTable::new(&self.maps, Duration::ZERO)?;
        let named: BTreeSet<_> =
            table.iter().flat_map(NatTable::all).map(|(_, found)| Translation::of(found.served).source).collect();
        let is_wanted = |known: &NatSource| address(known).is_some_and(|address| wanted.contains(&address));
        for (number, place) in (0u8..).zip(&mut sources) {
            let free = place.family == 0 || !is_wanted(place) && !named.contains(&number);
            if free && let Some(new) = missing.pop() {
                *place = new;
            }
        }
        if missing.is_empty() { Ok(sources) } else { Err(BpfError::NatSources { left: missing.len() }) }
    }

    /// Continues a walk over the table, by a tenth of it: frees entries of flows that are over and counts the others; at
    /// the end of the walk it frees hops that no flow uses. Packets do not depend on it: they reclaim the entries that
    /// they need. `now` is of `CLOCK_MONOTONIC`.
    pub(crate) fn sweep_nat(&mut self, now: Duration) -> Result<(), BpfError> {
        let mut walk = std::mem::take(&mut self.nat_walk);
        let done = self.walk_nat(&mut walk, self.capacity.nat_flows.div_ceil(PARTS), true, now);
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
        self.walk_nat(&mut walk, u32::MAX, false, now)?;
        self.nat_walk = walk;
        Ok(())
    }

    /// The result of the last complete walk; `None` before the first, or if nothing is translated.
    pub(crate) const fn nat_use(&self) -> Option<&NatUse> {
        self.nat_walk.last.as_ref()
    }

    /// Returns true at the end of the table.
    fn walk_nat(&self, walk: &mut NatWalk, most: u32, frees: bool, now: Duration) -> Result<bool, BpfError> {
        let Some(table) = NatTable::new(&self.maps, now)? else { return Ok(false) };
        let all = self.maps.nat_flows.len();
        let end = walk.next.saturating_add(most).min(all);
        for (_, found) in (walk.next..end).filter_map(|number| table.table().read(number)) {
            if table.is_expired(&found) {
                if frees {
                    table.table().forget(found.number, found.life);
                }
                continue;
            }
            let Translation { backend, source, hop, .. } = Translation::of(found.served);
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

/// Carries flows of `from` over into `to`, unless they are there already; `backends` and `services` map old numbers to
/// new ones. Returns the number of flows carried.
pub(super) fn carry(
    from: &Maps,
    to: &Maps,
    now: Duration,
    backends: impl Fn(BackendNumber) -> Option<BackendNumber>,
    services: impl Fn(u16) -> Option<u16>,
) -> Result<usize, BpfError> {
    let (Some(from), Some(to)) = (NatTable::new(from, now)?, NatTable::new(to, now)?) else { return Ok(0) };
    let lives = |(_, found): &(Flow, EntryState)| !from.is_expired(found) && Life::is_live(found.life);
    let carried = from.all().filter(lives).filter(|(flow, found)| {
        backends(found.served.backend).is_some_and(|backend| to.carry(&from, flow, found, backend, &services))
    });
    Ok(carried.count())
}
