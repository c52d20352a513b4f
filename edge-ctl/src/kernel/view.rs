//! Selection over the maps: the packet path's own rule, run by the controller.

use std::sync::atomic::Ordering;

use edge_common::{
    abi::{
        self, Backend, BackendNumber, CELL, Cell, FlowCount, FlowKeyV4, FlowKeyV6, FlowRecord, FragmentRecord,
        Generation, Pool, Published, Service, ServiceEntryV4, ServiceEntryV6, Spending,
    },
    exit::Exit,
    select,
    tables::{Flows, Fragments, Route, Tables, View},
};

use super::maps::Maps;
use crate::model::LANES;

/// One half of the maps, as it is at one moment: pools and backends are copies, so that no reference points into memory
/// that others write.
pub(super) struct Picker<'a> {
    maps: &'a Maps,
    half: u32,
    generation: Generation,
    pools: Vec<Pool>,
    backends: Vec<Backend>,
    /// Who takes the flows of each slot, and of which services: see [`alike`].
    picks: (Option<Service>, Vec<Option<BackendNumber>>),
}

impl<'a> Picker<'a> {
    pub(super) fn new(maps: &'a Maps, half: u32, generation: Generation) -> Self {
        let pools = (0..maps.pools.len() / 2).map_while(|n| maps.pools.read(abi::halved(half, n))).collect();
        let backends = (0..maps.backends.len()).map_while(|n| maps.backends.read(n)).collect();
        Self { maps, half, generation, pools, backends, picks: (None, Vec::new()) }
    }

    /// Who takes the flows that start in `slot` now.
    pub(super) fn pick(&self, service: &Service, slot: u32) -> Option<BackendNumber> {
        select::pick(self, View { half: self.half, generation: &self.generation }, service, slot)
    }

    /// Makes the owner of each slot of `service` whoever takes its new flows; of a slot that nobody takes, `nobody`, or
    /// with `None` whoever it was.
    ///
    /// To pick for a slot takes ten times as long as to store it, so services that are alike share their picks: one
    /// backend's death moves the owners of all UDP services of its pool.
    pub(super) fn follow(&mut self, service: &Service, nobody: Option<BackendNumber>) {
        if self.picks.0 != Some(alike(service)) {
            let picks = (0..=self.generation.slot_mask).map(|slot| self.pick(service, slot)).collect();
            self.picks = (Some(alike(service)), picks);
        }
        self.change_owners(service, |slot, _| self.picks.1.get(slot as usize).copied().flatten().or(nobody));
    }

    /// For every slot of `service`: `next` is given the slot and its owner, and says who is to be the owner instead. A
    /// slot whose owner the packet path changes meanwhile keeps the packet path's choice.
    pub(super) fn change_owners(
        &self,
        service: &Service,
        mut next: impl FnMut(u32, BackendNumber) -> Option<BackendNumber>,
    ) {
        for slot in 0..=self.generation.slot_mask {
            let cell = service.owners.wrapping_add(slot / LANES);
            let Some(lane) = self.maps.owners.half(cell, lane(slot)) else { return };
            let owner = lane.load(Ordering::Relaxed);
            if let Some(new) = next(slot, owner)
                && new != owner
            {
                let _changed_meanwhile = lane.compare_exchange(owner, new, Ordering::Release, Ordering::Relaxed);
            }
        }
    }
}

/// What selection sees of a service: those that are equal in this have the same picks.
const fn alike(service: &Service) -> Service {
    Service { owners: 0, mode: 0, ..*service }
}

/// Bytes into its cell of a slot's owner.
const fn lane(slot: u32) -> usize {
    slot as usize % CELL * size_of::<BackendNumber>()
}

impl Tables for Picker<'_> {
    // Selection starts where a service is known already.
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

    fn pool(&self, half: u32, number: u16) -> Option<&Pool> {
        if half != self.half {
            return None;
        }
        self.pools.get(usize::from(number))
    }

    fn backend(&self, number: BackendNumber) -> Option<&Backend> {
        self.backends.get(usize::from(number))
    }

    fn candidates(&self, cell: u32) -> Option<Cell> {
        self.maps.candidates.read(cell)
    }

    fn owner(&self, cell: u32, slot: u32) -> Option<BackendNumber> {
        self.maps.owners.half(cell, lane(slot)).map(|lane| lane.load(Ordering::Relaxed))
    }

    // Owners change in `change_owners`, and counters count packets.
    fn set_owner(&self, _cell: u32, _lane: u32, _owner: BackendNumber) {}

    // Picks ask no records.
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
