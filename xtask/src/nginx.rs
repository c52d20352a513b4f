//! nginx for the lab: unpacked, not installed, so that no web server of the system appears.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::{
    cargo::{self, output},
    packages::{self, Package},
    unpacked,
};

/// Makes sure that nginx is available for the lab.
pub(crate) fn ensure() -> Result<()> {
    let binary = cargo::tools().join("nginx/usr/sbin/nginx");
    if Path::new("/usr/sbin/nginx").exists() || output(Command::new(&binary).arg("-v")).is_some() {
        return Ok(());
    }
    packages::ensure(&["libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g"].map(Package::any), "the lab's nginx")?;
    let binary = unpacked::ensure("nginx", &["nginx"], "usr/sbin/nginx")?;
    cargo::run(Command::new(binary).arg("-v"))
}
