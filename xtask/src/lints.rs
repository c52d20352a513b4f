//! Formatting, clippy, the dependencies' licences, and spelling.

use std::{env, process::Command};

use anyhow::{Result, ensure};
use xtask::{
    build,
    cargo::{self, output},
    counts::Counts,
    step::step,
};

/// Runs every check; fails if any of them fails.
pub(crate) fn all() -> Result<()> {
    build::object(false)?;
    let mut counts = Counts::default();
    counted(&mut counts);
    ensure!(counts.failed == 0, "{} of the checks failed", counts.failed);
    Ok(())
}

/// Runs every check, counting each as a test. A tool that is not installed is a failure only in CI.
pub(crate) fn counted(counts: &mut Counts) {
    let is_complete = env::var_os("EDGE_CI").is_some();
    let mut check = |what: &str, command: &mut Command| {
        let result = step(what, || cargo::run(command));
        if let Err(error) = &result {
            eprintln!("xtask: {error:#}");
        }
        counts.check(result.is_ok());
    };
    check("formatting", cargo::cargo().args(["fmt", "--all", "--check"]));
    let clippy = ["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"];
    check("clippy", cargo::cargo().args(clippy));
    check("clippy of the eBPF programs", &mut clippy_of_ebpf());
    // No default member, since it needs a C++ compiler to be linked; it is not linked here.
    let fuzzer = ["clippy", "--quiet", "--package", "edge-fuzz", "--", "-D", "warnings"];
    check("clippy of the fuzzer", cargo::cargo().env("CUSTOM_LIBFUZZER_PATH", "not/linked/libfuzzer.a").args(fuzzer));
    // Advisories need a database from the network, and a build must not depend on later publications.
    let deny = ["--log-level", "error", "check", "bans", "licenses", "sources"];
    for (what, name, args) in [("dependencies", "cargo-deny", &deny[..]), ("spelling", "typos", &[])] {
        if output(Command::new(name).arg("--version")).is_some() {
            check(what, cargo::command(name).args(args));
        } else if is_complete {
            check(what, &mut Command::new(name));
        } else {
            eprintln!("xtask: {name} is not installed, so there is no check of {what} (.ci/run installs it)");
        }
    }
}

/// Clippy for the eBPF programs, with the host as target, since most toolchains with clippy have no `core` for BPF: the
/// programs are only checked, not compiled.
fn clippy_of_ebpf() -> Command {
    let mut clippy = cargo::cargo();
    // A program can't unwind. Its inline assembly is not stable yet.
    clippy
        .env("CARGO_ENCODED_RUSTFLAGS", ["-Cpanic=abort", &build::target_arch()].join("\x1f"))
        .env("RUSTC_BOOTSTRAP", "1");
    // A separate target directory, since other flags would make cargo rebuild everything else.
    clippy.args(["clippy", "--quiet", "--package", "edge-ebpf", "--target-dir", "target/bpf-lints", "--"]);
    clippy.args(["-D", "warnings"]);
    clippy
}
