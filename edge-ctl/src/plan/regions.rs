//! Placement of runs of cells in a map.

use edge_common::abi::CELL;

/// The free and taken cells of a map.
#[derive(Clone, Debug)]
pub(super) struct Regions {
    /// Taken runs by first cell: first cell and length.
    taken: Vec<(u32, u32)>,
    size: u32,
}

impl Regions {
    /// A map of `size` cells in which the `taken` runs must not be touched; runs may be empty, and may overlap.
    pub(super) fn new(size: u32, taken: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut taken: Vec<_> = taken.into_iter().filter(|&(_, length)| length > 0).collect();
        taken.sort_unstable();
        Self { taken, size }
    }

    /// Takes the lowest free run of `length` cells.
    pub(super) fn lowest(&mut self, length: u32) -> Option<u32> {
        let first = self.gaps().into_iter().find(|&(_, room)| room >= length).map(|(first, _)| first)?;
        self.take(first, length);
        Some(first)
    }

    /// Takes the highest free run of `length` cells: for a kind of runs that must not fragment the other end of the map.
    pub(super) fn highest(&mut self, length: u32) -> Option<u32> {
        let (first, room) = self.gaps().into_iter().rfind(|&(_, room)| room >= length)?;
        let first = first + (room - length);
        self.take(first, length);
        Some(first)
    }

    /// Frees these runs, each of which was taken as a whole.
    pub(super) fn release(&mut self, runs: &[(u32, u32)]) {
        self.taken.retain(|run| !runs.contains(run));
    }

    /// Number of taken cells.
    pub(super) fn used(&self) -> u32 {
        self.size - self.gaps().into_iter().map(|(_, room)| room).sum::<u32>()
    }

    fn take(&mut self, first: u32, length: u32) {
        if length > 0 {
            let at = self.taken.partition_point(|&(other, _)| other < first);
            self.taken.insert(at, (first, length));
        }
    }

    fn gaps(&self) -> Vec<(u32, u32)> {
        let mut gaps = Vec::new();
        let mut free_from = 0u32;
        for &(first, length) in &self.taken {
            if first > free_from {
                gaps.push((free_from, first.min(self.size) - free_from.min(self.size)));
            }
            free_from = free_from.max(first.saturating_add(length));
        }
        if free_from < self.size {
            gaps.push((free_from, self.size - free_from));
        }
        gaps
    }
}

/// Number of cells for `numbers` backend numbers.
#[expect(clippy::cast_possible_truncation, reason = "it is four")]
pub(super) const fn cells(numbers: u32) -> u32 {
    numbers.div_ceil(CELL as u32)
}
