//! Checks whether the configuration in force still fits the host: at the start, and after each change of the host.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc::Sender},
    task::{AbortHandle, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use crate::{
    config::Config,
    control::{
        chain,
        events::{EventKind, Events},
    },
    plan::Capacity,
    preflight::{self, Finding, Host, HostError, Pinned},
};

/// Minimum time for which changes are collected.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// Rest after a look, in durations of that look: looks take an eleventh of the time at most, however many backends
/// there are and however much changes.
const REST_FACTOR: u32 = 10;
/// Longest rest after a look: on a busy machine, a look waits more than it works.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// Longest wait for a notification, since settings of the kernel change without one.
const PERIOD: Duration = Duration::from_mins(1);

/// The result of a look.
pub(super) type Findings = Result<Vec<Finding>, HostError>;

/// A task that looks at the host beside the daemon's loop, until this handle is dropped.
#[derive(Debug)]
pub(super) struct Looking {
    task: AbortHandle,
    changed: Arc<Notify>,
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Looking {
    /// Starts the task. After each look, it sends the findings where `config` does not fit this host or maps of this
    /// capacity.
    pub(super) fn start(config: Config, capacity: Capacity, findings: Sender<Findings>) -> Self {
        let changed = Arc::new(Notify::new());
        let wake = Arc::clone(&changed);
        let config = Arc::new(config);
        let task = tokio::spawn(async move {
            loop {
                let started = Instant::now();
                let config = Arc::clone(&config);
                let look = move || {
                    let host = Host::read(&config, Pinned::Maps(capacity))?;
                    Ok(preflight::compare(&config, &host))
                };
                let Ok(seen) = spawn_blocking(look).await else { return };
                if findings.send(seen).await.is_err() {
                    return;
                }
                let rest = (started.elapsed() * REST_FACTOR).clamp(DEBOUNCE, LONGEST_REST);
                // Ends at the first change, or with the period.
                let _ = timeout(PERIOD, wake.notified()).await;
                sleep(rest).await;
            }
        });
        Self { task: task.abort_handle(), changed }
    }

    /// Notes a change of the host.
    pub(super) fn changed(&self) {
        self.changed.notify_one();
    }
}

/// The findings of the last look.
#[derive(Debug, Default)]
pub(super) struct Fit {
    pub(super) findings: Vec<Finding>,
    failed: bool,
}

impl Fit {
    /// Takes a look's result, and reports findings that are new or over. A failed look leaves the findings as they are.
    pub(super) fn note(&mut self, found: Findings, events: &Events) {
        let now = match found {
            Ok(now) => now,
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    events.report(EventKind::LocalFault, "host", chain(&error));
                }
                return;
            }
        };
        self.failed = false;
        let before = std::mem::replace(&mut self.findings, now);
        for finding in self.findings.iter().filter(|finding| !before.contains(finding)) {
            let Finding { severity, subject, message, remedy } = finding;
            events.report(EventKind::HostUnfit, subject, format!("{}: {message}\n  do: {remedy}", severity.name()));
        }
        for finding in before.iter().filter(|before| !self.findings.iter().any(|now| now.is_like(before))) {
            events.report(EventKind::HostFits, &finding.subject, format!("no longer so: {}", finding.message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Severity;

    fn finding(severity: Severity, subject: &str) -> Finding {
        Finding { severity, subject: subject.into(), message: "so".into(), remedy: "otherwise".into() }
    }

    #[test]
    fn what_is_new_and_what_is_over_is_reported_once() {
        let (events, mut fit) = (Events::new(), Fit::default());
        let kinds = |events: &Events| events.kept().iter().map(|event| event.kind).collect::<Vec<_>>();
        let two = || vec![finding(Severity::Error, "a"), finding(Severity::Warning, "b")];
        fit.note(Ok(two()), &events);
        fit.note(Ok(two()), &events);
        assert_eq!(kinds(&events), [EventKind::HostUnfit, EventKind::HostUnfit]);
        fit.note(Ok(vec![finding(Severity::Warning, "b")]), &events);
        assert_eq!(kinds(&events).last(), Some(&EventKind::HostFits));
        assert_eq!(events.kept().len(), 3);
    }

    #[test]
    fn a_failed_look_keeps_the_earlier_findings() {
        let (events, mut fit) = (Events::new(), Fit::default());
        fit.note(Ok(vec![finding(Severity::Error, "a")]), &events);
        let failed = || HostError::Sysctl { name: "x".into(), source: std::io::Error::other("no") };
        fit.note(Err(failed()), &events);
        fit.note(Err(failed()), &events);
        assert_eq!(fit.findings.len(), 1);
        assert_eq!(events.kept().len(), 2, "once");
    }
}
