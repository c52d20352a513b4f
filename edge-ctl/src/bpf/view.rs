//! Selection over the maps: the packet path's own rule, run by the controller.

use edge_common::{
    abi::{self, Backend, BackendNumber, Cell, Generation, HashKey, Pool, Service},
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
}

impl Copies {
    pub(super) fn take(maps: &Maps, bank: u32, generation: &Generation) -> Self {
        let pools = (0..maps.pools.len() / 2).map_while(|n| maps.pools.read(abi::banked(bank, n))).collect();
        let backends = maps.backends.all().collect();
        Self { bank, generation: *generation, pools, backends }
    }

    pub(super) const fn hash_key(&self) -> &HashKey {
        &self.generation.hash_key
    }

    pub(super) fn backend(&self, number: BackendNumber) -> Option<&Backend> {
        self.backends.get(usize::from(number))
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
        self.maps.candidates.read(cell)
    }
}
