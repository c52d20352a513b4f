//! Handles the results of probes.

use edge_common::abi::BackendNumber;

use super::Daemon;
use crate::{
    bpf::monotonic_time,
    health::Verdict,
    probe::{Report, Subject},
};

impl Daemon {
    pub(super) fn report(&mut self, reports: &[Report]) {
        if let Some(outside) = &self.outside {
            outside.watch.hear(reports.iter().filter_map(heard));
        }
        self.controller.now = monotonic_time();
        if let Err(error) = self.controller.report(reports) {
            self.fault("probes", &error);
        }
    }
}

/// The backend of a report, and whether any answer came from it; `None` where the probe
/// shows nothing about that, and for references.
fn heard(Report { subject, verdict, .. }: &Report) -> Option<(BackendNumber, bool)> {
    let Subject::Backend(backend) = subject else { return None };
    match verdict {
        Verdict::Pass | Verdict::Fail(_) => Some((*backend, true)),
        Verdict::Silent(_) => Some((*backend, false)),
        // A report of unreachability shows neither that the next hop lives nor that it is dead.
        Verdict::Unreachable(_) | Verdict::Inconclusive(_) => None,
    }
}
