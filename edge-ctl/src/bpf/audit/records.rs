//! The snapshot and the history: the records from which the next start goes on.

use crate::bpf::{BpfError, PinnedMaps};

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

    /// Whether a bank of the history was lost since the last call. The remedy is to write the history again.
    pub(crate) fn is_history_damaged(&mut self) -> bool {
        let intact = self.histories();
        let now = (intact.len(), intact.first().map_or(0, |newest| newest.count()));
        let before = std::mem::replace(&mut self.audited.histories, now);
        now.0 < before.0 || now.1 < before.1
    }
}
