//! A BPF file system that only this process sees.

use std::path::PathBuf;

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Where BPF file systems are mounted.
const BPFFS: &str = "/sys/fs/bpf";

/// A mount namespace with an empty BPF file system. The kernel clears both away with the process, however it ends.
pub(crate) struct Namespace(());

impl Namespace {
    /// Moves this process there.
    ///
    /// # Panics
    /// Not root, or the kernel has no BPF file system.
    pub(crate) fn enter() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this makes BPF maps and loads a program, which needs root");
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts of its own");
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none).expect("a BPF file system");
        Self(())
    }

    /// Where to pin the maps called `name`.
    #[expect(clippy::unused_self, reason = "who has one is there")]
    pub(crate) fn pins(&self, name: &str) -> PathBuf {
        PathBuf::from(BPFFS).join(name)
    }
}
