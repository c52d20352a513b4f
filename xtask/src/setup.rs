//! Prerequisites of a build, a test or a lab.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::{
    dnsmasq,
    ebpf_toolchain::EbpfToolchain,
    linker, nginx,
    packages::{self, Package},
    prometheus, traced, tshark,
};

/// Tools to build eBPF programs.
#[derive(Debug)]
pub struct Ebpf {
    pub toolchain: EbpfToolchain,
    pub linker: PathBuf,
}

/// Sets up all prerequisites.
pub fn everything() -> Result<Ebpf> {
    let ebpf = ebpf()?;
    lab()?;
    eprintln!("xtask: ready; eBPF is built by {}", ebpf.toolchain.name);
    Ok(ebpf)
}

/// Fails unless the caller is root.
///
/// # Errors
/// Contains the command line for `cargo xtask VERB` as root.
pub fn root(verb: &str) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "this makes network namespaces and loads eBPF programs, which needs root:\n\n  \
         sudo -E env PATH=\"$PATH\" cargo xtask {verb}\n"
    );
    Ok(())
}

/// Sets up the prerequisites of a build.
pub fn ebpf() -> Result<Ebpf> {
    Ok(Ebpf { toolchain: EbpfToolchain::ensure()?, linker: linker::ensure()? })
}

/// Sets up the prerequisites of a lab.
pub fn lab() -> Result<()> {
    packages::ensure(&["iproute2", "ethtool", "curl", "iputils-ping"].map(Package::any), "the lab")?;
    nginx::ensure()?;
    dnsmasq::ensure()?;
    prometheus::ensure()?;
    traced::ensure()?;
    tshark::ensure()
}

/// Fails unless other kernels can be booted on this machine.
///
/// # Errors
/// The reason.
pub fn can_boot_kernels() -> Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "kernels are booted on x86-64 only");
    ensure!(packages::is_debian(), "kernels are fetched as Debian packages, and this is not Debian");
    Ok(())
}
