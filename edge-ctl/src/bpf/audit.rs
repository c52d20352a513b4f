//! Audit of the maps: finds changes by another writer, or by a fault.

mod backends;
mod candidates;
mod published;
mod records;

use std::{
    collections::BTreeMap,
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

use edge_common::abi::{BackendNumber, Generation, NatHead, Pool, Service, Station};

pub(super) use self::backends::SetHop;
pub(crate) use self::records::Records;
use super::{BpfError, PinnedMaps, maps::position};
use crate::{config::Config, plan::Snapshot};

/// The values that this process has stored, and how far the audit has come.
#[derive(Debug, Default)]
pub(super) struct Audited {
    /// A generation, and the checksum of its bank at the first check.
    bank: Option<(u64, u32)>,
    published: Option<published::Known>,
    /// The stations that were stored last.
    pub(super) stations: Option<Vec<Station>>,
    /// The next hops that were stored last.
    pub(super) hops: BTreeMap<BackendNumber, SetHop>,
    /// The table of `CANDIDATES` that is checked next.
    next_table: usize,
    /// How many banks of the history were intact at the last check.
    banks: usize,
    /// The count of the newest bank, as found or written last.
    pub(super) newest: AtomicU64,
}

/// What an audit has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Damage that is repaired: a subject, and a message.
    pub(crate) repaired: Vec<(String, &'static str)>,
    /// Whether the published bank is damaged. The remedy is to publish again.
    pub(crate) is_bank_damaged: bool,
}

impl PinnedMaps {
    /// Compares the contents of the maps with the published generation of `config` and with the values that this process
    /// has stored, and repairs what does not need a publication. A call checks a part of the candidate tables; the calls
    /// take turns.
    ///
    /// # Errors
    /// If the snapshot cannot be read or stored.
    pub(crate) fn audit(&mut self, config: &Config) -> Result<Found, BpfError> {
        let mut found = Found::default();
        if self.maps.published().is_none() {
            return Ok(found);
        }
        if self.repair_snapshot()? {
            found.repaired.push(("snapshot".to_owned(), "another program has written into it; it is stored again"));
        }
        if self.repair_stations() {
            found
                .repaired
                .push(("stations".to_owned(), "they were not those of the host's devices; they are stored again"));
        }
        for name in self.repair_backends()? {
            found.repaired.push((name, "its address or next hop was another one in the maps; it is stored again"));
        }
        let (pools, is_whole) = self.repair_candidates(config)?;
        for name in pools {
            found.repaired.push((name, "its candidates were others in the maps; they are stored again"));
        }
        found.is_bank_damaged = !is_whole || self.is_bank_damaged()?;
        Ok(found)
    }

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
        match self.audited.bank {
            Some((number, known)) if number == generation.number => Ok(known != checksum),
            _ => {
                self.audited.bank = Some((generation.number, checksum));
                Ok(false)
            }
        }
    }

    fn bank_checksum(&self, bank: u32, generation: &Generation, known: &Snapshot) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let common = known.common_cells();
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
            hasher.update(bytemuck::bytes_of(&self.with_own_slots(entry, bank, &common)));
        }
        for entry in (0..=generation.index_mask_v6).map_while(|n| self.maps.index_v6.read(position(bank, n)?)) {
            hasher.update(bytemuck::bytes_of(&self.with_own_slots(entry, bank, &common)));
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
