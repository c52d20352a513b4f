//! The published snapshot: the text of the configuration and all assigned numbers, in pages of a map.

use edge_common::abi::{SNAPSHOT_PAGE, SnapshotHead, SnapshotPage, map};

use super::{BpfError, PinnedMaps, error::out_of, maps::position};
use crate::plan::{Image, Snapshot};

/// Attempts to read a snapshot that a writer may be replacing.
const ATTEMPTS: usize = 10;

impl PinnedMaps {
    /// The published configuration; `None` before the first publication. Needs no lock.
    ///
    /// # Errors
    /// If the snapshot is damaged or is not that of the published generation.
    pub(crate) fn snapshot(&self) -> Result<Option<Snapshot>, BpfError> {
        let mut damage = BpfError::Unpublished;
        for _ in 0..ATTEMPTS {
            let Some((bank, generation)) = self.maps.published() else { return Ok(None) };
            match self.read_snapshot(bank, generation.number) {
                Ok(snapshot) => return Ok(Some(snapshot)),
                // The snapshot was replaced during the read, maybe more than once; or it is damaged, and the next
                // attempt fails too.
                Err(error) => damage = error,
            }
        }
        Err(damage)
    }

    /// Whether the pages hold the snapshot of the published generation.
    pub(super) fn is_snapshot_whole(&self) -> bool {
        self.maps.published().is_some_and(|(bank, generation)| self.snapshot_json(bank, generation.number).is_ok())
    }

    fn read_snapshot(&self, bank: u32, generation: u64) -> Result<Snapshot, BpfError> {
        let json = self.snapshot_json(bank, generation)?;
        serde_json::from_slice(&json).map_err(|error| BpfError::Snapshot { what: error.to_string() })
    }

    fn snapshot_json(&self, bank: u32, generation: u64) -> Result<Vec<u8>, BpfError> {
        let damaged = |what: &str| BpfError::Snapshot { what: what.to_owned() };
        let page = |n: u32| {
            position(bank, n).and_then(|at| self.maps.snapshot.read(at)).ok_or_else(|| damaged("longer than its map"))
        };
        let first = page(0)?;
        let head: SnapshotHead = bytemuck::pod_read_unaligned(&first.0[..size_of::<SnapshotHead>()]);
        if head.generation != generation {
            return Err(damaged("it belongs to another generation"));
        }
        let end = size_of::<SnapshotHead>() + head.length as usize;
        let mut bytes = first.0.to_vec();
        let mut next = 1;
        while bytes.len() < end {
            bytes.extend_from_slice(&page(next)?.0);
            next += 1;
        }
        bytes.truncate(end);
        bytes.drain(..size_of::<SnapshotHead>());
        if crc32fast::hash(&bytes) != head.checksum {
            return Err(damaged("its checksum is wrong"));
        }
        Ok(bytes)
    }

    pub(super) fn write_snapshot(&self, image: &Image, bank: u32) -> Result<(), BpfError> {
        self.store_snapshot(image.generation.number, &image.json, bank)
    }

    pub(super) fn store_snapshot(&self, generation: u64, json: &[u8], bank: u32) -> Result<(), BpfError> {
        let length = u32::try_from(json.len()).map_err(|_| out_of(map::SNAPSHOT, u32::MAX))?;
        let head = SnapshotHead { generation, length, checksum: crc32fast::hash(json) };
        let bytes = [bytemuck::bytes_of(&head), json].concat();
        for (n, chunk) in (0..).zip(bytes.chunks(SNAPSHOT_PAGE)) {
            let mut page = SnapshotPage([0; SNAPSHOT_PAGE]);
            page.0[..chunk.len()].copy_from_slice(chunk);
            position(bank, n).and_then(|at| self.maps.snapshot.write(at, page)).ok_or(out_of(map::SNAPSHOT, n))?;
        }
        Ok(())
    }
}
