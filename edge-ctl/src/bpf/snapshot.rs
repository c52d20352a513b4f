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

    fn read_snapshot(&self, bank: u32, generation: u64) -> Result<Snapshot, BpfError> {
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
        let json = &bytes[size_of::<SnapshotHead>()..end];
        if crc32fast::hash(json) != head.checksum {
            return Err(damaged("its checksum is wrong"));
        }
        serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))
    }

    pub(super) fn write_snapshot(&self, image: &Image, bank: u32) -> Result<(), BpfError> {
        let head = SnapshotHead {
            generation: image.generation.number,
            length: u32::try_from(image.json.len()).map_err(|_| out_of(map::SNAPSHOT, u32::MAX))?,
            checksum: crc32fast::hash(&image.json),
        };
        let bytes = [bytemuck::bytes_of(&head), &image.json].concat();
        for (n, chunk) in (0..).zip(bytes.chunks(SNAPSHOT_PAGE)) {
            let mut page = SnapshotPage([0; SNAPSHOT_PAGE]);
            page.0[..chunk.len()].copy_from_slice(chunk);
            position(bank, n).and_then(|at| self.maps.snapshot.write(at, page)).ok_or(out_of(map::SNAPSHOT, n))?;
        }
        Ok(())
    }
}
