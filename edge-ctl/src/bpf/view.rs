//! Selection over the maps: the packet path's own rule, run by the controller.

use edge_common::{
    abi::{
        self, Backend, BackendNumber, Cell, FlowCount, FlowKeyV4, FlowKeyV6, FlowRecord, FragmentRecord, Generation,
        Pool, Published, Service, ServiceEntryV4, ServiceEntryV6, Spending,
    },
    exit::Exit,
    hash::{Hash, HashKey},
    select,
    tables::{Flows, Fragments, Route, Tables, View},
};

use super::maps::Maps;

/// Pools and backends as they are at one moment, so that no reference points into memory that others write.
#[derive(Debug)]
pub(super) struct Copies {
    bank: u32,
    generation: Generation,
    pools: Vec<Pool>,
    backends: Vec<Backend>,
}

impl Copies {
    pub(super) fn take(maps: &Maps, bank: u32, generation: Generation) -> Self {
        let pools = (0..maps.pools.len() / 2).map_while(|n| maps.pools.read(abi::halved(bank, n))).collect();
        let backends = (0..maps.backends.len()).map_while(|n| maps.backends.read(n)).collect();
        Self { bank, generation, pools, backends }
    }

    pub(super) const fn hash_key(&self) -> &HashKey {
        &self.generation.hash_key
    }

    /// The slot of a flow.
    pub(super) const fn slot(&self, flow: Hash) -> u32 {
        flow.slot(self.generation.slot_mask)
    }
}

/// One bank of the maps, as it was when `copies` were taken.
pub(super) struct Picker<'a> {
    maps: &'a Maps,
    copies: &'a Copies,
}

impl<'a> Picker<'a> {
    pub(super) const fn new(maps: &'a Maps, copies: &'a Copies) -> Self {
        Self { maps, copies }
    }

    pub(super) const fn slots(&self) -> u32 {
        self.copies.generation.slot_mask.saturating_add(1)
    }

    /// The backend that takes the flows that start in `slot` now.
    pub(super) fn pick(&self, service: &Service, slot: u32) -> Option<BackendNumber> {
        let Copies { bank, generation, .. } = self.copies;
        select::pick(&SelectionView(self), View { half: *bank, generation }, service, slot)
    }
}

impl Selectable for &Picker<'_> {
    fn pool(&self, number: u16) -> Option<&Pool> {
        self.copies.pools.get(usize::from(number))
    }

    fn backend(&self, number: BackendNumber) -> Option<&Backend> {
        self.copies.backends.get(usize::from(number))
    }

    fn candidates(&self, cell: u32) -> Option<Cell> {
        self.maps.candidates.read(cell)
    }
}

/// All that selection reads once the service is known.
pub(crate) trait Selectable {
    fn pool(&self, number: u16) -> Option<&Pool>;
    fn backend(&self, number: BackendNumber) -> Option<&Backend>;
    fn candidates(&self, cell: u32) -> Option<Cell>;
}

/// [`Tables`] with nothing in them but what selection reads: no services, no owners, no records, no counters.
pub(crate) struct SelectionView<S>(pub(crate) S);

impl<S: Selectable> Tables for SelectionView<S> {
    fn pool(&self, _half: u32, number: u16) -> Option<&Pool> {
        self.0.pool(number)
    }

    fn backend(&self, number: BackendNumber) -> Option<&Backend> {
        self.0.backend(number)
    }

    fn candidates(&self, cell: u32) -> Option<Cell> {
        self.0.candidates(cell)
    }

    fn published(&self) -> Option<(&Published, u32)> {
        None
    }

    fn service_entry_v4(&self, _half: u32, _position: u32) -> Option<&ServiceEntryV4> {
        None
    }

    fn service_entry_v6(&self, _half: u32, _position: u32) -> Option<&ServiceEntryV6> {
        None
    }

    fn service(&self, _half: u32, _number: u32) -> Option<&Service> {
        None
    }

    fn owner(&self, _cell: u32, _slot: u32) -> Option<BackendNumber> {
        None
    }

    fn set_owner(&self, _cell: u32, _lane: u32, _owner: BackendNumber) {}

    fn learn_path_mtu(&self, _backend: BackendNumber, _mtu: u16) {}

    fn miss(&self, _cell: u32, _lane: u32) {}

    fn unsettle(&self, _half: u32, _service: u32) {}

    fn flows_v4(&self) -> impl Flows<FlowKeyV4> {
        Nothing
    }

    fn flows_v6(&self) -> impl Flows<FlowKeyV6> {
        Nothing
    }

    fn fragments_v4(&self) -> impl Fragments<FlowKeyV4> {
        Nothing
    }

    fn fragments_v6(&self) -> impl Fragments<FlowKeyV6> {
        Nothing
    }

    fn now_ns(&self) -> u64 {
        0
    }

    fn spend(&self, _spending: Spending, _now_ns: u64, _limit: u32) -> bool {
        false
    }

    fn route(&self, _generation: &Generation, _backend: &Backend) -> Option<Route> {
        None
    }

    fn count_exit(&self, _exit: Exit) {}

    fn count_flow(&self, _service: u32, _what: FlowCount) {}

    fn count_forwarded(&self, _service: u32, _backend: BackendNumber, _bytes: u64, _starts: bool) {}
}

/// Tables that have nothing in them.
struct Nothing;

impl<K> Flows<K> for Nothing {
    fn find(&self, _key: &K, _now_ns: Option<u64>) -> Option<FlowRecord> {
        None
    }

    fn insert(&self, _key: &K, _record: FlowRecord) -> bool {
        false
    }

    fn remove(&self, _key: &K) {}
}

impl<K> Fragments<K> for Nothing {
    fn find(&self, _key: &K) -> Option<FragmentRecord> {
        None
    }

    fn insert(&self, _key: &K, _record: FragmentRecord) {}
}
