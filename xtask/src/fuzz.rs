//! `cargo xtask fuzz`: libFuzzer over the packet path on the host, and over the controller's input.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use xtask::{
    cargo,
    packages::{self, Package},
    step::step,
};

/// Duration, processes, and treatment of the corpus.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Reader of the bytes.
    #[arg(value_enum, default_value_t = Target::Packets)]
    target: Target,
    /// Seconds to run.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u32,
    /// Processes side by side.
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: u32,
    /// Add the shortest sequences that reach more code than the committed corpus.
    #[arg(long)]
    keep: bool,
}

/// Code under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// Frames, through the packet path.
    Packets,
    /// The text of a configuration.
    Configuration,
    /// A request to the API.
    Request,
    /// A history from the maps, or the state directory's file.
    State,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Configuration => "configuration",
            Self::Request => "request",
            Self::State => "state",
        }
    }

    const fn binary(self) -> &'static str {
        match self {
            Self::Packets => "edge-fuzz",
            Self::Configuration | Self::Request | Self::State => "edge-fuzz-control",
        }
    }

    /// Directory of the committed corpus.
    fn corpus(self) -> PathBuf {
        let root = cargo::root().join("tests/fuzz");
        match self {
            Self::Packets => root.join("corpus"),
            Self::Configuration | Self::Request | Self::State => root.join("control").join(self.name()),
        }
    }
}

/// Maximum length of an input: sequences of up to 8 frames of a few hundred bytes, rarely one of 1,500.
const LONGEST: u32 = 4096;

/// Compiler flags for libFuzzer: counters of edges, and constants of comparisons.
const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    packages::ensure(&[Package::any("g++")], "building libFuzzer")?;
    xtask::build::object(false)?;
    let fuzzer = step("building the fuzzer", || build(options.target))?;
    let found = cargo::root().join("target/fuzz/found").join(options.target.name());
    let committed = options.target.corpus();
    std::fs::create_dir_all(&committed)?;
    std::fs::create_dir_all(&found)?;
    let name = options.target.name();
    step(&format!("fuzzing {name} for {} s", options.seconds), || {
        let artifacts = format!("-artifact_prefix={}/", cargo::root().join("target/fuzz").display());
        let mut run = cargo::command(&fuzzer);
        run.current_dir(cargo::root().join("target/fuzz")).env("EDGE_FUZZ", name);
        run.args([&found, &committed]).arg(artifacts);
        run.args([format!("-max_total_time={}", options.seconds), format!("-max_len={LONGEST}")]);
        run.args(["-print_final_stats=1", "-timeout=5"]);
        if options.jobs > 1 {
            run.arg(format!("-fork={}", options.jobs));
        }
        cargo::run(&mut run)
    })?;
    if options.keep {
        step("keeping what is new", || merge(&fuzzer, name, &committed, &found))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Merges inputs of `found` that reach new code into `committed`.
fn merge(fuzzer: &Path, name: &str, committed: &Path, found: &Path) -> Result<()> {
    let mut merge = cargo::command(fuzzer);
    merge.env("EDGE_FUZZ", name);
    // By edges alone: with the counts of edges, five times as many inputs would be kept.
    merge.args(["-set_cover_merge=1", "-use_counters=0"]).arg(format!("-max_len={LONGEST}")).args([committed, found]);
    cargo::run(&mut merge)
}

fn build(target: Target) -> Result<PathBuf> {
    // Everything is built with other flags, so it has a directory of its own.
    let dir = cargo::target_dir()?.join("fuzz");
    let mut build = cargo::cargo();
    build.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    build
        .args([
            "build",
            "--quiet",
            "--package",
            "edge-fuzz",
            "--bin",
            target.binary(),
            "--profile",
            "fuzz",
            "--target-dir",
        ])
        .arg(&dir);
    // With an explicit target, build scripts and procedural macros get none of the flags.
    build.args(["--target", &host()?]);
    cargo::run(&mut build)?;
    Ok(dir.join(host()?).join("fuzz").join(target.binary()))
}

/// The host's own target.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = cargo::output(cargo::command(rustc).arg("-vV")).context("rustc does not report its version")?;
    let host =
        version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not report its host")?;
    Ok(host.to_owned())
}
