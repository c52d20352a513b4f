//! `cargo xtask test`: every check and every test, and one line with their number.

use std::{
    path::Path,
    process::{Command, ExitCode},
    thread::{self, JoinHandle},
};

use anyhow::{Result, bail};

use crate::{
    budget,
    build::{self, Profile},
    cargo,
    counts::Counts,
    lints, outages, rules, setup,
    step::step,
    test_run::TestRun,
    vm,
};

/// Test programs that need neither root nor minutes.
const FAST: [&str; 2] = ["cli", "layers"];
const PACKETS: &str = "packets";
const MODEL: &str = "model";
const LAB: &str = "lab";
/// Modules of the lab tests that count what a moment costs clients, or miss a single datagram: nothing else may run then.
const ALONE: [&str; 3] = ["http::", "liveness::", "path_mtu::"];
/// As many lab tests are run again when they failed; more of them do not fail by chance.
const MOST_AGAIN: usize = 3;
/// The module of the lab tests that takes as long as most others together.
const FLOWS: &str = "flows::";

/// Runs them all, whatever fails on the way; fails if anything did.
///
/// `quick` leaves out what takes minutes: other kernels, the model of flows, labs.
pub(crate) fn all(quick: bool) -> Result<ExitCode> {
    setup::everything()?;
    let edge_ctl = build::all(Profile::Dev, false)?;
    let is_root = nix::unistd::geteuid().is_root();
    let fetched = (is_root && !quick).then(fetch_kernels).flatten();
    let mut counts = Counts::default();
    lints::counted(&mut counts);
    tests("unit and property tests", &mut counts, cargo_test(&["--lib", "--bins"], &FAST).arg("--no-fail-fast"))?;
    if is_root {
        let budgets = step("comparing the programs with their budgets", budget::check);
        if let Err(error) = &budgets {
            eprintln!("xtask: {error:#}");
        }
        counts.check(budgets.is_ok());
        tests("packet tests", &mut counts, &mut cargo_test(&[], &[PACKETS]))?;
        if !quick {
            if let Some(fetched) = fetched {
                kernels(fetched, &edge_ctl, &mut counts);
            }
            model(&mut counts)?;
            labs(&mut counts)?;
            let (met, missed) = step("replaying outages", outages::fast)?;
            counts.passed += met;
            counts.failed += missed;
        }
    } else {
        eprintln!("xtask: packet and lab tests need root: sudo -E env PATH=\"$PATH\" cargo xtask test");
        counts.check(false);
    }
    println!("{counts}");
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs these test programs. All packages are selected at each time, so that what they share is built once.
fn cargo_test(kinds: &[&str], programs: &[&str]) -> Command {
    let mut test = cargo::cargo();
    test.arg("test").args(kinds);
    for program in programs {
        test.args(["--test", program]);
    }
    test
}

/// Gets other kernels ready while other things are built, if this machine can run them.
fn fetch_kernels() -> Option<JoinHandle<Result<vm::Core>>> {
    match vm::possible() {
        Ok(()) => Some(thread::spawn(vm::Core::fetch)),
        Err(reason) => {
            eprintln!("xtask: other kernels are not tested: {reason:#}");
            None
        }
    }
}

/// The programs and a core of packets on other kernels than this one.
fn kernels(fetched: JoinHandle<Result<vm::Core>>, edge_ctl: &Path, counts: &mut Counts) {
    let before = counts.failed;
    let core = fetched.join().unwrap_or_else(|_| bail!("fetching the kernels panicked"));
    if let Err(error) = core.and_then(|core| step("other kernels", || core.test(edge_ctl, counts))) {
        eprintln!("xtask: {error:#}");
        if counts.failed == before {
            counts.check(false);
        }
    }
}

/// The model of flows; each rule broken at a time only if that was not yet seen with these rules and this model.
fn model(counts: &mut Counts) -> Result<()> {
    let mut model = cargo_test(&[], &[MODEL]);
    let before = counts.failed;
    if rules::were_broken()? {
        eprintln!("xtask: the rules are those that the model was seen to notice broken");
        return tests("model of flows", counts, model.args(["--", "--skip", rules::BROKEN]));
    }
    tests("model of flows, also with broken rules", counts, &mut model)?;
    if counts.failed == before { rules::note_broken() } else { Ok(()) }
}

/// The labs wait most of the time, so that two go side by side, but for those that count what is lost.
///
/// They run on a real clock, on a machine that others use, too. One that fails is run again, alone, and the last line names it
/// if it passes then: a fault that shows itself once in a hundred runs is one all the same, but no reason to hold up a change
/// that has nothing to do with it.
fn labs(counts: &mut Counts) -> Result<()> {
    let lab = |arguments: &[&str]| {
        let mut lab = cargo_test(&[], &[LAB]);
        lab.args(["--", "--test-threads=1"]).args(arguments);
        lab
    };
    step("building the lab tests", || cargo::run(cargo_test(&[], &[LAB]).arg("--no-run")))?;
    let flows = TestRun::start("lab tests of flows", &mut lab(&[FLOWS]))?;
    let skipped: Vec<_> = [FLOWS].iter().chain(&ALONE).flat_map(|module| ["--skip", module]).collect();
    let mut failed = TestRun::start("lab tests", &mut lab(&skipped))?.finish(counts)?;
    failed.extend(flows.finish(counts)?);
    failed.extend(TestRun::start("lab tests that run alone", &mut lab(&ALONE))?.finish(counts)?);
    if failed.is_empty() || failed.len() > MOST_AGAIN {
        return Ok(());
    }
    let mut again = Counts::default();
    let names: Vec<_> = failed.iter().map(String::as_str).collect();
    let run = TestRun::start("lab tests that failed, again", lab(&["--exact"]).args(names))?;
    let still = run.finish(&mut again)?;
    failed.retain(|name| !still.contains(name));
    counts.again(failed, &again);
    Ok(())
}

/// Runs a test command, shows what it prints, and counts its results.
fn tests(what: &'static str, counts: &mut Counts, command: &mut Command) -> Result<()> {
    TestRun::start(what, command)?.finish(counts).map(drop)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::PathBuf};

    use super::*;

    #[test]
    fn every_test_program_is_run() {
        let folders =
            ["edge-common", "edge-ctl", "tests", "xtask"].map(|package| cargo::root().join(package).join("tests"));
        let entries = folders.iter().flat_map(std::fs::read_dir).flatten().flatten();
        let is_program =
            |path: &PathBuf| path.extension().is_some_and(|kind| kind == "rs") || path.join("main.rs").exists();
        let programs = entries.map(|entry| entry.path()).filter(is_program);
        let names = programs.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
        let run = FAST.into_iter().chain([PACKETS, MODEL, LAB]).map(str::to_owned);
        assert_eq!(names.collect::<BTreeSet<_>>(), run.collect());
    }
}
