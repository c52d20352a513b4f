//! `cargo xtask package`: a `.deb` and an `.rpm`, each with its debugging information in a package beside it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use xtask::{
    build::{self, Profile},
    cargo::{self, output},
    packages::{self, Package},
    setup,
    step::step,
};

use crate::edge_tasks;

/// Options of `cargo xtask package`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    /// Install, upgrade, remove and purge the Debian package in a fresh Debian 12 that is booted beside this system (root).
    #[arg(long)]
    test: bool,
    /// Package a development build, for tests of the packaging.
    #[arg(long)]
    dev: bool,
    /// Only test the packages that were made before.
    #[arg(long, requires = "test")]
    keep: bool,
}

/// The packages of one version.
#[derive(Clone, Debug)]
struct Packages {
    deb: PathBuf,
    /// The same content as a later version, for upgrades.
    successor: PathBuf,
}

pub(crate) fn run(options: Options) -> Result<ExitCode> {
    if options.test {
        setup::root("package --test")?;
    }
    let packages = if options.keep { Packages::made() } else { make(options.dev)? };
    if options.test {
        return edge_tasks::take_over(
            &edge_tasks::build()?,
            &["booted".as_ref(), packages.deb.as_os_str(), packages.successor.as_os_str()],
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Directory of the packages.
fn directory() -> PathBuf {
    cargo::root().join("target/package")
}

impl Packages {
    fn made() -> Self {
        Self { deb: directory().join("edge.deb"), successor: directory().join("edge-next.deb") }
    }
}

fn make(dev: bool) -> Result<Packages> {
    packages::ensure(&[Package::any("dpkg-dev")], "a Debian package")?;
    let (deb, rpm) = (tool("cargo-deb", "^3")?, tool("cargo-generate-rpm", "^0.21")?);
    let profile = if dev { Profile::Dev } else { Profile::Release };
    let binary = staged(&build::all(profile, false)?)?;
    let documents = directory().join("documents");
    match fs::remove_dir_all(&documents) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    fs::create_dir_all(&documents)?;
    cargo::run(cargo::command(&binary).arg("documents").arg(&documents))?;
    let packages = Packages::made();
    step("packing for Debian", || {
        pack(&deb, &packages.deb, &[])?;
        pack(&deb, &packages.successor, &["--deb-version", concat!(env!("CARGO_PKG_VERSION"), "-2")])?;
        pack(&deb, &directory().join("edge-dbgsym.deb"), &["--variant", "dbgsym"])
    })?;
    step("packing for RPM", || {
        for (name, variant) in [("edge.rpm", None), ("edge-debuginfo.rpm", Some("debuginfo"))] {
            let mut pack = cargo::command(&rpm);
            pack.args(["generate-rpm", "--package", "edge-ctl", "--auto-req", "disabled", "--output"]);
            pack.arg(directory().join(name)).arg("--target-dir").arg(cargo::target_dir()?);
            if let Some(variant) = variant {
                pack.args(["--variant", variant]);
            }
            cargo::run(&mut pack)?;
        }
        Ok(())
    })?;
    named(&directory())?;
    Ok(packages)
}

/// Copies the binary and its debugging information to the paths in the lists of edge-ctl's Cargo.toml.
fn staged(built: &Path) -> Result<PathBuf> {
    let stage = directory().join("stage");
    fs::create_dir_all(&stage)?;
    let (binary, aside) = (stage.join("edge-ctl"), built.with_extension("debug"));
    fs::copy(built, &binary)?;
    if aside.exists() {
        fs::copy(aside, binary.with_extension("debug"))?;
    } else {
        build::strip(&binary)?;
    }
    Ok(binary)
}

fn pack(deb: &Path, to: &Path, more: &[&str]) -> Result<()> {
    let mut pack = cargo::command(deb);
    pack.args(["deb", "--quiet", "--package", "edge-ctl", "--no-build", "--no-strip", "--output"]).arg(to).args(more);
    cargo::run(&mut pack)
}

/// Renames a release's packages as package managers expect, and prints their paths.
fn named(directory: &Path) -> Result<()> {
    let machine = std::env::consts::ARCH;
    let debian =
        output(Command::new("dpkg").arg("--print-architecture")).context("dpkg does not report its architecture")?;
    let version = env!("CARGO_PKG_VERSION");
    for (made, name) in [
        ("edge.deb", format!("edge_{version}-1_{}.deb", debian.trim())),
        ("edge-dbgsym.deb", format!("edge-dbgsym_{version}-1_{}.deb", debian.trim())),
        ("edge.rpm", format!("edge-{version}-1.{machine}.rpm")),
        ("edge-debuginfo.rpm", format!("edge-debuginfo-{version}-1.{machine}.rpm")),
    ] {
        fs::copy(directory.join(made), directory.join(&name)).with_context(|| format!("there is no {made}"))?;
        eprintln!("xtask: {}", directory.join(name).display());
    }
    Ok(())
}

/// Makes sure that a packaging tool is installed in the project's own folder; returns its path.
fn tool(name: &str, version: &str) -> Result<PathBuf> {
    let binary = cargo::tools().join("bin").join(name);
    if !binary.exists() {
        step(&format!("building {name} {version} (minutes, once)"), || {
            let mut install = cargo::cargo();
            install.args(["install", "--quiet", "--locked", "--debug", name, "--version", version, "--root"]);
            // They compress: without any optimization a large package takes minutes.
            install.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
            cargo::run(install.arg(cargo::tools()))
        })?;
    }
    Ok(binary)
}
