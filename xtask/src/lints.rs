//! Formatting, clippy and the dependencies' licences.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, ensure};

use crate::{
    build,
    cargo::{self, output},
    counts::Counts,
    step::step,
};

/// Every check; fails if one does.
pub(crate) fn all() -> Result<()> {
    build::object(false)?;
    let mut counts = Counts::default();
    counted(&mut counts);
    ensure!(counts.failed == 0, "{} of the checks failed", counts.failed);
    Ok(())
}

/// Every check, each counted as a test.
pub(crate) fn counted(counts: &mut Counts) {
    let mut check = |what: &str, command: &mut Command| {
        let result = step(what, || cargo::run(command));
        if let Err(error) = &result {
            eprintln!("xtask: {error:#}");
        }
        counts.check(result.is_ok());
    };
    check("formatting", cargo::cargo().args(["fmt", "--all", "--check"]));
    let clippy =
        ["clippy", "--quiet", "--workspace", "--exclude", "edge-ebpf", "--all-targets", "--", "-D", "warnings"];
    check("clippy", cargo::cargo().args(clippy));
    match cargo_deny() {
        // Advisories need a database from the network; a build must not depend on what others publish today.
        Some(deny) => check(
            "dependencies",
            cargo::command(deny).args(["--log-level", "error", "check", "bans", "licenses", "sources"]),
        ),
        None => eprintln!("xtask: cargo-deny is not installed: dependencies are not checked (.ci/run installs it)"),
    }
}

/// The project's own cargo-deny, or the user's.
fn cargo_deny() -> Option<PathBuf> {
    let own = cargo::tools().join("bin/cargo-deny");
    [own, "cargo-deny".into()].into_iter().find(|path| output(Command::new(path).arg("--version")).is_some())
}
