//! Debian packages: which are missing, and how to get them.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{
    cargo::{self, output},
    step::step,
};

/// Makes sure that `packages` are installed; `purpose` says what for.
///
/// # Errors
/// They are not, and this can't be mended from here: the message has the command that does.
pub(crate) fn ensure(packages: &[&str], purpose: &str) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_debian() {
        bail!(
            "{purpose} needs what Debian 12 calls {list}. This is not Debian: install the same with your system's \
             package manager"
        );
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("{purpose} needs {list}. Run this, then try again:\n\n  sudo apt-get install {list}\n");
    }
    if !missing.iter().all(|package| has_candidate(package)) {
        update()?;
        if let Some(unknown) = missing.iter().find(|package| !has_candidate(package)) {
            bail!(
                "{purpose} needs {unknown}, which none of this system's package sources has. Debian 12 has it in its \
                 suites bookworm and bookworm-security: enable both in /etc/apt/sources.list, then try again"
            );
        }
    }
    step(&format!("installing {list}"), || {
        if install(&missing).is_err() {
            // Lists that are out of date name files that are no longer there.
            update()?;
            install(&missing)?;
        }
        Ok(())
    })
}

/// Whether apt and dpkg are what manages this system.
pub(crate) fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && output(Command::new("apt-get").arg("--version")).is_some()
}

/// Brings the package lists up to date.
pub(crate) fn update() -> Result<()> {
    step("updating the package lists", || cargo::run(apt().args(["-qq", "update"])))
}

/// An `apt-get` that asks nothing.
pub(crate) fn apt() -> Command {
    let mut command = cargo::command("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::io::stderr());
    command
}

fn install(packages: &[&str]) -> Result<()> {
    cargo::run(apt().args(["-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", "install"]).args(packages))
}

fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let query =
        Command::new("dpkg-query").args(["-W", "-f", "${Package} ${db:Status-Status}\n"]).args(packages).output();
    // dpkg-query fails when it does not know one of them, and still lists the others.
    let installed = query.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let is_installed = |package: &str| installed.lines().any(|line| line == format!("{package} installed"));
    packages.iter().copied().filter(|package| !is_installed(package)).collect()
}

fn has_candidate(package: &str) -> bool {
    let policy = output(Command::new("apt-cache").args(["policy", package])).unwrap_or_default();
    policy.lines().any(|line| line.trim().strip_prefix("Candidate:").is_some_and(|version| version.trim() != "(none)"))
}
