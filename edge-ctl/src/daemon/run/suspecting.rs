//! Has backends probed at once that do not answer their clients.

use edge_common::{abi::BackendNumber, wire::protocol};

use super::Daemon;
use crate::{
    bpf::{NatFlow, monotonic_time},
    daemon::{controller::Controller, nudge},
};

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
        let dead = self.suspects.dead(&self.controller.plane);
        if !dead.is_empty() {
            self.nudge_clients(&dead);
        }
    }

    /// Has the clients of dead backends connect anew at once.
    fn nudge_clients(&mut self, dead: &[BackendNumber]) {
        // Without it clients wait for a timeout of their own.
        let Some(nudger) = &self.nudger else { return };
        match self.controller.plane.nat_flows(monotonic_time()) {
            // The table is read once, however many backends of a provider die together.
            Ok(flows) => {
                for dead in dead {
                    let is_its = |flow: &NatFlow| flow.backend == *dead && !flow.stage.is_over();
                    let its = flows.iter().filter(|(ends, flow)| ends.protocol == protocol::TCP && is_its(flow));
                    its.take(nudge::MOST).for_each(|(ends, _)| nudger.nudge(ends));
                }
            }
            Err(error) => self.fault("translated flows", &error),
        }
    }
}
