//! The snapshot and the history: the records from which the next start goes on.

use std::{cmp, sync::atomic::Ordering};

use crate::bpf::{BpfError, PinnedMaps, history::HistoryBank};

/// The history in the maps, compared with what this process knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Records {
    Same,
    /// A bank was lost. The remedy is to write the history again.
    Damaged,
    /// Another program has written a newer one.
    Foreign,
}

impl PinnedMaps {
    /// Stores the snapshot again if it is damaged; returns whether it was.
    pub(super) fn repair_snapshot(&mut self) -> Result<bool, BpfError> {
        // The known one is that of the published generation.
        let known = self.known()?;
        if self.is_snapshot_whole() {
            return Ok(false);
        }
        let json = serde_json::to_vec(&*known).map_err(|error| BpfError::Snapshot { what: error.to_string() })?;
        self.store_snapshot(known.generation, &json, self.maps.bank())?;
        Ok(true)
    }

    /// Compares the banks of the history with the last look, and with what this process has written since.
    pub(crate) fn look_at_history(&mut self) -> Records {
        let intact = self.histories();
        let (banks, newest) = (intact.len(), intact.first().map_or(0, HistoryBank::count));
        let before = std::mem::replace(&mut self.audited.banks, banks);
        match newest.cmp(&self.audited.newest.swap(newest, Ordering::Relaxed)) {
            cmp::Ordering::Greater => Records::Foreign,
            cmp::Ordering::Equal if banks >= before => Records::Same,
            cmp::Ordering::Equal | cmp::Ordering::Less => Records::Damaged,
        }
    }
}
