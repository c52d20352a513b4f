//! Prerequisites of a build, a test or a lab.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::{
    dnsmasq,
    ebpf_toolchain::EbpfToolchain,
    linker, nginx,
    packages::{self, Package},
    traced,
};

/// Tools to build eBPF programs.
#[derive(Debug)]
pub(crate) struct Ebpf {
    pub(crate) toolchain: EbpfToolchain,
    pub(crate) linker: PathBuf,
}

/// Sets up all prerequisites.
pub(crate) fn everything() -> Result<Ebpf> {
    let ebpf = ebpf()?;
    lab()?;
    eprintln!("xtask: ready; eBPF is built by {}", ebpf.toolchain.name);
    Ok(ebpf)
}

/// Fails unless the caller is root.
///
/// # Errors
/// Contains the command line for `cargo xtask VERB` as root.
pub(crate) fn root(verb: &str) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "this makes network namespaces and loads eBPF programs, which needs root:\n\n  \
         sudo -E env PATH=\"$PATH\" cargo xtask {verb}\n"
    );
    Ok(())
}

/// Sets up the prerequisites of a build.
pub(crate) fn ebpf() -> Result<Ebpf> {
    Ok(Ebpf { toolchain: EbpfToolchain::ensure()?, linker: linker::ensure()? })
}

/// Sets up the prerequisites of a lab.
pub(crate) fn lab() -> Result<()> {
    packages::ensure(&["iproute2", "ethtool", "curl", "iputils-ping"].map(Package::any), "the lab")?;
    nginx::ensure()?;
    dnsmasq::ensure()?;
    traced::ensure()
}
