//! `cargo xtask test`: every check and every test, and one line with their number.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result};
use xtask::{
    build::{self, Profile},
    cargo,
    counts::Counts,
    setup,
    step::step,
};

use crate::{edge_tasks, labs, lints, repeat::repeat, rules, test_run::TestRun};

/// Test programs that need no root and only seconds.
const FAST: [&str; 2] = ["cli", "layers"];
/// Interleavings of threads in the flow table: one test takes one CPU for half a minute, so they run beside others.
const FLOW_TABLE: &str = "flow_table";
const PACKETS: &str = "packets";
const MODEL: &str = "model";
/// Test programs that take minutes, and need root.
const BIG: [&str; 3] = [PACKETS, MODEL, labs::LAB];
/// Parts of the names of tests that try each of many cases, and are left out of a quick run: kills at each step of an
/// operation, frames with each byte changed, and long interleavings.
const EXHAUSTIVE: [&str; 4] = ["::killed::", "can_be_killed", "hostile::", "translated::an_established_flow_keeps"];
/// Threads for each CPU that run unit tests. Many of them wait for the kernel or a timer.
const THREADS: usize = 3;

/// Programs built beside the test programs.
struct Built {
    edge_ctl: PathBuf,
    /// The program with the parts of the test run that need root, if the user is root.
    tasks: Option<PathBuf>,
    /// A process that fetches other kernels, if they are tested.
    fetching: Option<Child>,
}

/// Runs all checks and tests, even after failures; fails if any of them failed.
///
/// `quick` leaves out the parts that take minutes: other kernels, the model of flows, labs, and exhaustive tests.
pub(crate) fn all(quick: bool) -> Result<ExitCode> {
    let is_root = rustix::process::geteuid().is_root();
    let Built { edge_ctl, tasks, fetching } = build(is_root, quick)?;
    let mut counts = Counts::default();
    if !is_root || quick {
        lints::counted(&mut counts);
    }
    unit_tests(quick, &mut counts)?;
    if let Some(tasks) = tasks {
        tests("budgets of the programs", &mut counts, &mut edge_tasks::part(&tasks, "budgets"))?;
        tests("packet tests", &mut counts, select(&mut cargo_test(&[], &[PACKETS]), quick))?;
        if !quick {
            model(&mut counts)?;
            if let Some(fetching) = fetching {
                kernels(fetching, edge_tasks::part(&tasks, "kernels").arg(edge_ctl), &mut counts)?;
            }
            labs::run(&mut counts, beside_labs)?;
            let outages = || edge_tasks::part(&tasks, "outages");
            let failed = TestRun::start("replayed outages", &mut outages())?.finish(&mut counts)?;
            repeat(failed, &mut counts, |names| {
                TestRun::start("replayed outages: those not met, again", outages().args(names))
            })?;
        }
    } else {
        eprintln!("xtask: packet and lab tests need root: sudo -E env PATH=\"$PATH\" cargo xtask test");
        counts.check(false);
    }
    println!("{counts}");
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds everything under test. Programs without eBPF are built beside those with it, whose compiler uses only one
/// CPU; other kernels are fetched meanwhile.
fn build(is_root: bool, quick: bool) -> Result<Built> {
    let whole = is_root && !quick;
    // With the programs of an earlier build, edge-ctl would be built twice.
    let beside = whole && !build::has_object();
    let (tasks, fetching) = thread::scope(|scope| {
        let (sender, tasks) = mpsc::channel();
        scope.spawn(move || {
            if is_root {
                // The receiver is gone if the set-up has failed.
                let _ = sender.send(edge_tasks::build());
            }
            if beside {
                build_what_needs_no_programs();
            }
        });
        setup::everything()?;
        // Not during the set-up: both run apt, which fails while another apt holds its locks.
        let tasks = is_root.then(|| tasks.recv().context("the build of the tasks panicked")?).transpose()?;
        let fetching = tasks.as_deref().filter(|_| whole).map(fetch_kernels).transpose()?.flatten();
        build::object(false)?;
        anyhow::Ok((tasks, fetching))
    })?;
    let fast = [&FAST[..], &[FLOW_TABLE]].concat();
    let programs = if whole { [&fast[..], &BIG].concat() } else { [&fast[..], &[PACKETS]].concat() };
    // A build failure is reported where the tests would run.
    let mut tests = cargo_test(&["--lib", "--bins"], &programs);
    drop(step("building all tests", || cargo::run(tests.args(["--no-run", "--quiet"]))));
    Ok(Built { edge_ctl: build::edge_ctl(Profile::Dev)?, tasks, fetching })
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

/// Unit and property tests, and beside them the interleavings in the flow table.
fn unit_tests(quick: bool, counts: &mut Counts) -> Result<()> {
    let threads = THREADS * thread::available_parallelism()?.get();
    let mut fast = cargo_test(&["--lib", "--bins"], &FAST);
    fast.arg("--no-fail-fast").env("RUST_TEST_THREADS", threads.to_string());
    let flow_table = TestRun::start("flow table", select(&mut cargo_test(&[], &[FLOW_TABLE]), quick))?;
    tests("unit and property tests", counts, select(&mut fast, quick))?;
    flow_table.finish(counts).map(drop)
}

/// Leaves the exhaustive tests out of a quick run.
fn select(test: &mut Command, quick: bool) -> &mut Command {
    if quick {
        test.arg("--").args(EXHAUSTIVE.iter().flat_map(|name| ["--skip", name]));
    }
    test
}

/// Fetches other kernels during the builds, if this machine can run them.
fn fetch_kernels(tasks: &Path) -> Result<Option<Child>> {
    match setup::can_boot_kernels() {
        Ok(()) => edge_tasks::part(tasks, "fetch-kernels").spawn().map(Some).context("could not start the tasks"),
        Err(reason) => {
            eprintln!("xtask: other kernels are not tested: {reason:#}");
            Ok(None)
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
    let _ = rustix::process::setpriority_process(None, 10);
}

/// Runs the programs and a core of the packet tests on other kernels, with nothing beside them.
fn kernels(mut fetching: Child, part: &mut Command, counts: &mut Counts) -> Result<()> {
    if fetching.wait()?.success() {
        return tests("other kernels", counts, part);
    }
    eprintln!("xtask: other kernels are not tested: they could not be fetched");
    counts.check(false);
    Ok(())
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

/// Runs a test command, shows its output, and counts its results.
fn tests(what: &'static str, counts: &mut Counts, command: &mut Command) -> Result<()> {
    TestRun::start(what, command)?.finish(counts).map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_test_program_is_run() {
        let folders = ["edge-common", "edge-ctl", "tests", "tests/tasks", "xtask"]
            .map(|package| cargo::root().join(package).join("tests"));
        let entries = folders.iter().flat_map(std::fs::read_dir).flatten().flatten();
        let is_program =
            |path: &PathBuf| path.extension().is_some_and(|kind| kind == "rs") || path.join("main.rs").exists();
        let programs = entries.map(|entry| entry.path()).filter(is_program);
        let names = programs.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
        let run = FAST.into_iter().chain([FLOW_TABLE]).chain(BIG).map(str::to_owned);
        assert_eq!(names.collect::<BTreeSet<_>>(), run.collect());
    }
}
