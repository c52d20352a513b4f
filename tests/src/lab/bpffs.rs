//! A separate bpffs for each lab, so that labs and a real load balancer on the same host don't meet.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A mounted bpffs; unmounted on drop, which frees every map, program and link that is pinned only there.
#[derive(Debug)]
pub struct BpfFs {
    path: PathBuf,
}

impl BpfFs {
    /// Mounts a bpffs on `path`, created if absent. The mount is in the caller's mount namespace, so that processes in
    /// other network namespaces see the same pins.
    pub fn mount(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path)?;
        mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
            .with_context(|| format!("could not mount a bpffs on {}", path.display()))?;
        Ok(Self { path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        unmount(&self.path);
    }
}

/// Unmounts any file system on `path`. Lazily: a reader that still has a file open must not keep the lab alive.
pub(crate) fn unmount(path: &Path) {
    let _ = umount2(path, MntFlags::MNT_DETACH);
}
