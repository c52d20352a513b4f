//! The maps in plain memory.

use std::{
    cell::{Cell as Mutable, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use super::{FlowArrays, FlowRecord, Flows, Nat};
use crate::{
    abi::{
        AddressPrefix, Backend, BackendNumber, Cell, DecapExit, DecapSettings, Evidence, Exit, FlowCount, FlowCounts,
        FlowEnds, FlowHead, FlowKeyV4, FlowKeyV6, FragmentRecord, Generation, HashKey, MssExit, MssLimits, NatHead,
        Pool, Published, RateLimited, RateLimiter, Service, ServiceEntryV4, ServiceEntryV6, Sign, Slot, SlotAddress,
        SlotCell, Tracking, Traffic, Unrecorded, banked,
    },
    decap::{Addresses, Words, mss::Answers},
    flow_table::{Native, Refused},
    maps::{Fragments, HopWords, Maps, PoolMaps, Route},
};

/// The maps in plain memory, one field for each map, in the layout of the ABI. The fields are filled by the user; data that
/// the packet path itself writes is read by methods.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub published: Published,
    pub service_index_v4: Vec<ServiceEntryV4>,
    pub service_index_v6: Vec<ServiceEntryV6>,
    pub services: Vec<Service>,
    pub pools: Vec<Pool>,
    pub backends: Vec<Backend>,
    pub candidates: Vec<Cell>,
    pub slots: RefCell<Vec<SlotCell>>,
    pub flows: Flows,
    pub nat: Nat,
    pub fragments_v4: RefCell<BTreeMap<FlowKeyV4, FragmentRecord>>,
    pub fragments_v6: RefCell<BTreeMap<FlowKeyV6, FragmentRecord>>,
    /// Services whose transition the packet path has started: bank and number.
    pub in_transition: RefCell<BTreeSet<(u32, u32)>>,
    /// Path MTUs that the packet path has learnt.
    pub path_mtus: RefCell<BTreeMap<BackendNumber, u16>>,
    /// What the packet path has noted in place of [`Backend::asked`] and [`Backend::heard`].
    pub asked: RefCell<BTreeMap<BackendNumber, u32>>,
    pub heard: RefCell<BTreeMap<BackendNumber, u32>>,
    /// Signs of backends' trouble.
    pub evidence: RefCell<BTreeMap<BackendNumber, Evidence>>,
    /// Current time of the clock, nanoseconds.
    pub clock_ns: Mutable<u64>,
    /// MTUs of interfaces.
    pub mtus: BTreeMap<u32, u32>,
    /// Results of the kernel's own routing, by a backend's address.
    pub routes: Vec<([u8; 16], Route)>,
    /// Addresses and their roles, for the decapsulation.
    pub decap_addresses: Vec<([u8; 16], u32)>,
    pub decap_edges: Vec<AddressPrefix>,
    pub decap_vips: Vec<AddressPrefix>,
    pub decap_settings: DecapSettings,
    pub mss_limits: MssLimits,
    exits: RefCell<BTreeMap<u32, u64>>,
    decap_exits: RefCell<BTreeMap<u32, u64>>,
    mss_exits: RefCell<BTreeMap<u32, u64>>,
    limiter: Mutable<RateLimiter>,
    flow_stats: RefCell<BTreeMap<u32, FlowCounts>>,
    service_stats: RefCell<BTreeMap<u32, Traffic>>,
    backend_stats: RefCell<BTreeMap<BackendNumber, Traffic>>,
    last_backend: Mutable<BackendNumber>,
}

impl Memory {
    /// All records of the flow table.
    pub fn records(&self) -> BTreeMap<FlowEnds, FlowRecord> {
        self.flows.records().into_iter().map(|(flow, record)| (flow.ends(), record)).collect()
    }

    /// Records a flow of a service with this tracking.
    ///
    /// # Errors
    /// If there is no room.
    pub fn put_record(&self, tracking: Tracking, ends: FlowEnds, record: &FlowRecord) -> Result<(), Refused> {
        self.flows.put(self.hash_key(), tracking, &ends.into(), record)
    }

    /// Removes a flow's record.
    pub fn remove_record(&self, ends: FlowEnds) {
        self.flows.remove(self.hash_key(), &ends.into());
    }

    const fn hash_key(&self) -> &HashKey {
        &self.published.generations[(self.published.active & 1) as usize].hash_key
    }

    pub fn flow_counts(&self, service: u32) -> FlowCounts {
        self.flow_stats.borrow().get(&service).copied().unwrap_or_default()
    }

    pub fn exit_count(&self, exit: Exit) -> u64 {
        self.exits.borrow().get(&(exit as u32)).copied().unwrap_or_default()
    }

    pub fn decap_exit_count(&self, exit: DecapExit) -> u64 {
        self.decap_exits.borrow().get(&(exit as u32)).copied().unwrap_or_default()
    }

    pub fn mss_exit_count(&self, exit: MssExit) -> u64 {
        self.mss_exits.borrow().get(&(exit as u32)).copied().unwrap_or_default()
    }

    pub fn service_traffic(&self, service: u32) -> Traffic {
        self.service_stats.borrow().get(&service).copied().unwrap_or_default()
    }

    pub fn backend_traffic(&self, backend: BackendNumber) -> Traffic {
        self.backend_stats.borrow().get(&backend).copied().unwrap_or_default()
    }

    /// Changes a slot, if it exists.
    pub fn write_slot(&self, slot: SlotAddress, write: impl FnOnce(&mut Slot)) {
        if let Some(cell) = self.slots.borrow_mut().get_mut(slot.cell as usize) {
            write(&mut cell.0[slot.place()]);
        }
    }

    /// The backend of the last forwarded packet; 0 if no packet was forwarded.
    pub fn last_backend(&self) -> BackendNumber {
        self.last_backend.get()
    }
}

fn at<T>(map: &[T], index: u32) -> Option<&T> {
    map.get(usize::try_from(index).ok()?)
}

impl<K: Ord + Copy> Fragments<K> for &RefCell<BTreeMap<K, FragmentRecord>> {
    fn find(&self, key: &K) -> Option<FragmentRecord> {
        self.borrow().get(key).copied()
    }

    fn insert(&self, key: &K, record: FragmentRecord) {
        self.borrow_mut().insert(*key, record);
    }

    fn remove(&self, key: &K) {
        self.borrow_mut().remove(key);
    }
}

impl PoolMaps for Memory {
    fn pool(&self, bank: u32, number: u16) -> Option<&Pool> {
        at(&self.pools, banked(bank, u32::from(number)))
    }

    fn backend(&self, number: BackendNumber) -> Option<&Backend> {
        at(&self.backends, u32::from(number))
    }

    fn candidates(&self, cell: u32) -> Option<Cell> {
        at(&self.candidates, cell).copied()
    }
}

impl Maps for Memory {
    type Flows = FlowArrays<Native>;
    type Nat = FlowArrays<Native>;

    fn published(&self) -> Option<(&Published, u32)> {
        Some((&self.published, self.published.active))
    }

    fn service_entry_v4(&self, bank: u32, position: u32) -> Option<&ServiceEntryV4> {
        at(&self.service_index_v4, banked(bank, position))
    }

    fn service_entry_v6(&self, bank: u32, position: u32) -> Option<&ServiceEntryV6> {
        at(&self.service_index_v6, banked(bank, position))
    }

    fn service(&self, bank: u32, number: u32) -> Option<&Service> {
        at(&self.services, banked(bank, number))
    }

    fn slot(&self, slot: SlotAddress) -> Option<Slot> {
        Some(at(&self.slots.borrow(), slot.cell)?.0[slot.place()])
    }

    fn set_owner(&self, slot: SlotAddress, owner: BackendNumber) {
        self.write_slot(slot, |slot| slot.owner = owner);
    }

    fn learn_path_mtu(&self, backend: BackendNumber, mtu: u16) {
        self.path_mtus.borrow_mut().entry(backend).and_modify(|known| *known = mtu.min(*known)).or_insert(mtu);
    }

    fn set_asked(&self, backend: BackendNumber, ticks: u32) {
        self.asked.borrow_mut().insert(backend, ticks);
    }

    fn set_heard(&self, backend: BackendNumber, ticks: u32) {
        self.heard.borrow_mut().insert(backend, ticks);
    }

    fn add_sign(&self, backend: BackendNumber, sign: Sign) {
        let mut evidence = self.evidence.borrow_mut();
        let of_backend = evidence.entry(backend).or_default();
        *of_backend = of_backend.with(sign);
    }

    fn set_look(&self, slot: SlotAddress) {
        self.write_slot(slot, |slot| slot.look = 1);
    }

    fn set_unrecorded(&self, slot: SlotAddress) {
        self.write_slot(slot, |slot| slot.unrecorded = Unrecorded::Flow as u8);
    }

    fn set_start_unrecorded(&self, slot: SlotAddress) {
        self.write_slot(slot, |slot| {
            if slot.unrecorded == 0 {
                slot.unrecorded = Unrecorded::Start as u8;
            }
        });
    }

    fn is_in_transition(&self, bank: u32, number: u32, service: &Service) -> bool {
        service.in_transition != 0 || self.in_transition.borrow().contains(&(bank, number))
    }

    fn start_transition(&self, bank: u32, service: u32) {
        self.in_transition.borrow_mut().insert((bank, service));
    }

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
        at(&self.nat.hops, number)
    }

    fn fragments_v4(&self) -> impl Fragments<FlowKeyV4> {
        &self.fragments_v4
    }

    fn fragments_v6(&self) -> impl Fragments<FlowKeyV6> {
        &self.fragments_v6
    }

    fn now_ns(&self) -> u64 {
        self.clock_ns.get()
    }

    fn try_take(&self, action: RateLimited, now_ns: u64, limit: u32) -> bool {
        let RateLimiter(mut words) = self.limiter.get();
        let next = RateLimiter::after_one_more(words[action as usize], now_ns, limit);
        words[action as usize] = next.unwrap_or(words[action as usize]);
        self.limiter.set(RateLimiter(words));
        next.is_some()
    }

    fn mtu(&self, interface: u32) -> u32 {
        self.mtus.get(&interface).copied().unwrap_or_default()
    }

    fn route(&self, _generation: &Generation, backend: &Backend) -> Option<Route> {
        self.routes.iter().find(|(address, _)| *address == backend.address).map(|(_, route)| *route)
    }

    fn count_exit(&self, exit: Exit) {
        *self.exits.borrow_mut().entry(exit as u32).or_default() += 1;
    }

    fn count_flow(&self, service: u32, what: FlowCount) {
        self.flow_stats.borrow_mut().entry(service).or_default().0[what as usize] += 1;
    }

    fn count_forwarded(&self, service: u32, backend: BackendNumber, bytes: u64, starts: bool) {
        self.last_backend.set(backend);
        let mut service_stats = self.service_stats.borrow_mut();
        let mut backend_stats = self.backend_stats.borrow_mut();
        for traffic in [service_stats.entry(service).or_default(), backend_stats.entry(backend).or_default()] {
            traffic.packets += 1;
            traffic.bytes += bytes;
            traffic.flows += u64::from(starts);
        }
    }
}

impl Addresses for Memory {
    fn roles(&self, address: Words) -> u32 {
        let address: [u8; 16] = bytemuck::cast(address);
        self.decap_addresses.iter().find(|(known, _)| *known == address).map_or(0, |(_, roles)| *roles)
    }

    fn is_vip(&self, address: Words) -> bool {
        let address: [u8; 16] = bytemuck::cast(address);
        self.decap_vips.iter().any(|vips| vips.contains(address))
    }

    fn is_in_edges(&self, address: Words) -> bool {
        let address: [u8; 16] = bytemuck::cast(address);
        self.decap_settings.edge_prefixes != 0 && self.decap_edges.iter().any(|edges| edges.contains(address))
    }

    fn gue_port(&self) -> [u8; 2] {
        self.decap_settings.gue_port
    }

    fn count_exit(&self, exit: DecapExit) {
        *self.decap_exits.borrow_mut().entry(exit as u32).or_default() += 1;
    }
}

impl Answers for Memory {
    fn is_vip(&self, address: Words) -> bool {
        Addresses::is_vip(self, address)
    }

    fn limits(&self) -> MssLimits {
        self.mss_limits
    }

    fn count_mss(&self, exit: MssExit) {
        *self.mss_exits.borrow_mut().entry(exit as u32).or_default() += 1;
    }
}
