//! A small file system that can fill up, or be taken away from its writers.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::lab::tool;

/// A mounted tmpfs; unmounted on drop.
#[derive(Debug)]
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts a tmpfs at `at` with these options of tmpfs(5).
    pub fn mount(at: &Path, options: &str) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        tool::run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at))?;
        Ok(Self(at.to_owned()))
    }

    /// Mounts the tmpfs again with other options.
    pub fn remount(&self, options: &str) -> Result<()> {
        tool::run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0)).map(drop)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily, since a process may still have a file open there.
        let _unused = tool::run(Command::new("umount").arg("-l").arg(&self.0));
    }
}
