//! Reads the maps' content after a run.

use std::collections::BTreeMap;

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use bytemuck::Pod;
use edge_common::abi::{
    Backend, BackendNumber, DecapExit, Evidence, Exit, FlowCounts, FlowEnds, FlowKeyV4, FlowKeyV6, FragmentRecord,
    Service, SlotCell, Traffic, map,
};
use edge_common::host::{FlowRecord, Memory, Nat};

use super::Kernel;

impl Kernel {
    /// Packets by exit, in the exits' order.
    pub fn exits(&self) -> Vec<u64> {
        (0..Exit::COUNT).map(|index| sum(&self.exits, index)).collect()
    }

    /// Packets by exit of the decapsulation program, in the exits' order.
    pub fn decap_exits(&self) -> Vec<u64> {
        (0..DecapExit::COUNT).map(|index| sum(&self.decap_exits, index)).collect()
    }

    pub fn service_traffic(&self) -> Vec<Traffic> {
        (0..self.service_stats.len()).map(|index| traffic(&self.service_stats, index)).collect()
    }

    pub fn backend_traffic(&self) -> Vec<Traffic> {
        (0..self.backend_stats.len()).map(|index| traffic(&self.backend_stats, index)).collect()
    }

    /// Counts of the operations on records, by service.
    pub fn flow_counts(&self) -> Vec<FlowCounts> {
        let sum = |index| {
            let each = self.flow_stats.get(&index, 0).expect("a counter");
            FlowCounts(std::array::from_fn(|what| each.iter().map(|counts| counts[what]).sum()))
        };
        (0..self.flow_stats.len()).map(sum).collect()
    }

    /// The flow records, with times by the clock of `memory`.
    pub fn records(&self, memory: &Memory) -> BTreeMap<FlowEnds, FlowRecord> {
        self.flows.read(memory).records().into_iter().map(|(flow, record)| (flow.ends(), record)).collect()
    }

    /// The table of translated flows, with times by the clock of `memory`.
    pub fn nat(&self, memory: &Memory) -> Nat {
        self.nat.read(memory)
    }

    /// The remembered IPv4 packets in fragments.
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

    /// A backend without the times that packets note in it, which are those of the kernel's clock: see [`Self::waits`].
    pub fn backend(&self, number: BackendNumber) -> Backend {
        Backend { asked: 0, heard: 0, ..self.noted(number) }
    }

    fn noted(&self, number: BackendNumber) -> Backend {
        bytemuck::pod_read_unaligned(&self.backends.borrow().get(&number.into(), 0).expect("a backend"))
    }

    /// Whether a client waits for an answer of the backend.
    pub fn waits(&self, number: BackendNumber) -> bool {
        self.noted(number).is_waited_for()
    }

    /// The signs of all backends' trouble.
    pub fn evidence(&self) -> Vec<Evidence> {
        let map = self.object.map(map::EVIDENCE).expect("a map of the object");
        let map: Array<_, [u8; size_of::<Evidence>()]> = Array::try_from(map).expect("an array of such values");
        (0..map.len()).map(|index| bytemuck::pod_read_unaligned(&map.get(&index, 0).expect("it is there"))).collect()
    }

    /// Restores a backend to `as_it_was`; returns the backend as it was found.
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
