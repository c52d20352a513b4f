//! Finds a Rust toolchain that can build `core` for the BPF target, or installs one.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cargo::{self, output},
    packages::{self, Package},
};

/// The newest LLVM version whose bitcode the project's bpf-linker reads.
pub const LLVM: u32 = 22;

/// Oldest Rust version that builds the workspace, as in Cargo.toml.
const RUST: u32 = 95;

/// A cargo and its rustc.
#[derive(Clone, Debug)]
pub struct EbpfToolchain {
    pub name: String,
    cargo: PathBuf,
    rustc: PathBuf,
}

impl EbpfToolchain {
    /// A rustup nightly with `rust-src` if a suitable one is installed, otherwise the distribution's toolchain. Nothing
    /// is ever added to rustup.
    pub fn ensure() -> Result<Self> {
        if let Some(nightly) = rustup_nightly() {
            return Ok(nightly);
        }
        // The packages must have the same version, which apt ensures.
        let wanted = ["rustc-web", "cargo-web", "rust-web-src"].map(|name| Package::at_least(name, "1.95"));
        packages::ensure(&wanted, "building eBPF programs")?;
        let debian =
            Self { name: "Debian's rustc".to_owned(), cargo: "/usr/bin/cargo".into(), rustc: "/usr/bin/rustc".into() };
        match debian.versions() {
            Some((rust, llvm)) if rust >= RUST && llvm <= LLVM => Ok(debian),
            Some((rust, llvm)) => bail!(
                "/usr/bin/rustc is Rust 1.{rust} with LLVM {llvm}; needed are Rust 1.{RUST} or newer and LLVM {LLVM} \
                 or older"
            ),
            None => bail!("/usr/bin/rustc does not run"),
        }
    }

    /// This toolchain's cargo, with unstable features enabled (`-Z build-std`).
    pub fn cargo(&self) -> Command {
        let mut command = cargo::command(&self.cargo);
        command.env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        command
    }

    /// Versions of the compiler and of its LLVM.
    pub fn compiler(&self) -> Result<String> {
        let version = output(cargo::command(&self.rustc).arg("-vV")).context("rustc does not report its version")?;
        let field = |name| version.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown");
        Ok(format!("rustc {}, LLVM {}", field("release: "), field("LLVM version: ")))
    }

    /// Minor version of Rust, and major version of its LLVM.
    fn versions(&self) -> Option<(u32, u32)> {
        versions(&output(cargo::command(&self.rustc).arg("-vV"))?)
    }
}

fn rustup_nightly() -> Option<EbpfToolchain> {
    let list = output(cargo::command("rustup").args(["toolchain", "list"]))?;
    let home = output(cargo::command("rustup").args(["show", "home"]))?;
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| name.starts_with("nightly")).find_map(|name| {
        let dir = Path::new(home.trim()).join("toolchains").join(name);
        let toolchain = EbpfToolchain {
            name: format!("rustup's {name}"),
            cargo: dir.join("bin/cargo"),
            rustc: dir.join("bin/rustc"),
        };
        let source = dir.join("lib/rustlib/src/rust/library/core").exists();
        let fits = || toolchain.versions().is_some_and(|(rust, llvm)| rust >= RUST && llvm <= LLVM);
        (source && fits()).then_some(toolchain)
    })
}

fn versions(text: &str) -> Option<(u32, u32)> {
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
    let rust = field("release: 1.")?.split('.').next()?.parse().ok()?;
    let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
    Some((rust, llvm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_output_of_rustc() {
        let text = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        assert_eq!(versions(text), Some((97, 22)));
        assert_eq!(versions("nonsense"), None);
    }
}
