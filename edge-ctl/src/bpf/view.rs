//! Selection over the maps: the packet path's own rule, run by the controller.

use edge_common::{
    abi::{self, Backend, BackendNumber, Cell, Generation, HashKey, Pool, Service, State},
    maps::{PoolMaps, View},
    select,
};

use super::maps::Maps;

/// Copies of pools and backends at one moment, so that no reference points into memory that others write.
#[derive(Debug)]
pub(super) struct Copies {
    bank: u32,
    generation: Generation,
    pools: Vec<Pool>,
    backends: Vec<Backend>,
    /// First cell and content of a member list that differs from the one in the maps.
    list: Option<(u32, Vec<Cell>)>,
}

impl Copies {
    pub(super) fn take(maps: &Maps, bank: u32, generation: &Generation) -> Self {
        let pools = (0..maps.pools.len() / 2).map_while(|n| maps.pools.read(abi::banked(bank, n))).collect();
        let backends = maps.backends.all().collect();
        Self { bank, generation: *generation, pools, backends, list: None }
    }

    pub(super) const fn hash_key(&self) -> &HashKey {
        &self.generation.hash_key
    }

    pub(super) fn backend(&self, number: BackendNumber) -> Option<&Backend> {
        self.backends.get(usize::from(number))
    }

    pub(super) fn state(&self, number: BackendNumber) -> State {
        self.backend(number).map_or(State(0), |backend| State(backend.state))
    }

    /// Whether the pools of `service` are as in `before`, and with them their tables: a table in force stays as it is.
    pub(super) fn has_pools_of(&self, before: &Self, service: &Service) -> bool {
        let pools = service.pools.iter().take(service.pool_count.into()).map(|number| usize::from(*number));
        pools.into_iter().all(|number| self.pools.get(number) == before.pools.get(number))
    }

    pub(super) fn set_state(&mut self, number: BackendNumber, state: State) {
        if let Some(backend) = self.backends.get_mut(usize::from(number)) {
            backend.state = state.0;
        }
    }

    /// Makes these the counts and the member list of a pool, of one pool at most; `first` is the first cell of the list.
    pub(super) fn set_members(&mut self, pool: u16, counts: (u32, u32), first: u32, list: Vec<Cell>) {
        if let Some(pool) = self.pools.get_mut(usize::from(pool)) {
            (pool.available, pool.enabled) = counts;
        }
        self.list = Some((first, list));
    }

    /// A cell of the changed member list, if it is one.
    fn listed(&self, cell: u32) -> Option<Cell> {
        let (first, list) = self.list.as_ref()?;
        list.get(cell.checked_sub(*first)? as usize).copied()
    }
}

/// Selection over one bank of the maps, as it was when `copies` were taken.
pub(super) struct Picker<'a> {
    maps: &'a Maps,
    copies: &'a Copies,
}

impl<'a> Picker<'a> {
    pub(super) const fn new(maps: &'a Maps, copies: &'a Copies) -> Self {
        Self { maps, copies }
    }

    /// The pick of `slot`: the backend that receives its new flows.
    pub(super) fn pick(&self, service: &Service, slot: u32) -> Option<BackendNumber> {
        let Copies { bank, generation, .. } = self.copies;
        select::pick(self, View { bank: *bank, generation }, service, slot)
    }
}

impl PoolMaps for Picker<'_> {
    fn pool(&self, bank: u32, number: u16) -> Option<&Pool> {
        if bank != self.copies.bank {
            return None;
        }
        self.copies.pools.get(usize::from(number))
    }

    fn backend(&self, number: BackendNumber) -> Option<&Backend> {
        self.copies.backends.get(usize::from(number))
    }

    fn candidates(&self, cell: u32) -> Option<Cell> {
        self.copies.listed(cell).or_else(|| self.maps.candidates.read(cell))
    }
}
