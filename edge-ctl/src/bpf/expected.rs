//! The answers that the packet path should give with a staged generation: its own code, run here over the planned image.
//!
//! Whatever the plan does not write is read from the maps: states, next hops, owners and unchanged tables. One thing is
//! written: the slots into which packets fall are looked at from then on. While nothing looks at a slot, its owner decides
//! alone, and a packet of the rehearsed program would leave as planned whatever the new tables have.

use std::{
    cell::{Cell as Mutable, RefCell},
    collections::BTreeMap,
};

use edge_common::{
    abi::{
        AnswerLimits, Backend, BackendNumber, Cell, Exit, FlowCount, FlowHead, FlowKeyV4, FlowKeyV6, FragmentRecord,
        Generation, HashKey, Mac, NatHead, Pool, Published, RateLimited, SLOTS_PER_CELL, Service, ServiceEntryV4,
        ServiceEntryV6, Slot, SlotAddress, State, Station, map,
    },
    flow_table::Native,
    host::{FlowArrays, Flows, Frame, Nat},
    maps::{Fragments, HopWords, PoolMaps, Route, View},
    pipeline, select,
};

use super::{
    BpfError, PinnedMaps,
    error::out_of,
    maps::Maps,
    preview::{NewCells, new_cells},
    publish::Staged,
    slots::Slots,
};
use crate::plan::{self, Image, NatPlan, NewOwners};

/// Ingress interface of rehearsed frames: a test run without a context has the index of the loopback interface.
const INGRESS: u32 = 1;
/// Destination MAC address of rehearsed frames.
pub(crate) const STATION: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Entries of a rehearsal's flow table. Rehearsals clear their flows long before half of the entries are used.
pub(crate) const REHEARSED_FLOWS: u32 = 1 << 14;

/// The maps as `image` will make them.
pub(crate) struct Expected<'a> {
    maps: &'a Maps,
    bank: u32,
    /// Whether the image is staged, and not in force.
    is_staged: bool,
    published: Published,
    index_v4: Vec<ServiceEntryV4>,
    index_v6: Vec<ServiceEntryV6>,
    services: BTreeMap<u32, Service>,
    pools: BTreeMap<u16, Pool>,
    backends: Vec<Backend>,
    tables: NewCells<'a>,
    /// Member lists by their first cell.
    lists: BTreeMap<u32, Vec<Cell>>,
    /// Services whose slots have new cells, by the first cell: number and source of the initial owners.
    new_owners: BTreeMap<u32, (u32, NewOwners)>,
    flows: Flows,
    nat: Nat,
    fragments_v4: RefCell<BTreeMap<FlowKeyV4, FragmentRecord>>,
    fragments_v6: RefCell<BTreeMap<FlowKeyV6, FragmentRecord>>,
    chosen: Mutable<BackendNumber>,
    /// Frames answered since the flows were cleared.
    answered: Mutable<usize>,
}

/// The outcome of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) exit: Exit,
    pub(crate) frame: Vec<u8>,
    /// 0 for a packet that is not forwarded.
    pub(crate) backend: BackendNumber,
}

impl PinnedMaps {
    /// The answers expected with `image`, given the current content of the maps.
    pub(crate) fn expected<'a>(&'a self, image: &'a Image, staged: Staged) -> Expected<'a> {
        let maps = &self.maps;
        let mut backends = self.backends();
        for (number, backend) in &image.backends {
            if let Some(entry) = backends.get_mut(usize::from(*number)) {
                // Staging wrote the image's state into the map, and it may have changed since.
                *entry = with_next_hop(Backend { state: entry.state, ..*backend });
            }
        }
        let state = |number: BackendNumber| State(backends.get(usize::from(number)).map_or(0, |backend| backend.state));
        let (mut lists, mut pools) = (BTreeMap::new(), BTreeMap::new());
        for ((number, pool), record) in image.pools.iter().zip(&image.snapshot.pools) {
            let members: Vec<_> =
                plan::member_order(&record.backends).into_iter().map(|member| (member, state(member))).collect();
            let (available, enabled) = plan::counts(members.iter().map(|(_, state)| *state));
            pools.insert(*number, Pool { available, enabled, withheld: self.withheld(*number), ..*pool });
            lists.insert(record.member_list, plan::member_list(&members));
        }
        let services = image.services.iter();
        let moved = services.clone().filter(|new| new.owners != NewOwners::Kept);
        let new_owners = moved.map(|new| (new.service.slots, (new.number, new.owners))).collect();
        Expected {
            maps,
            bank: staged.bank,
            is_staged: staged != self.in_force(),
            published: published(&self.with_former_sources(&image.generation), staged.bank),
            index_v4: image.index_v4.iter().map(|entry| self.with_host(*entry)).collect(),
            index_v6: image.index_v6.iter().map(|entry| self.with_host(*entry)).collect(),
            new_owners,
            services: services.map(|new| (new.number, Service { in_transition: 1, ..new.service })).collect(),
            pools,
            backends,
            tables: new_cells(image),
            lists,
            flows: Flows::new(REHEARSED_FLOWS as usize),
            nat: Nat::new(rehearsed_nat(image.nat.as_ref())),
            fragments_v4: RefCell::default(),
            fragments_v6: RefCell::default(),
            chosen: Mutable::new(0),
            answered: Mutable::new(0),
        }
    }

    /// The generation in force, for a rehearsal of what is published already.
    pub(crate) fn in_force(&self) -> Staged {
        Staged { bank: self.maps.bank() }
    }

    /// The parts of the maps that a rehearsal has copies of: the staged generation and the backends.
    pub(crate) fn staged(&self, staged: Staged) -> Result<(Published, Vec<Backend>), BpfError> {
        let all = self.maps.published.read(0).ok_or(out_of(map::PUBLISHED, 0))?;
        Ok((published(&all.generations[(staged.bank & 1) as usize], staged.bank), self.backends()))
    }

    fn backends(&self) -> Vec<Backend> {
        self.maps.backends.all().map(with_next_hop).collect()
    }
}

/// The generation with a station for rehearsed frames and without rate limits; otherwise as configured.
fn published(generation: &Generation, bank: u32) -> Published {
    let mut stations = Generation::default().stations;
    stations[0] = Station::new(INGRESS, Mac::new(STATION));
    let unlimited = u32::MAX;
    let mut published = Published { active: bank, ..Published::default() };
    published.generations[(bank & 1) as usize] = Generation {
        stations,
        records_per_second: unlimited,
        answers_per_second: AnswerLimits::all(unlimited),
        first_fragments_per_second: unlimited,
        ..*generation
    };
    published
}

/// Head of a rehearsal's table of translated flows: the plan's sources, with a table of its own.
fn rehearsed_nat(plan: Option<&NatPlan>) -> NatHead {
    let Some(plan) = plan else { return Nat::default().head };
    let ports = plan.ports.count().min(REHEARSED_FLOWS);
    let head = NatHead::new(HashKey::default(), plan.ports.first, ports, REHEARSED_FLOWS / ports, |_| 0);
    super::nat_sources::with_sources(head, plan)
}

/// The backend with a next hop: whether it has one at the moment does not depend on the configuration.
fn with_next_hop(backend: Backend) -> Backend {
    if backend.next_hop.is_known() {
        return backend;
    }
    Backend { next_hop: Mac::new(STATION), source_mac: Mac::new(STATION), egress: INGRESS + 1, ..backend }
}

impl Expected<'_> {
    /// The outcome of a frame that arrives at the rehearsal's station.
    pub(crate) fn answer(&self, frame: &[u8]) -> Answer {
        self.chosen.set(0);
        self.answered.set(self.answered.get() + 1);
        let mut frame = Frame::new(frame).from_interface(INGRESS);
        let exit = pipeline::process(&mut frame, self).exit;
        Answer { exit, frame: frame.bytes().to_vec(), backend: self.chosen.get() }
    }

    /// Head of the table of translated flows, for the real program.
    pub(crate) const fn nat_head(&self) -> &NatHead {
        &self.nat.head
    }

    /// Upper bound on the number of recorded flows.
    pub(crate) const fn recorded(&self) -> usize {
        self.answered.get()
    }

    /// Clears all flows.
    pub(crate) fn forget(&mut self) {
        self.flows.clear();
        self.nat = Nat::new(self.nat.head);
        self.answered.set(0);
    }
}

impl PoolMaps for Expected<'_> {
    fn pool(&self, _bank: u32, number: u16) -> Option<&Pool> {
        self.pools.get(&number)
    }

    fn backend(&self, number: BackendNumber) -> Option<&Backend> {
        self.backends.get(usize::from(number))
    }

    fn candidates(&self, cell: u32) -> Option<Cell> {
        let (first, list) = self.lists.range(..=cell).next_back().unzip();
        let listed = first.zip(list).and_then(|(first, list)| list.get((cell - first) as usize));
        listed.copied().or_else(|| self.tables.get(cell)).or_else(|| self.maps.candidates.read(cell))
    }
}

impl edge_common::maps::Maps for Expected<'_> {
    type Flows = FlowArrays<Native>;
    type Nat = FlowArrays<Native>;

    fn published(&self) -> Option<(&Published, u32)> {
        Some((&self.published, self.published.active))
    }

    fn service_entry_v4(&self, _bank: u32, position: u32) -> Option<&ServiceEntryV4> {
        self.index_v4.get(position as usize)
    }

    fn service_entry_v6(&self, _bank: u32, position: u32) -> Option<&ServiceEntryV6> {
        self.index_v6.get(position as usize)
    }

    fn service(&self, _bank: u32, number: u32) -> Option<&Service> {
        self.services.get(&number)
    }

    fn slot(&self, SlotAddress { cell, lane }: SlotAddress) -> Option<Slot> {
        let generation = &self.published.generations[(self.bank & 1) as usize];
        let new = self.new_owners.range(..=cell).next_back().and_then(|(first, (service, owners))| {
            let slot = (cell - first).checked_mul(SLOTS_PER_CELL)? + lane % SLOTS_PER_CELL;
            let service = self.services.get(service)?;
            (slot <= service.slot_mask).then_some((slot, service, owners))
        });
        let now = |cell| Some(self.maps.slots.read(cell)?.0[SlotAddress { cell, lane }.place()].owner);
        let owner = match new {
            // The pick of a new slot also becomes its owner.
            Some((slot, service, NewOwners::Picked)) => {
                Some(select::pick(self, View { bank: self.bank, generation }, service, slot).unwrap_or(0))
            }
            Some((slot, _, NewOwners::CopiedFrom(first))) => now(first + slot / SLOTS_PER_CELL),
            Some((_, _, NewOwners::Kept)) | None => now(cell),
        }?;
        if self.is_staged {
            Slots::at(self.maps, cell, SLOTS_PER_CELL).look(lane % SLOTS_PER_CELL);
        }
        // In the generation in force a look changes nothing: packets look at all slots whose owner is not their pick.
        Some(Slot { look: 1, ..Slot::of(owner) })
    }

    // The flow table never fills up, so none of the next four is needed.
    fn set_owner(&self, _slot: SlotAddress, _owner: BackendNumber) {}
    fn set_look(&self, _slot: SlotAddress) {}
    fn set_unrecorded(&self, _slot: SlotAddress) {}
    fn set_start_unrecorded(&self, _slot: SlotAddress) {}
    fn learn_path_mtu(&self, _backend: BackendNumber, _mtu: u16) {}

    // All staged services are in transition.
    fn start_transition(&self, _bank: u32, _service: u32) {}

    fn flow_head(&self) -> Option<&FlowHead> {
        Some(&self.flows.head)
    }

    fn flows(&self) -> &FlowArrays<Native> {
        &self.flows.arrays
    }

    fn nat_head(&self) -> Option<&NatHead> {
        Some(&self.nat.head)
    }

    fn nat_flows(&self) -> &FlowArrays<Native> {
        &self.nat.arrays
    }

    fn nat_hop(&self, number: u32) -> Option<&HopWords> {
        self.nat.hops.get(number as usize)
    }

    fn fragments_v4(&self) -> impl Fragments<FlowKeyV4> {
        &self.fragments_v4
    }

    fn fragments_v6(&self) -> impl Fragments<FlowKeyV6> {
        &self.fragments_v6
    }

    fn now_ns(&self) -> u64 {
        0
    }

    fn try_take(&self, _action: RateLimited, _now_ns: u64, _limit: u32) -> bool {
        true
    }

    fn mtu(&self, _interface: u32) -> u32 {
        // Rehearsed packets fit any interface.
        0
    }

    fn route(&self, _generation: &Generation, _backend: &Backend) -> Option<Route> {
        // All next hops are known.
        None
    }

    fn count_exit(&self, _exit: Exit) {}
    fn count_flow(&self, _service: u32, _what: FlowCount) {}

    fn count_forwarded(&self, _service: u32, backend: BackendNumber, _bytes: u64, _starts: bool) {
        self.chosen.set(backend);
    }
}
