//! nginx for the lab: unpacked, not installed, so that no web server of the system appears.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    cargo::{self, output},
    packages::{self, Package},
    step::step,
};

/// Makes sure that the lab finds an nginx.
pub(crate) fn ensure() -> Result<()> {
    let unpacked = cargo::tools().join("nginx");
    let binary = unpacked.join("usr/sbin/nginx");
    if Path::new("/usr/sbin/nginx").exists() || output(Command::new(&binary).arg("-v")).is_some() {
        return Ok(());
    }
    // Installing the package would start a web server on port 80, now and at every boot. Its binary runs from
    // anywhere, given the libraries.
    packages::ensure(&["libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g"].map(Package::any), "the lab's nginx")?;
    step("fetching nginx", || {
        let downloads = cargo::tools().join("downloads");
        std::fs::create_dir_all(&downloads)?;
        let fetch = || {
            cargo::run(
                packages::apt()
                    .args(["-qq", "-o", "APT::Sandbox::User=root", "download", "nginx"])
                    .current_dir(&downloads),
            )
        };
        if fetch().is_err() {
            packages::update()?;
            fetch()?;
        }
        let package = std::fs::read_dir(&downloads)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nginx_")))
            .context("apt-get downloaded no nginx")?;
        cargo::run(cargo::command("dpkg").arg("-x").arg(&package).arg(&unpacked))?;
        std::fs::remove_dir_all(&downloads)?;
        cargo::run(Command::new(&binary).arg("-v"))
    })
}
