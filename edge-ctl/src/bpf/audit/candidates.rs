//! The tables in `CANDIDATES`, each of which has a checksum in the snapshot. Member lists are written anew each second with
//! the counts.

use edge_common::abi::Cell;

use crate::{
    bpf::{BpfError, PinnedMaps},
    config::Config,
    plan::{self, Snapshot},
};

/// Cells that are checked in one call, at least one table: a millisecond's work.
const AT_ONCE: u32 = 1 << 17;
/// Cells that are copied together.
const RUN: usize = 512;

/// A table.
#[derive(Clone, Copy, Debug)]
enum Table {
    /// Candidates of the pool at this position.
    OfPool(usize),
    /// Server numbers of the service at this position.
    OfService(usize),
}

impl PinnedMaps {
    /// Checks the next tables, and stores damaged ones again. Returns the names of their pools and services, and whether
    /// all of them could be stored: a table that another version has planned may be another one now.
    pub(super) fn repair_candidates(&mut self, config: &Config) -> Result<(Vec<String>, bool), BpfError> {
        let known = self.known()?;
        let pools = (0..known.pools.len()).map(Table::OfPool);
        let tables: Vec<_> = pools.chain((0..known.services.len()).map(Table::OfService)).collect();
        let (mut repaired, mut is_whole, mut looked_at) = (Vec::new(), true, 0);
        for _ in 0..tables.len() {
            let table = tables[self.audited.next_table % tables.len()];
            self.audited.next_table = (self.audited.next_table + 1) % tables.len();
            let (name, first, length, checksum) = table.record(&known);
            looked_at += length;
            if length > 0 && self.checksum(first, length) != checksum {
                let cells = table.cells(config, &known).filter(|cells| {
                    cells.len() == length as usize && crc32fast::hash(bytemuck::cast_slice(cells)) == checksum
                });
                match cells {
                    Some(cells) => {
                        self.store_table(table, &known, first, &cells);
                        repaired.push(name.to_owned());
                    }
                    None => is_whole = false,
                }
            }
            if looked_at >= AT_ONCE {
                break;
            }
        }
        Ok((repaired, is_whole))
    }

    fn checksum(&self, first: u32, length: u32) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let mut run = Vec::with_capacity(RUN);
        let end = first.saturating_add(length);
        for from in (first..end).step_by(RUN) {
            let cells = (from..end).take(RUN).map_while(|cell| self.maps.candidates.read(cell));
            run.clear();
            run.extend(cells);
            hasher.update(bytemuck::cast_slice(&run));
        }
        hasher.finalize()
    }

    /// A reconcile pass may have taken picks from the damaged table: the services begin a transition, in which each slot
    /// is looked at again.
    fn store_table(&mut self, table: Table, known: &Snapshot, first: u32, cells: &[Cell]) {
        let concerned = match table {
            Table::OfPool(at) => self.services_of(known.pools[at].number),
            Table::OfService(at) => vec![known.services[at].number],
        };
        let changing = self.begin_transition(&concerned);
        // The table was read up to its end before.
        let _in_range = self.maps.candidates.write_run(first, cells);
        self.raise_flags(&concerned);
        self.note_transitions(&changing, "damaged candidates were repaired");
    }
}

impl Table {
    /// Name, first cell, length and checksum.
    fn record(self, known: &Snapshot) -> (&str, u32, u32, u32) {
        match self {
            Self::OfPool(at) => {
                let pool = &known.pools[at];
                (&pool.name, pool.table, pool.sizes, pool.checksum)
            }
            Self::OfService(at) => {
                let service = &known.services[at];
                (&service.name, service.servers.cell, service.servers.cells, service.servers.checksum)
            }
        }
    }

    /// The content as this version plans it.
    fn cells(self, config: &Config, known: &Snapshot) -> Option<Vec<Cell>> {
        match self {
            Self::OfPool(at) => {
                let pool = config.pools.get(at).filter(|pool| pool.name == known.pools[at].name)?;
                Some(plan::candidate_tables(pool, &known.pools[at]))
            }
            Self::OfService(at) => {
                let service = config.services.get(at).filter(|service| service.name == known.services[at].name)?;
                Some(plan::server_table(service, known))
            }
        }
    }
}
