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
pub enum Profile {
    #[default]
    Dev,
    Release,
    /// For emulated guests.
    Guest,
}

impl Profile {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
            Self::Guest => "guest",
        }
    }

    /// Folder of the profile's output in the target directory.
    const fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release | Self::Guest => self.name(),
        }
    }
}

/// Builds the object and `edge-ctl`; returns the path of `edge-ctl`.
///
/// With `trace` the packet path has traces, for development.
pub fn all(profile: Profile, trace: bool) -> Result<PathBuf> {
    object(trace)?;
    edge_ctl(profile)
}

/// Builds `edge-ctl` around the existing object.
pub fn edge_ctl(profile: Profile) -> Result<PathBuf> {
    step("building edge-ctl", || {
        let mut build = cargo::cargo();
        build.args(["build", "--quiet", "--bin", "edge-ctl", "--profile", profile.name()]);
        if profile == Profile::Release {
            // Without features that only other packages of the workspace require. Other builds use the features of all
            // packages, so that shared dependencies are built once.
            build.args(["--package", "edge-ctl"]);
        }
        // One target directory for everything, also if the user has moved it.
        build.arg("--target-dir").arg(cargo::target_dir()?);
        cargo::run(&mut build)
    })?;
    let built = cargo::target_dir()?.join(profile.folder()).join("edge-ctl");
    if profile == Profile::Release {
        step("keeping its debugging information aside", || strip(&built))?;
    }
    Ok(built)
}

/// Moves debugging information and symbols of `binary` into `binary`.debug, where debuggers find them by the name in
/// the binary, or by its build ID.
///
/// Each build of cargo restores the unstripped binary.
pub fn strip(binary: &Path) -> Result<()> {
    let (aside, draft) = (binary.with_extension("debug"), binary.with_extension("stripped"));
    // It comes with the LLVM of bpf-linker.
    let objcopy = || Command::new(format!("/usr/lib/llvm-{LLVM}/bin/llvm-objcopy"));
    cargo::run(objcopy().arg("--only-keep-debug").arg(binary).arg(&aside))?;
    let link = format!("--add-gnu-debuglink={}", aside.display());
    cargo::run(objcopy().args(["--strip-all", &link]).arg(binary).arg(&draft))?;
    // Cargo's own copy is a hard link to the same file, and must stay complete.
    std::fs::rename(&draft, binary).with_context(|| format!("could not replace {}", binary.display()))
}

/// Whether the eBPF programs have been built before.
pub fn has_object() -> bool {
    cargo::root().join("target/bpf/edge").exists()
}

/// Builds the eBPF programs into `target/bpf`: `edge`, the same for traces, and the bench's.
pub fn object(trace: bool) -> Result<()> {
    let Ebpf { toolchain, linker } = setup::ebpf()?;
    step("building the eBPF programs", || {
        // A separate target directory: two versions of cargo would invalidate each other's builds.
        let dir = cargo::root().join("target/bpf-build");
        let build = || {
            let mut build = toolchain.cargo();
            build.env("CARGO_ENCODED_RUSTFLAGS", flags(&linker).join("\x1f"));
            build.args(["build", "--quiet", "--release", "--target", "bpfel-unknown-none"]);
            build.args(["-Z", "build-std=core", "--target-dir"]).arg(&dir);
            build
        };
        let built = dir.join("bpfel-unknown-none/release");
        let features = if trace { "edge-ebpf/trace" } else { "" };
        let packages = ["--package", "edge-ebpf", "--package", "edge-bench-ebpf"];
        cargo::run(build().args(packages).args(["--features", features]))?;
        keep(&built.join("edge"), "edge")?;
        keep(&built.join("bench"), "bench")?;
        cargo::run(build().args(["--package", "edge-ebpf", "--features", "edge-ebpf/traced"]))?;
        keep(&built.join("edge"), "traced")
    })
}

/// Copies an object that cargo has built to `target/bpf/NAME`.
fn keep(built: &Path, name: &str) -> Result<()> {
    let objects = cargo::root().join("target/bpf");
    std::fs::create_dir_all(&objects)?;
    let built = std::fs::read(built).with_context(|| format!("cargo built no object `{name}`"))?;
    // A new time stamp alone would make cargo rebuild edge-ctl.
    if std::fs::read(objects.join(name)).ok().as_ref() != Some(&built) {
        std::fs::write(objects.join(name), built)?;
    }
    Ok(())
}

/// The flag by which aya selects the kernel's architecture.
pub fn target_arch() -> String {
    format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH)
}

fn flags(linker: &Path) -> Vec<String> {
    let mut flags = vec![format!("-Clinker={}", linker.display()), target_arch()];
    let fixed = [
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        // Atomics with fetch and 32-bit jumps, available since Linux 5.12. rustc passes the flag to the linker.
        "-Ctarget-cpu=v3",
        // An IPv4 header behind an Ethernet header is not aligned; without this feature, each field would be assembled
        // from bytes.
        "-Clink-arg=--cpu-features=+alu32,+allows-misaligned-mem-access",
    ];
    flags.extend(fixed.map(str::to_owned));
    flags
}
