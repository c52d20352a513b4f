//! Runs the lab tests: two modules at a time, except for those that count losses; other work runs beside them.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    sync::{Mutex, mpsc},
    thread,
};

use anyhow::{Context as _, Result};
use xtask::{cargo, counts::Counts};

use crate::{repeat::repeat, test_run::TestRun};

/// The test program.
pub(crate) const LAB: &str = "lab";
/// Modules that measure the cost of a moment, miss no single datagram, or use the whole machine: they run alone.
const ALONE: [&str; 5] = ["http", "liveness", "nat", "path_mtu", "rehearsal"];
/// The slowest modules, longest first, so that they do not start last.
const LONG: [&str; 5] = ["flows", "judging", "upgrade", "faults", "change"];
/// Number of modules that run at a time.
const AT_ONCE: usize = 2;

/// Runs all lab tests, and `beside` while most of them run. `beside` must leave the CPUs to them when needed.
pub(crate) fn run(counts: &mut Counts, beside: impl FnOnce() -> Counts + Send) -> Result<()> {
    let program = cargo::test_programs(&[LAB], &[])?.remove(LAB).context("there is no program of lab tests")?;
    let mut modules = modules(&program)?;
    let alone: Vec<_> = ALONE.iter().filter_map(|name| modules.remove_entry(*name)).collect();
    let mut order: Vec<_> = LONG.iter().filter_map(|name| modules.remove_entry(*name)).collect();
    order.extend(modules);
    let (failed, others) = thread::scope(|scope| {
        let others = scope.spawn(beside);
        let failed = side_by_side(&program, order, counts);
        (failed, others.join().unwrap_or(Counts { failed: 1, ..Counts::default() }))
    });
    counts.passed += others.passed;
    counts.failed += others.failed;
    let mut failed = failed?;
    for (module, tests) in &alone {
        failed.extend(start(&program, module, tests)?.finish(counts)?);
    }
    repeat(failed, counts, |names| start(&program, "those that failed, again", names))
}

/// Names of the tests, by module.
fn modules(program: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let list = cargo::output(Command::new(program).args(["--list", "--format=terse"]));
    let list = list.context("the lab tests can not be listed")?;
    let mut modules = BTreeMap::<_, Vec<_>>::new();
    for test in list.lines().filter_map(|line| line.strip_suffix(": test")) {
        let module = test.split("::").next().unwrap_or(test);
        modules.entry(module.to_owned()).or_default().push(test.to_owned());
    }
    Ok(modules)
}

/// Starts the tests of these names, one after the other. Not by cargo, which would wait for concurrent builds.
fn start(program: &Path, what: &str, tests: &[String]) -> Result<TestRun> {
    let mut lab = cargo::command(program);
    lab.current_dir(cargo::root().join("tests")).args(["--test-threads=1", "--exact"]).args(tests);
    TestRun::start(&format!("lab tests: {what}"), &mut lab)
}

/// Runs these modules, `AT_ONCE` at a time, and shows each when it has ended. Returns the failed tests.
fn side_by_side(program: &Path, modules: Vec<(String, Vec<String>)>, counts: &mut Counts) -> Result<Vec<String>> {
    let queue = Mutex::new(modules.into_iter());
    let (sender, ended) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let (queue, sender) = (&queue, sender.clone());
            let next = || queue.lock().ok().and_then(|mut queue| queue.next());
            scope.spawn(move || {
                while let Some((module, tests)) = next() {
                    let run = start(program, &module, &tests).and_then(TestRun::ended);
                    if sender.send(run).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut failed = Vec::new();
        for run in ended {
            failed.extend(run?.finish(counts)?);
        }
        Ok(failed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_modules_are_there() {
        for module in ALONE.iter().chain(&LONG) {
            let file = cargo::root().join("tests/tests/lab").join(module).with_extension("rs");
            assert!(file.exists(), "{}", file.display());
        }
    }
}
