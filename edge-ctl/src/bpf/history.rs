//! The history of configurations, as bytes in pages of a map: two banks, each with a count and a checksum.
//!
//! A writer that is killed leaves the other bank intact.

use std::sync::atomic::Ordering;

use edge_common::abi::{SNAPSHOT_PAGE, SnapshotHead, SnapshotPage, map};

use super::{BpfError, PinnedMaps, error::out_of, maps::position};

/// Content of one of the two banks.
pub(crate) struct HistoryBank {
    pub(crate) bytes: Vec<u8>,
    bank: u32,
    count: u64,
}

impl HistoryBank {
    /// Number of the write that it was written by.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }
}

impl PinnedMaps {
    /// The contents of both banks, latest first; fewer if a bank is empty or damaged.
    pub(crate) fn histories(&self) -> Vec<HistoryBank> {
        let mut banks: Vec<_> = [0, 1].into_iter().filter_map(|bank| self.read_history(bank)).collect();
        banks.sort_by_key(|bank| std::cmp::Reverse(bank.count));
        banks
    }

    /// Capacity in bytes.
    pub(crate) const fn history_room(&self) -> usize {
        (self.capacity.history as usize * SNAPSHOT_PAGE).saturating_sub(size_of::<SnapshotHead>())
    }

    /// Writes `bytes` into the other bank than `keep`, one of [`histories`](Self::histories). The caller must hold the lock.
    ///
    /// # Errors
    /// If `bytes` do not fit; the banks are not changed then.
    pub(crate) fn write_history(&self, bytes: &[u8], keep: Option<&HistoryBank>) -> Result<(), BpfError> {
        if bytes.len() > self.history_room() {
            return Err(out_of(map::HISTORY, self.capacity.history));
        }
        let bank = keep.map_or(0, |keep| keep.bank ^ 1);
        let count = self.histories().first().map_or(0, |last| last.count);
        let head = SnapshotHead {
            generation: count + 1,
            length: u32::try_from(bytes.len()).map_err(|_| out_of(map::HISTORY, u32::MAX))?,
            checksum: crc32fast::hash(bytes),
        };
        // The bank is empty until its number is stored: with the new number first, its earlier content would be the latest
        // one, and valid.
        let number = position(bank, 0).and_then(|at| self.maps.history.atomic_u64(at, 0));
        let number = number.ok_or(out_of(map::HISTORY, 0))?;
        number.store(0, Ordering::Release);
        let all = [bytemuck::bytes_of(&SnapshotHead { generation: 0, ..head }), bytes].concat();
        for (n, chunk) in (0..).zip(all.chunks(SNAPSHOT_PAGE)) {
            let mut page = SnapshotPage([0; SNAPSHOT_PAGE]);
            page.0[..chunk.len()].copy_from_slice(chunk);
            position(bank, n).and_then(|at| self.maps.history.write(at, page)).ok_or(out_of(map::HISTORY, n))?;
        }
        number.store(head.generation, Ordering::Release);
        self.audited.newest.store(head.generation, Ordering::Relaxed);
        Ok(())
    }

    fn read_history(&self, bank: u32) -> Option<HistoryBank> {
        let page = |n: u32| position(bank, n).and_then(|at| self.maps.history.read(at));
        let first = page(0)?;
        let head: SnapshotHead = bytemuck::pod_read_unaligned(&first.0[..size_of::<SnapshotHead>()]);
        let end = size_of::<SnapshotHead>() + head.length as usize;
        if head.generation == 0 || head.length as usize > self.history_room() {
            return None;
        }
        let mut bytes = first.0.to_vec();
        for n in 1..u32::try_from(end.div_ceil(SNAPSHOT_PAGE)).ok()? {
            bytes.extend_from_slice(&page(n)?.0);
        }
        let bytes = bytes[size_of::<SnapshotHead>()..end].to_vec();
        (crc32fast::hash(&bytes) == head.checksum).then_some(HistoryBank { bytes, bank, count: head.generation })
    }
}
