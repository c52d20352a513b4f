//! How long the probes of each pool take.

use std::time::Duration;

use edge_common::abi::BackendNumber;

use super::Controller;
use crate::control::{data_plane::DataPlane, status::Status};

impl<P: DataPlane> Controller<P> {
    /// Notes how long a probe that has passed took.
    pub(super) fn note_latency(&mut self, backend: BackendNumber, took: Duration) {
        let probed = self.judgement.probed.get(&backend);
        let pool = probed.and_then(|probed| self.inventory.config.pools.get(probed.pool?));
        let Some(pool) = pool else { return };
        match self.latencies.get_mut(&pool.name) {
            Some(latency) => latency.note(took),
            None => self.latencies.entry(pool.name.clone()).or_default().note(took),
        }
    }

    /// Adds the histograms to a status.
    pub(crate) fn show_latencies(&self, status: &mut Status) {
        for pool in &mut status.pools {
            pool.probe_latency = self.latencies.get(&pool.name).cloned();
        }
    }

    /// Forgets pools that are no longer configured.
    pub(super) fn forget_latencies(&mut self) {
        let pools = &self.inventory.config.pools;
        self.latencies.retain(|name, _| pools.iter().any(|pool| pool.name == *name && pool.probe.is_some()));
    }
}
