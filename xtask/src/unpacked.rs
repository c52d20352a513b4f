//! Programs of Debian packages that are unpacked, not installed: installing them would start servers, now and at every
//! boot. Their binaries run from anywhere, given the libraries.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::{cargo, packages, step::step};

/// Makes sure that `packages` are unpacked in the folder `name` of the project's tools, and that `file` is one of theirs;
/// returns its path.
pub(crate) fn ensure(name: &str, packages: &[&str], file: &str) -> Result<PathBuf> {
    let dir = cargo::tools().join(name);
    let path = dir.join(file);
    if path.exists() {
        return Ok(path);
    }
    step(&format!("fetching {}", packages.join(" ")), || {
        let downloads = cargo::tools().join("downloads");
        // Whole or not at all: what is interrupted is fetched again.
        let draft = cargo::tools().join(format!("{name}.new"));
        for leftover in [&downloads, &draft, &dir] {
            if leftover.exists() {
                std::fs::remove_dir_all(leftover)?;
            }
        }
        std::fs::create_dir_all(&downloads)?;
        let fetch = || {
            cargo::run(
                packages::apt()
                    .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
                    .args(packages)
                    .current_dir(&downloads),
            )
        };
        if fetch().is_err() {
            packages::update()?;
            fetch()?;
        }
        for package in std::fs::read_dir(&downloads)? {
            cargo::run(cargo::command("dpkg").arg("-x").arg(package?.path()).arg(&draft))?;
        }
        std::fs::remove_dir_all(&downloads)?;
        std::fs::rename(draft, &dir)?;
        ensure!(path.exists(), "the packages {} have no {file}", packages.join(" "));
        Ok(())
    })?;
    Ok(path)
}
