//! Builds the eBPF object, then `edge-ctl` around it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    cargo,
    ebpf_toolchain::LLVM,
    setup::{self, Ebpf},
    step::step,
};

/// A profile of the workspace's Cargo.toml.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Profile {
    #[default]
    Dev,
    Release,
    /// For emulated guests.
    Guest,
}

impl Profile {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
            Self::Guest => "guest",
        }
    }

    /// The folder of what it builds, in the target directory.
    const fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release | Self::Guest => self.name(),
        }
    }
}

/// Builds both; returns the path of `edge-ctl`.
///
/// With `trace` the packet path has traces, for development.
pub(crate) fn all(profile: Profile, trace: bool) -> Result<PathBuf> {
    object(trace)?;
    edge_ctl(profile)
}

/// Builds `edge-ctl` around the object that is there.
pub(crate) fn edge_ctl(profile: Profile) -> Result<PathBuf> {
    step("building edge-ctl", || {
        let mut build = cargo::cargo();
        build.args(["build", "--quiet", "--bin", "edge-ctl", "--profile", profile.name()]);
        if profile == Profile::Release {
            // Nothing that only the workspace's other packages ask of their dependencies. Other builds have the features of
            // all packages, so that what they share is built once.
            build.args(["--package", "edge-ctl"]);
        }
        // One target directory for all, also when the user moved it.
        build.arg("--target-dir").arg(cargo::target_dir()?);
        cargo::run(&mut build)
    })?;
    let built = cargo::target_dir()?.join(profile.folder()).join("edge-ctl");
    if profile == Profile::Release {
        step("keeping its debugging information aside", || strip(&built))?;
    }
    Ok(built)
}

/// Moves debugging information and symbols of `binary` into `binary`.debug, where debuggers find it by the name that the
/// binary keeps, or by its build ID.
///
/// Each build of cargo puts the whole binary back in its place.
pub(crate) fn strip(binary: &Path) -> Result<()> {
    let (aside, draft) = (binary.with_extension("debug"), binary.with_extension("stripped"));
    // bpf-linker's LLVM has it.
    let objcopy = || Command::new(format!("/usr/lib/llvm-{LLVM}/bin/llvm-objcopy"));
    cargo::run(objcopy().arg("--only-keep-debug").arg(binary).arg(&aside))?;
    let link = format!("--add-gnu-debuglink={}", aside.display());
    cargo::run(objcopy().args(["--strip-all", &link]).arg(binary).arg(&draft))?;
    // Cargo's own copy is the same file by another name: it must stay whole.
    std::fs::rename(&draft, binary).with_context(|| format!("could not replace {}", binary.display()))
}

/// Whether the eBPF programs were built before.
pub(crate) fn has_object() -> bool {
    cargo::root().join("target/bpf/edge").exists()
}

/// Builds the eBPF programs into `target/bpf`: `edge`, and those of the bench.
pub(crate) fn object(trace: bool) -> Result<()> {
    let Ebpf { toolchain, linker } = setup::ebpf()?;
    step("building the eBPF programs", || {
        // Not the target directory of everything else: two cargos of different versions would undo each other's work.
        let dir = cargo::root().join("target/bpf-build");
        let mut build = toolchain.cargo();
        build.env("CARGO_ENCODED_RUSTFLAGS", flags(&linker).join("\x1f"));
        build.args(["build", "--quiet", "--release", "--target", "bpfel-unknown-none"]);
        build.args(["--package", "edge-ebpf", "--package", "edge-bench-ebpf"]);
        build.args(["-Z", "build-std=core", "--target-dir"]).arg(&dir);
        if trace {
            build.args(["--features", "edge-ebpf/trace"]);
        }
        cargo::run(&mut build)?;
        let objects = cargo::root().join("target/bpf");
        std::fs::create_dir_all(&objects)?;
        for name in ["edge", "bench"] {
            let built = std::fs::read(dir.join("bpfel-unknown-none/release").join(name));
            let built = built.with_context(|| format!("cargo built no object `{name}`"))?;
            // A new time stamp alone would make cargo build edge-ctl again.
            if std::fs::read(objects.join(name)).ok().as_ref() != Some(&built) {
                std::fs::write(objects.join(name), built)?;
            }
        }
        Ok(())
    })
}

/// The flag that tells aya for which processor's kernel a program is.
pub(crate) fn target_arch() -> String {
    format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH)
}

fn flags(linker: &Path) -> Vec<String> {
    let mut flags = vec![format!("-Clinker={}", linker.display()), target_arch()];
    let fixed = [
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        // Atomics with fetch and 32-bit jumps: kernels from 5.12 have them. rustc hands it on to the linker.
        "-Ctarget-cpu=v3",
        // An IPv4 header behind an Ethernet one is not aligned; without this each of its fields is put together
        // from bytes.
        "-Clink-arg=--cpu-features=+alu32,+allows-misaligned-mem-access",
    ];
    flags.extend(fixed.map(str::to_owned));
    flags
}
