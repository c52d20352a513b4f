//! `cargo xtask test`: every check and every test, and one line with their number.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result};

use crate::{
    budget,
    build::{self, Profile},
    cargo,
    counts::Counts,
    lints, setup,
    slowest::Slowest,
    step::step,
    vm,
};

/// Runs them all, whatever fails on the way; fails if anything did.
///
/// `quick` leaves out what takes minutes: other kernels, the model of flows, labs.
pub(crate) fn all(quick: bool) -> Result<ExitCode> {
    setup::everything()?;
    let edge_ctl = build::all(Profile::Dev, false)?;
    let mut counts = Counts::default();
    lints::counted(&mut counts);
    let fast = ["--package", "edge-common", "--package", "edge-ctl", "--package", "xtask"];
    tests("unit and property tests", &mut counts, cargo::cargo().args(["test", "--no-fail-fast"]).args(fast))?;
    if nix::unistd::geteuid().is_root() {
        let budgets = step("comparing the programs with their budgets", budget::check);
        if let Err(error) = &budgets {
            eprintln!("xtask: {error:#}");
        }
        counts.check(budgets.is_ok());
        let each = |what: &str, counts: &mut Counts, targets: &[&str]| {
            let mut test = cargo::cargo();
            test.args(["test", "--no-fail-fast", "--package", "edge-tests"]).args(targets);
            // One at a time: labs share the machine's processors, and some tests measure time.
            tests(what, counts, test.args(["--", "--test-threads=1"]))
        };
        each("packet tests", &mut counts, &["--lib", "--test", "packets"])?;
        if !quick {
            kernels(&edge_ctl, &mut counts);
            each("model of flows", &mut counts, &["--test", "model"])?;
            each("lab tests", &mut counts, &["--test", "lab"])?;
        }
    } else {
        eprintln!("xtask: packet and lab tests need root: sudo -E env PATH=\"$PATH\" cargo xtask test");
        counts.check(false);
    }
    println!("{} passed, {} failed", counts.passed, counts.failed);
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The programs and a core of packets on other kernels than this one.
fn kernels(edge_ctl: &Path, counts: &mut Counts) {
    if let Err(reason) = vm::possible() {
        eprintln!("xtask: other kernels are not tested: {reason:#}");
        return;
    }
    let before = counts.failed;
    if let Err(error) = step("other kernels", || vm::core(edge_ctl, counts)) {
        eprintln!("xtask: {error:#}");
        if counts.failed == before {
            counts.check(false);
        }
    }
}

/// Runs a test command, shows what it prints, and counts its results.
fn tests(what: &str, counts: &mut Counts, command: &mut Command) -> Result<()> {
    let before = counts.failed;
    step(what, || {
        let mut child =
            command.stdout(Stdio::piped()).spawn().with_context(|| format!("could not start the {what}"))?;
        let mut slowest = Slowest::starting(Instant::now());
        for line in BufReader::new(child.stdout.take().context("the tests have no output")?).lines() {
            let line = line?;
            counts.read(&line);
            slowest.read(&line, Instant::now());
            println!("{line}");
        }
        eprint!("{slowest}");
        // A program that does not build, or that dies, prints no result line.
        if !child.wait()?.success() && counts.failed == before {
            counts.check(false);
        }
        Ok(())
    })
}
