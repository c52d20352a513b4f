//! Examines an installation: judges gathered facts about the host, the unit, the versions, the configuration, the
//! daemon and the ways to backends. Pure: `cli/doctor` gathers the facts.

// The result does not depend on the time.
#![deny(clippy::disallowed_methods)]

mod clock;
mod configuration;
mod daemon;
mod decap;
mod host;
mod kernel;
mod limits;
mod unit;
mod versions;
mod vips;
mod ways;

use std::collections::BTreeMap;

use serde::Serialize;

pub(crate) use self::{
    clock::Clock,
    configuration::Configuration,
    daemon::Daemon,
    decap::Decap,
    host::{Host, Interface},
    kernel::Kernel,
    limits::Limits,
    unit::{PROPERTIES, Unit},
    versions::Versions,
    vips::Vips,
    ways::{Way, Ways},
};
use crate::preflight::{Finding, Severity};

/// All facts that are judged.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) kernel: Kernel,
    pub(crate) clock: Clock,
    pub(crate) unit: Unit,
    pub(crate) versions: Versions,
    pub(crate) configuration: Configuration,
    pub(crate) daemon: Daemon,
    pub(crate) limits: Limits,
    pub(crate) host: Host,
    pub(crate) ways: Ways,
    pub(crate) vips: Vips,
    pub(crate) decap: Decap,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Checked {
    pub(crate) name: &'static str,
    /// What was seen, in words.
    pub(crate) seen: String,
    /// Errors first.
    pub(crate) findings: Vec<Finding>,
}

impl Checked {
    fn new(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, seen: seen.into(), findings: Vec::new() }
    }

    fn fail(&mut self, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, message.into(), remedy.into());
    }

    fn warn(&mut self, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, message.into(), remedy.into());
    }

    fn add(&mut self, severity: Severity, message: String, remedy: String) {
        self.findings.push(Finding { severity, subject: self.name.to_owned(), message, remedy });
        self.findings.sort();
    }
}

/// All checks, from the host to the ways to backends.
pub(crate) fn examine(facts: &Facts) -> Vec<Checked> {
    let mut checks = vec![facts.kernel.check(), facts.clock.check(), facts.unit.check(facts.daemon.pid)];
    checks.push(facts.versions.check());
    if !facts.is_only_a_backend() {
        checks.extend([facts.configuration.check(), facts.daemon.check(), facts.limits.check(), facts.host.check()]);
        checks.extend([facts.ways.check(), facts.vips.check()]);
    }
    checks.push(facts.decap.check());
    checks
}

impl Facts {
    /// Whether this host decapsulates, and nothing makes it a load balancer.
    fn is_only_a_backend(&self) -> bool {
        let is_edge = self.daemon.pid.is_some() || self.daemon.pinned || self.configuration.read.is_some();
        !is_edge && !self.configuration.named && !self.decap.interfaces.is_empty()
    }
}

/// The worst severity; `None` if nothing was found.
pub(crate) fn worst(checks: &[Checked]) -> Option<Severity> {
    checks.iter().flat_map(|check| &check.findings).map(|finding| finding.severity).min()
}

/// Key and value pairs of `KEY=VALUE` lines.
pub(crate) fn properties(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.into(), value.into())).collect()
}

/// A check in short, for tables in tests: severity and message of each finding.
#[cfg(test)]
fn found(check: &Checked) -> Vec<(Severity, &str)> {
    check.findings.iter().map(|finding| (finding.severity, finding.message.as_str())).collect()
}
