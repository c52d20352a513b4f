//! The history of configurations, as bytes in pages of a map: two banks, of which the one with the higher count is in force.
//!
//! Who is killed while writing leaves the other bank as it was.

use edge_common::abi::{SNAPSHOT_PAGE, SnapshotHead, SnapshotPage, map};

use super::{BpfError, PinnedMaps, maps::position, publish::out_of};

impl PinnedMaps {
    /// The bytes that were written last; `None` where there are none, or none that are whole.
    pub(crate) fn history(&self) -> Option<Vec<u8>> {
        self.newest().map(|(_, _, bytes)| bytes)
    }

    /// Bytes that there is room for.
    pub(crate) const fn history_room(&self) -> usize {
        (self.capacity.history as usize * SNAPSHOT_PAGE).saturating_sub(size_of::<SnapshotHead>())
    }

    /// Writes `bytes` in place of those before. Only for the holder of the lock.
    ///
    /// # Errors
    /// When there is no room for them; those before stay.
    pub(crate) fn write_history(&self, bytes: &[u8]) -> Result<(), BpfError> {
        if bytes.len() > self.history_room() {
            return Err(out_of(map::HISTORY, self.capacity.history));
        }
        let (bank, count) = self.newest().map_or((0, 0), |(bank, count, _)| (bank ^ 1, count));
        let head = SnapshotHead {
            generation: count + 1,
            length: u32::try_from(bytes.len()).map_err(|_| out_of(map::HISTORY, u32::MAX))?,
            checksum: crc32fast::hash(bytes),
        };
        let all = [bytemuck::bytes_of(&head), bytes].concat();
        // The first page last: its head makes the others count.
        let pages: Vec<_> = (0..).zip(all.chunks(SNAPSHOT_PAGE)).collect();
        for (n, chunk) in pages.into_iter().rev() {
            let mut page = SnapshotPage([0; SNAPSHOT_PAGE]);
            page.0[..chunk.len()].copy_from_slice(chunk);
            position(bank, n).and_then(|at| self.maps.history.write(at, page)).ok_or(out_of(map::HISTORY, n))?;
        }
        Ok(())
    }

    fn newest(&self) -> Option<(u32, u64, Vec<u8>)> {
        let banks =
            [0, 1].into_iter().filter_map(|bank| self.read_history(bank).map(|(count, all)| (bank, count, all)));
        banks.max_by_key(|(_, count, _)| *count)
    }

    fn read_history(&self, bank: u32) -> Option<(u64, Vec<u8>)> {
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
        (crc32fast::hash(&bytes) == head.checksum).then_some((head.generation, bytes))
    }
}
