//! Has backends probed at once that do not answer their clients.

use super::Daemon;
use crate::{bpf::monotonic_time, daemon::controller::Controller};

impl Daemon {
    /// Once a second.
    pub(super) fn compare_handshakes(&mut self) {
        let Controller { inventory, plane, events, .. } = &self.controller;
        for (kind, subject, message) in self.suspects.compare(inventory, plane, monotonic_time()) {
            events.report(kind, &subject, message);
        }
    }

    pub(super) fn glance(&mut self) {
        let Controller { inventory, plane, events, .. } = &self.controller;
        let is_well = |backend| self.controller.is_well(backend);
        let (suspects, reports) = self.suspects.look(inventory, plane, is_well, monotonic_time());
        for (kind, subject, message) in reports {
            events.report(kind, &subject, message);
        }
        if !suspects.is_empty() {
            self.probes.look_at_once(&suspects);
        }
    }
}
