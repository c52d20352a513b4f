//! `cargo xtask test`: every check and every test, and one line with their number.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread::{self, JoinHandle},
};

use anyhow::{Result, bail};

use crate::{
    budget,
    build::{self, Profile},
    cargo,
    counts::Counts,
    labs, lints, outages, rules, setup,
    step::step,
    test_run::TestRun,
    vm,
};

/// Test programs that need no root and only seconds.
const FAST: [&str; 3] = ["cli", "flow_table", "layers"];
/// Tests that kill an operation at each of its steps; they take most of a minute.
const KILLED: &str = "::tests::killed::";
const PACKETS: &str = "packets";
const MODEL: &str = "model";
/// Test programs that take minutes, and need root.
const BIG: [&str; 3] = [PACKETS, MODEL, labs::LAB];

/// A thread that fetches other kernels.
type Fetching = JoinHandle<Result<vm::Core>>;

/// Runs all checks and tests, even after failures; fails if any of them failed.
///
/// `quick` leaves out what takes minutes: other kernels, the model of flows, labs, and kills at each step.
pub(crate) fn all(quick: bool) -> Result<ExitCode> {
    let is_root = nix::unistd::geteuid().is_root();
    let (edge_ctl, fetched) = build(is_root && !quick)?;
    let mut counts = Counts::default();
    if !is_root || quick {
        lints::counted(&mut counts);
    }
    let mut fast = cargo_test(&["--lib", "--bins"], &FAST);
    fast.arg("--no-fail-fast");
    if quick {
        fast.args(["--", "--skip", KILLED]);
    }
    tests("unit and property tests", &mut counts, &mut fast)?;
    if is_root {
        let budgets = step("comparing the programs with their budgets", budget::check);
        if let Err(error) = &budgets {
            eprintln!("xtask: {error:#}");
        }
        counts.check(budgets.is_ok());
        tests("packet tests", &mut counts, &mut cargo_test(&[], &[PACKETS]))?;
        if !quick {
            model(&mut counts)?;
            if let Some(fetched) = fetched {
                kernels(fetched, &edge_ctl, &mut counts);
            }
            labs::run(&mut counts, beside_labs)?;
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

/// Builds everything under test. What needs no eBPF programs is built beside them, since their compiler uses only one
/// CPU; other kernels are fetched meanwhile. `whole` includes labs and kernels.
fn build(whole: bool) -> Result<(PathBuf, Option<Fetching>)> {
    let fetched = thread::scope(|scope| {
        // With the programs of an earlier build, edge-ctl would be built twice.
        if whole && !build::has_object() {
            scope.spawn(build_what_needs_no_programs);
        }
        setup::everything()?;
        let fetched = whole.then(fetch_kernels).flatten();
        build::object(false)?;
        anyhow::Ok(fetched)
    })?;
    let programs = if whole { [&FAST[..], &BIG].concat() } else { [&FAST[..], &[PACKETS]].concat() };
    // A build failure is reported where the tests would run.
    let mut tests = cargo_test(&["--lib", "--bins"], &programs);
    drop(step("building all tests", || cargo::run(tests.args(["--no-run", "--quiet"]))));
    Ok((build::edge_ctl(Profile::Dev)?, fetched))
}

/// Builds the parts of tests that need no eBPF programs. A failure is reported later, by the build that follows the
/// programs.
fn build_what_needs_no_programs() {
    let mut build = cargo::cargo();
    build.args(["build", "--tests", "--keep-going", "--quiet"]).stderr(Stdio::null());
    let what = "building what tests need beside the eBPF programs";
    drop(step(what, || Ok(build.status()?)));
}

/// A command for these test programs. It always selects all packages, so that shared parts are built once.
fn cargo_test(kinds: &[&str], programs: &[&str]) -> Command {
    let mut test = cargo::cargo();
    test.arg("test").args(kinds);
    for program in programs {
        test.args(["--test", program]);
    }
    test
}

/// Fetches other kernels during the builds, if this machine can run them.
fn fetch_kernels() -> Option<Fetching> {
    match vm::possible() {
        Ok(()) => Some(thread::spawn(vm::Core::fetch)),
        Err(reason) => {
            eprintln!("xtask: other kernels are not tested: {reason:#}");
            None
        }
    }
}

/// Computations that run beside the labs, which leave much of the CPUs to them. Other kernels do not run here: beside
/// their virtual machines, labs missed deadlines by seconds.
fn beside_labs() -> Counts {
    yield_processors();
    let mut counts = Counts::default();
    lints::counted(&mut counts);
    counts
}

/// Lowers the priority of this thread's children, so that they yield on a busy machine. If that fails, the labs are
/// slower, but no less correct.
fn yield_processors() {
    let thread = nix::unistd::gettid().to_string();
    drop(cargo::output(Command::new("renice").args(["-n", "10", "-p", &thread])));
}

/// Runs the programs and a core of the packet tests on other kernels, with nothing beside them.
fn kernels(fetched: Fetching, edge_ctl: &Path, counts: &mut Counts) {
    let before = counts.failed;
    let core = fetched.join().unwrap_or_else(|_| bail!("fetching the kernels panicked"));
    if let Err(error) = core.and_then(|core| step("other kernels", || core.test(edge_ctl, counts))) {
        eprintln!("xtask: {error:#}");
        if counts.failed == before {
            counts.check(false);
        }
    }
}

/// Runs the model of flows; its broken rules only if they were not yet noticed with these rules and this model.
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

/// Runs a test command, shows what it prints, and counts its results.
fn tests(what: &'static str, counts: &mut Counts, command: &mut Command) -> Result<()> {
    TestRun::start(what, command)?.finish(counts).map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        let run = FAST.into_iter().chain(BIG).map(str::to_owned);
        assert_eq!(names.collect::<BTreeSet<_>>(), run.collect());
    }
}
