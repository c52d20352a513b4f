//! A BPF file system of a test's own.

use std::path::Path;

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::Uid,
};
use tempfile::TempDir;

use super::PinDir;

/// A BPF file system, gone with its owner.
pub(crate) struct Bpffs {
    directory: TempDir,
}

impl Bpffs {
    /// # Panics
    /// Not root, or it can't be mounted.
    pub(crate) fn mount() -> Self {
        assert!(Uid::effective().is_root(), "these tests need root");
        let directory = TempDir::new().expect("a temporary directory");
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty(), None::<&str>).expect("bpffs");
        Self { directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn pins(&self) -> PinDir {
        PinDir::new(&self.path().join("edge")).expect("it is a BPF file system")
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // Lazily: an open file must not keep it.
        let _unused = umount2(self.directory.path(), MntFlags::MNT_DETACH);
    }
}
