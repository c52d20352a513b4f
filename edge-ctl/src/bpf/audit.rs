//! Whether what is counted from states is what they say: another writer, or a fault, may have left it otherwise.

use std::{mem::offset_of, sync::atomic::Ordering};

use edge_common::abi::Pool;

use super::{BpfError, PinnedMaps, maps::position};

impl PinnedMaps {
    /// Brings the counts and the member lists of all pools in line with the states of their backends. Returns the names of
    /// the pools whose counts were wrong.
    pub(crate) fn repair_counts(&mut self) -> Result<Vec<String>, BpfError> {
        let Some((bank, _)) = self.maps.published() else { return Ok(Vec::new()) };
        let known = self.known()?;
        let mut repaired = Vec::new();
        for pool in &known.pools {
            let before = self.counts(bank, pool.number);
            self.recount(pool.number)?;
            if self.counts(bank, pool.number) != before {
                repaired.push(pool.name.clone());
            }
        }
        Ok(repaired)
    }

    /// The two counts of a pool.
    fn counts(&self, bank: u32, pool: u16) -> [Option<u32>; 2] {
        [offset_of!(Pool, available), offset_of!(Pool, enabled)].map(|offset| {
            let word = self.maps.pools.atomic_u32(position(bank, pool.into())?, offset)?;
            Some(word.load(Ordering::Acquire))
        })
    }
}
