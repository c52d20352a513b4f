//! `edge-ctl doctor`: examines the host, the installation and the load balancer, and names a remedy for each finding.

mod gather;

use std::{fmt::Write as _, io, process::ExitCode};

use serde::Serialize;

use super::{
    args::{Dirs, DoctorArgs},
    coloured, count,
    failure::Failure,
    print_line,
    table::{Shade, painted, printable},
    to_json,
};
use crate::{
    control::{
        doctor::{Checked, examine, worst},
        few,
    },
    preflight::{Finding, Severity},
};

/// Exit codes of `doctor`.
const WARNINGS: u8 = 1;
const ERRORS: u8 = 2;

/// Most subjects of findings with the same words.
const NAMED: usize = 4;

/// The output of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The worst severity; absent if nothing was found.
    worst: Option<Severity>,
    checks: Vec<Checked>,
}

/// Examines everything.
pub(super) fn report(dirs: &Dirs, args: &DoctorArgs) -> Result<Report, Failure> {
    let checks = examine(&gather::facts(dirs, args)?);
    Ok(Report { worst: worst(&checks), checks })
}

pub(super) fn doctor(dirs: &Dirs, args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let report = report(dirs, args)?;
    if args.json {
        print_line(&to_json(&report, true));
    } else {
        print_line(report.text(coloured(&io::stdout())).trim_end());
    }
    Ok(match report.worst {
        None => ExitCode::SUCCESS,
        Some(Severity::Warning) => ExitCode::from(WARNINGS),
        Some(Severity::Error) => ExitCode::from(ERRORS),
    })
}

impl Report {
    /// A line for each check, its findings below it, and the result.
    pub(super) fn text(&self, colour: bool) -> String {
        let mut text = String::new();
        let (mut errors, mut warnings) = (0, 0);
        for Checked { name, seen, findings } in &self.checks {
            let (word, shade) = match findings.iter().map(|finding| finding.severity).min() {
                None => ("ok     ", Shade::Green),
                Some(Severity::Warning) => ("warning", Shade::Yellow),
                Some(Severity::Error) => ("ERROR  ", Shade::Red),
            };
            let _ = writeln!(text, "{}  {name:<13}  {}", painted(word, shade, colour), printable(seen));
            for (subjects, Finding { severity, message, remedy, .. }) in together(findings) {
                match severity {
                    Severity::Error => errors += 1,
                    Severity::Warning => warnings += 1,
                }
                let about = if subjects == [*name] { String::new() } else { few(&subjects, NAMED) + ": " };
                let _ = writeln!(text, "         {}{}", printable(&about), printable(message));
                let _ = writeln!(text, "           do: {}", printable(remedy));
            }
        }
        text + &match (errors, warnings) {
            (0, 0) => "nothing is wrong\n".to_owned(),
            (errors, warnings) => format!("{}, {}\n", count(errors, "error"), count(warnings, "warning")),
        }
    }
}

/// The findings with the same words together, each with its subjects.
fn together(findings: &[Finding]) -> Vec<(Vec<&str>, &Finding)> {
    let mut all: Vec<(Vec<&str>, &Finding)> = Vec::new();
    for finding in findings {
        let is_same = |first: &Finding| {
            (first.severity, &first.message, &first.remedy) == (finding.severity, &finding.message, &finding.remedy)
        };
        match all.iter_mut().find(|(_, first)| is_same(first)) {
            Some((subjects, _)) => subjects.push(&finding.subject),
            None => all.push((vec![&finding.subject], finding)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_has_its_remedy_below_it() {
        let finding = |severity, subject: &str| Finding {
            severity,
            subject: subject.to_owned(),
            message: "it is so".to_owned(),
            remedy: "change it".to_owned(),
        };
        let check = |name, findings| Checked { name, seen: "something".to_owned(), findings };
        let checks = vec![
            check("kernel", Vec::new()),
            check("clock", vec![finding(Severity::Warning, "clock")]),
            check(
                "host",
                ["web", "dns", "mail", "shop", "game"]
                    .map(|name| finding(Severity::Error, &format!("service {name}")))
                    .into(),
            ),
        ];
        let report = Report { worst: worst(&checks), checks };
        assert_eq!(report.worst, Some(Severity::Error));
        insta::assert_snapshot!(report.text(false));
        let well = Report { worst: None, checks: vec![check("kernel", Vec::new())] };
        assert!(well.text(false).ends_with("nothing is wrong\n"));
    }
}
