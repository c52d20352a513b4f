//! What a guest runs: test programs, one after the other, and where their results go.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use super::{results::Test, tools::Tools};
use crate::cargo;

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The programs load, and every case of the table of packets: what each test run asks of a kernel.
    Core,
    /// The packet tests that meet the kernel, and the lab for kernels.
    Whole,
}

impl Extent {
    /// The folder of its results.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Whole => "whole",
        }
    }
}

/// Programs and the tests in them, by a part of their names, and how long they may take on a slow machine.
const CORE: [(&str, &[&str], u64); 1] = [("packets", &["load::", "exits::"], 300)];
const WHOLE: [(&str, &[&str], u64); 2] = [
    // What meets helpers, maps and clocks of the kernel; what only meets the program's own logic is tested on this machine.
    ("packets", &["load::", "exits::", "routes::", "flows::times", "slow::fragments"], 900),
    ("lab", &["kernels::"], 1200),
];

/// How many times slower than on a processor of its own things may go.
const PATIENCE: u32 = 15;

/// A test program of the package `edge-tests`.
#[derive(Clone, Debug)]
pub(super) struct TestProgram {
    name: String,
    path: PathBuf,
}

/// Builds the test programs.
pub(super) fn programs() -> Result<Vec<TestProgram>> {
    let mut build = cargo::cargo();
    build.args(["test", "--no-run", "--quiet", "--package", "edge-tests", "--message-format=json"]);
    let messages = cargo::output(&mut build).context("the test programs do not build: `cargo test --no-run`")?;
    let program = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let target = &message["target"];
        let is_test = target["kind"].as_array()?.iter().any(|kind| kind == "test");
        let path = message["executable"].as_str()?;
        is_test.then(|| Some(TestProgram { name: target["name"].as_str()?.to_owned(), path: path.into() }))?
    };
    Ok(messages.lines().filter_map(program).collect())
}

/// The guest's script.
pub(super) fn script(extent: Extent, programs: &[TestProgram], tools: &Tools) -> Result<String> {
    let parts: &[_] = match extent {
        Extent::Core => &CORE,
        Extent::Whole => &WHOLE,
    };
    let mut script = format!(
        "export EDGE_TEST_VM=1 EDGE_TEST_PATIENCE={PATIENCE}\n\
         export EDGE_TEST_SKIPS=/out/skips EDGE_TEST_FIGURES=/out/figures\n\
         export EDGE_TEST_IPVSADM={}\ncd {}\n",
        tools.ipvsadm.display(),
        // As cargo runs them.
        cargo::root().join("tests").display(),
    );
    for (name, filters, limit) in parts {
        let program = programs.iter().find(|program| program.name == *name);
        let path = program.with_context(|| format!("there is no test program {name}"))?.path.display();
        let filters = filters.join(" ");
        writeln!(script, "timeout -k 5 {limit} {path} --test-threads=1 {filters} >/out/{name}.txt 2>&1")?;
        writeln!(script, "echo {name} $? >>/out/runs")?;
    }
    script.push_str("exit 0\n");
    Ok(script)
}

/// Whether these are the results of a whole run.
pub(super) fn is_whole(tests: &[Test]) -> bool {
    WHOLE.iter().all(|(program, ..)| tests.iter().any(|test| test.name.starts_with(&format!("{program} "))))
}

/// How long a guest may take in all.
pub(super) fn limit(extent: Extent) -> Duration {
    let parts: &[_] = match extent {
        Extent::Core => &CORE,
        Extent::Whole => &WHOLE,
    };
    // Booting takes seconds; a busy machine makes it half a minute.
    Duration::from_secs(60 + parts.iter().map(|(.., seconds)| seconds).sum::<u64>())
}
