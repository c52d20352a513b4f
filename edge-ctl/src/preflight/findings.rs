//! Collects findings.

use super::{Finding, Severity};

#[derive(Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// The findings, errors first.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.0.sort();
        self.0
    }

    pub(super) fn add(
        &mut self,
        severity: Severity,
        subject: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (subject, message, remedy) = (subject.to_owned(), message.into(), remedy.into());
        self.0.push(Finding { severity, subject, message, remedy });
    }

    pub(super) fn warn(&mut self, subject: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, subject, message, remedy);
    }

    pub(super) fn fail(&mut self, subject: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, subject, message, remedy);
    }
}
