//! Installs bpf-linker in the project's own folder.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    cargo::{self, output},
    ebpf_toolchain::LLVM,
    packages::{self, Package},
    step::step,
};

const VERSION: &str = "0.13.0";

/// Makes sure that bpf-linker is installed; returns its path.
pub(crate) fn ensure() -> Result<PathBuf> {
    let binary = cargo::tools().join("bin/bpf-linker");
    // It also fails to start if the LLVM that it was linked with has been removed.
    if output(Command::new(&binary).arg("--version")).is_some_and(|version| version.trim().ends_with(VERSION)) {
        return Ok(binary);
    }
    packages::ensure(&[Package::any("llvm-22-dev")], "building bpf-linker")?;
    step(&format!("building bpf-linker {VERSION} (a minute or two, once)"), || {
        let mut install = cargo::cargo();
        install.env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}"));
        // Most of its work is done by LLVM, which is optimized anyway: a debug build takes half the time.
        install.args(["install", "--quiet", "--locked", "--debug", "--force", "bpf-linker", "--version", VERSION]);
        install.args(["--no-default-features", "--features", &format!("llvm-{LLVM}"), "--root"]).arg(cargo::tools());
        cargo::run(&mut install)
    })?;
    Ok(binary)
}
