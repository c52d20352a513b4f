//! Debian packages: finds missing ones, and installs them.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{
    cargo::{self, output},
    step::step,
};

/// A package, and the oldest sufficient version.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    name: &'static str,
    at_least: Option<&'static str>,
}

impl Package {
    pub const fn any(name: &'static str) -> Self {
        Self { name, at_least: None }
    }

    pub const fn at_least(name: &'static str, version: &'static str) -> Self {
        Self { name, at_least: Some(version) }
    }

    fn is_new_enough(self, version: &str) -> bool {
        // For packages that are not installed, or not available, the tools show an empty version, or "(none)".
        let exists = version.starts_with(|first: char| first.is_ascii_digit());
        exists
            && self.at_least.is_none_or(|oldest| {
                let mut compare = Command::new("dpkg");
                compare.args(["--compare-versions", version, "ge", oldest]);
                compare.status().is_ok_and(|status| status.success())
            })
    }

    /// Whether the package lists contain the package.
    fn is_available(self) -> bool {
        let policy = output(Command::new("apt-cache").args(["policy", self.name])).unwrap_or_default();
        let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"));
        candidate.is_some_and(|version| self.is_new_enough(version.trim()))
    }
}

/// Makes sure that `packages` are installed; `purpose` appears in messages.
///
/// # Errors
/// If packages are missing and can't be installed from here; the message contains the command to do so.
pub fn ensure(packages: &[Package], purpose: &str) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.iter().map(|package| package.name).collect::<Vec<_>>().join(" ");
    if !is_debian() {
        bail!(
            "{purpose} needs what Debian 12 calls {list}. This is not Debian: install the same with your system's \
             package manager"
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!("{purpose} needs {list}. Run this, then try again:\n\n  sudo apt-get install {list}\n");
    }
    if !missing.iter().all(|package| package.is_available()) {
        update()?;
        if let Some(unknown) = missing.iter().find(|package| !package.is_available()) {
            let version = unknown.at_least.map(|version| format!(" {version} or newer")).unwrap_or_default();
            bail!(
                "{purpose} needs {}{version}, which none of this system's package sources has. Debian 12 has it in \
                 its suites bookworm and bookworm-security: enable both in /etc/apt/sources.list, then try again",
                unknown.name
            );
        }
    }
    step(&format!("installing {list}"), || {
        if install(&missing).is_err() {
            // Outdated package lists name files that no longer exist.
            update()?;
            install(&missing)?;
        }
        Ok(())
    })
}

/// Whether this system is managed by apt and dpkg.
pub fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && output(Command::new("apt-get").arg("--version")).is_some()
}

/// Updates the package lists.
pub fn update() -> Result<()> {
    step("updating the package lists", || cargo::run(apt().args(["-qq", "update"])))
}

/// An `apt-get` without prompts.
pub fn apt() -> Command {
    let mut command = cargo::command("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::io::stderr());
    command
}

fn install(packages: &[Package]) -> Result<()> {
    let names = packages.iter().map(|package| package.name);
    cargo::run(apt().args(["-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", "install"]).args(names))
}

fn missing(packages: &[Package]) -> Vec<Package> {
    let names = packages.iter().map(|package| package.name);
    let query = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status} ${Version}\n"])
        .args(names)
        .output();
    // dpkg-query fails if it does not know one of the packages, but still lists the others.
    let listed = query.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let is_installed = |package: Package| {
        let prefix = format!("{} installed ", package.name);
        listed.lines().filter_map(|line| line.strip_prefix(&prefix)).any(|version| package.is_new_enough(version))
    };
    packages.iter().copied().filter(|package| !is_installed(*package)).collect()
}
