//! Everything that has to be there before a build, a test or a lab.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::{
    dnsmasq,
    ebpf_toolchain::EbpfToolchain,
    linker, nginx,
    packages::{self, Package},
    traced,
};

/// What builds eBPF programs.
#[derive(Debug)]
pub(crate) struct Ebpf {
    pub(crate) toolchain: EbpfToolchain,
    pub(crate) linker: PathBuf,
}

/// All of it.
pub(crate) fn everything() -> Result<Ebpf> {
    let ebpf = ebpf()?;
    lab()?;
    eprintln!("xtask: ready; eBPF is built by {}", ebpf.toolchain.name);
    Ok(ebpf)
}

/// Refuses to go on as anyone but root.
///
/// # Errors
/// With the command line that does it, for `cargo xtask VERB`.
pub(crate) fn root(verb: &str) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "this makes network namespaces and loads eBPF programs, which needs root:\n\n  \
         sudo -E env PATH=\"$PATH\" cargo xtask {verb}\n"
    );
    Ok(())
}

/// What a build needs.
pub(crate) fn ebpf() -> Result<Ebpf> {
    Ok(Ebpf { toolchain: EbpfToolchain::ensure()?, linker: linker::ensure()? })
}

/// What a lab needs.
pub(crate) fn lab() -> Result<()> {
    packages::ensure(&["iproute2", "ethtool", "curl", "iputils-ping"].map(Package::any), "the lab")?;
    nginx::ensure()?;
    dnsmasq::ensure()?;
    traced::ensure()
}
