//! A BPF file system of its own for a test.

use std::path::Path;

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::Uid,
};
use tempfile::TempDir;

use super::PinDir;

/// A BPF file system, unmounted on drop.
pub(crate) struct Bpffs {
    directory: TempDir,
}

impl Bpffs {
    /// # Panics
    /// If not root, or if the mount fails.
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
        // Lazily: an open file must not keep the mount busy.
        let _unused = umount2(self.directory.path(), MntFlags::MNT_DETACH);
    }
}
