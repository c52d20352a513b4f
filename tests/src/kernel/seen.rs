//! What the maps hold after a run.

use std::collections::BTreeMap;

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use bytemuck::Pod;
use edge_common::abi::{
    Backend, BackendNumber, DecapExit, Exit, FlowCounts, FlowKeyV4, FlowKeyV6, FlowRecord, FragmentRecord, Service,
    SlotCell, Traffic, map,
};

use super::Kernel;

impl Kernel {
    /// Packets by exit, in the exits' order.
    pub fn exits(&self) -> Vec<u64> {
        (0..Exit::COUNT).map(|index| sum(&self.exits, index)).collect()
    }

    /// The same of the decapsulation program.
    pub fn decap_exits(&self) -> Vec<u64> {
        (0..DecapExit::COUNT).map(|index| sum(&self.decap_exits, index)).collect()
    }

    pub fn service_traffic(&self) -> Vec<Traffic> {
        (0..self.service_stats.len()).map(|index| traffic(&self.service_stats, index)).collect()
    }

    pub fn backend_traffic(&self) -> Vec<Traffic> {
        (0..self.backend_stats.len()).map(|index| traffic(&self.backend_stats, index)).collect()
    }

    /// What was done with records, by service.
    pub fn flow_counts(&self) -> Vec<FlowCounts> {
        let sum = |index| {
            let each = self.flow_stats.get(&index, 0).expect("a counter");
            FlowCounts(std::array::from_fn(|what| each.iter().map(|counts| counts[what]).sum()))
        };
        (0..self.flow_stats.len()).map(sum).collect()
    }

    /// The records of IPv4 flows; when they were made and seen is of the kernel's clock.
    pub fn flows_v4(&self) -> BTreeMap<FlowKeyV4, FlowRecord> {
        records(&self.flows_v4)
    }

    /// The records of IPv6 flows.
    pub fn flows_v6(&self) -> BTreeMap<FlowKeyV6, FlowRecord> {
        records(&self.flows_v6)
    }

    /// The packets in fragments that are remembered.
    pub fn fragments_v4(&self) -> BTreeMap<FlowKeyV4, FragmentRecord> {
        self.fragments::<_, { size_of::<FlowKeyV4>() }>(map::FRAGMENTS_V4)
    }

    pub fn fragments_v6(&self) -> BTreeMap<FlowKeyV6, FragmentRecord> {
        self.fragments::<_, { size_of::<FlowKeyV6>() }>(map::FRAGMENTS_V6)
    }

    fn fragments<K: Pod + Ord, const N: usize>(&self, name: &str) -> BTreeMap<K, FragmentRecord> {
        let map = self.object.map(name).expect("a map of the object");
        let map: HashMap<_, [u8; N], [u8; size_of::<FragmentRecord>()]> =
            HashMap::try_from(map).expect("a hash map that forgets");
        let entries = map.iter().map(|entry| entry.expect("nobody else changes it"));
        entries
            .map(|(key, record)| (bytemuck::pod_read_unaligned(&key), bytemuck::pod_read_unaligned(&record)))
            .collect()
    }

    /// Whether each service, of either bank, is in transition.
    pub fn in_transition(&self) -> Vec<bool> {
        let services = self.object.map(map::SERVICES).expect("SERVICES");
        let services: Array<_, [u8; size_of::<Service>()]> = Array::try_from(services).expect("an array");
        let service = |index| services.get(&index, 0).expect("a service");
        let in_transition = |index| bytemuck::pod_read_unaligned::<Service>(&service(index)).in_transition != 0;
        (0..services.len()).map(in_transition).collect()
    }

    pub fn backend(&self, number: BackendNumber) -> Backend {
        bytemuck::pod_read_unaligned(&self.backends.borrow().get(&number.into(), 0).expect("a backend"))
    }

    /// Puts a backend back as it was; returns what it had become.
    pub fn restore(&self, number: BackendNumber, as_it_was: &Backend) -> Backend {
        let found = self.backend(number);
        self.backends.borrow_mut().set(number.into(), bytes(as_it_was), 0).expect("it was there");
        found
    }

    pub fn slots(&self) -> Vec<SlotCell> {
        let cell = |index| bytemuck::pod_read_unaligned(&self.slots.get(&index, 0).expect("a cell"));
        (0..self.slots.len()).map(cell).collect()
    }
}

type Records<const K: usize> = HashMap<MapData, [u8; K], [u8; size_of::<FlowRecord>()]>;

fn records<K: Pod + Ord, const N: usize>(map: &Records<N>) -> BTreeMap<K, FlowRecord> {
    let entry = |entry: Result<_, _>| {
        let (key, record): ([u8; N], [u8; size_of::<FlowRecord>()]) = entry.expect("nobody else changes it");
        (bytemuck::pod_read_unaligned(&key), bytemuck::pod_read_unaligned(&record))
    };
    map.iter().map(entry).collect()
}

/// Makes the records of `map` those of `wanted`.
pub(super) fn replace<K: Pod + Ord, const N: usize>(map: &mut Records<N>, wanted: &BTreeMap<K, FlowRecord>) {
    for key in records::<K, N>(map).into_keys().filter(|key| !wanted.contains_key(key)) {
        map.remove(&bytes(&key)).expect("it was there");
    }
    for (key, record) in wanted {
        map.insert(bytes::<_, N>(key), bytes(record), 0).expect("room for the records");
    }
}

pub(super) fn bytes<T: Pod, const N: usize>(value: &T) -> [u8; N] {
    bytemuck::bytes_of(value).try_into().expect("`N` is the size of a `T`")
}

fn sum(map: &PerCpuArray<MapData, u64>, index: u32) -> u64 {
    map.get(&index, 0).expect("a counter").iter().sum()
}

fn traffic(map: &PerCpuArray<MapData, [u64; 3]>, index: u32) -> Traffic {
    let each = map.get(&index, 0).expect("a counter");
    let [packets, bytes, flows] = [0, 1, 2].map(|field| each.iter().map(|values| values[field]).sum());
    Traffic { packets, bytes, flows }
}
