//! Audit of the maps: finds changes by another writer, or by a fault.

use std::{mem::offset_of, sync::atomic::Ordering};

use edge_common::abi::{Generation, NatHead, Pool, Service};

use super::{BpfError, PinnedMaps, maps::position};
use crate::plan::Snapshot;

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

    /// Whether the published bank (without the fields that change within a generation) or the heads of the flow tables
    /// have changed since the first call in this generation. The remedy is to publish again.
    pub(crate) fn is_bank_damaged(&mut self) -> Result<bool, BpfError> {
        let Some((bank, generation)) = self.maps.published() else { return Ok(false) };
        let known = self.known()?;
        let checksum = self.bank_checksum(bank, &generation, &known);
        match self.bank_checksum {
            Some((number, known)) if number == generation.number => Ok(known != checksum),
            _ => {
                self.bank_checksum = Some((generation.number, checksum));
                Ok(false)
            }
        }
    }

    fn bank_checksum(&self, bank: u32, generation: &Generation, known: &Snapshot) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let lasting = Generation { stations: Generation::default().stations, ..*generation };
        hasher.update(bytemuck::bytes_of(&lasting));
        if let Some(head) = self.maps.flow_head.read(0) {
            hasher.update(bytemuck::bytes_of(&head));
        }
        if let Some(head) = self.maps.nat_head.read(0) {
            // Retired sources are removed at any time.
            hasher.update(bytemuck::bytes_of(&NatHead { sources: Default::default(), ..head }));
        }
        for entry in (0..=generation.index_mask_v4).map_while(|n| self.maps.index_v4.read(position(bank, n)?)) {
            hasher.update(bytemuck::bytes_of(&entry));
        }
        for entry in (0..=generation.index_mask_v6).map_while(|n| self.maps.index_v6.read(position(bank, n)?)) {
            hasher.update(bytemuck::bytes_of(&entry));
        }
        for service in known.services.iter().filter_map(|record| self.maps.service(bank, record.number)) {
            hasher.update(bytemuck::bytes_of(&Service { failover: 0, in_transition: 0, redirected: 0, ..service }));
        }
        let pools = known.pools.iter().filter_map(|record| self.maps.pools.read(position(bank, record.number.into())?));
        for pool in pools {
            hasher.update(bytemuck::bytes_of(&Pool { available: 0, enabled: 0, withheld: 0, ..pool }));
        }
        hasher.finalize()
    }

    /// The available and enabled counts of a pool.
    fn counts(&self, bank: u32, pool: u16) -> [Option<u32>; 2] {
        [offset_of!(Pool, available), offset_of!(Pool, enabled)].map(|offset| {
            let word = self.maps.pools.atomic_u32(position(bank, pool.into())?, offset)?;
            Some(word.load(Ordering::Acquire))
        })
    }
}
