//! The daemon's status.

use super::Daemon;
use crate::{
    bpf::monotonic_time,
    control::status::{self, Clock, DaemonStatus, HistoryStatus, Sample, Status},
    daemon::{controller::Controller, http::Http},
};

impl Daemon {
    pub(in crate::daemon) fn sample(&mut self) {
        let sample = Sample::take(&self.controller.inventory, &self.controller.plane, Clock::now());
        self.controller.events.count_flows(sample.flows());
        if let Some(newer) = &self.newer {
            self.peaks.note(newer, &sample);
        }
        self.older = self.newer.replace(sample);
    }

    pub(super) fn status(&self) -> Status {
        let Controller { inventory, plane, .. } = &self.controller;
        let now = Sample::take(inventory, plane, Clock::now());
        let earlier = self.older.as_ref().or(self.newer.as_ref());
        let daemon = DaemonStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            config: self.reader.path().display().to_string(),
            refused: self.refused.clone(),
            probes: self.probing.why_not(),
            program: None,
            loading: false,
            state_error: self.keeper.fault(),
            repaired: self.controller.repaired,
            frozen: self.controller.frozen(),
            http: self.http.as_ref().and_then(Http::status),
            notify: self.hooks.status(),
        };
        let mut status = status::build(inventory, plane, earlier, &now, Some(daemon));
        self.program.explain(&mut status);
        self.controller.explain(&mut status);
        self.controller.show_certificates(&mut status);
        self.controller.show_latencies(&mut status);
        self.peaks.show(inventory, &mut status);
        self.controller.show_unrecorded(&mut status);
        self.suspects.show(&mut status, inventory, monotonic_time());
        status.host.clone_from(&self.fit.findings);
        status.history = HistoryStatus::of(&self.history, inventory.generation, Clock::now());
        if let Some(trial) = status.history.as_mut().and_then(|history| history.trial.as_mut()) {
            trial.overdue.clone_from(&self.overdue);
        }
        status
    }
}
