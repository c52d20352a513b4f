//! The pin directory: where maps, programs and links stay when nobody runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::sys::statfs::{FsType, statfs};

use edge_common::abi::{ABI_VERSION, program};

use super::{KernelError, sys};
use crate::config::AttachMode;

/// Directories in a BPF file system; the interface's version is part of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PinDir {
    version: PathBuf,
}

impl PinDir {
    /// The pins under `root`, as `/sys/fs/bpf/edge`, which need not exist yet.
    ///
    /// # Errors
    /// When `root` is not in a BPF file system.
    pub(crate) fn new(root: &Path) -> Result<Self, KernelError> {
        // The nearest directory that exists says on which file system the others will be.
        let existing = root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let stat =
            statfs(existing).map_err(|errno| KernelError::File { path: existing.to_owned(), source: errno.into() })?;
        if stat.filesystem_type() != FsType(libc::BPF_FS_MAGIC) {
            return Err(KernelError::NotBpffs { path: root.to_owned() });
        }
        Ok(Self { version: root.join(format!("v{ABI_VERSION}")) })
    }

    /// The directory of this version of the interface.
    #[cfg(test)]
    pub(crate) fn version_dir(&self) -> &Path {
        &self.version
    }

    pub(super) fn maps(&self) -> PathBuf {
        self.version.join("maps")
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Where maps are pinned until all of them are, when the directory gets its name with one `rename`.
    fn unfinished(&self) -> PathBuf {
        self.version.join("maps-unfinished")
    }

    pub(super) fn programs(&self) -> PathBuf {
        self.version.join("programs")
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.programs().join(program::EDGE)
    }

    pub(super) fn links(&self) -> PathBuf {
        self.version.join("links")
    }

    pub(super) fn link(&self, interface: &str, mode: AttachMode) -> PathBuf {
        self.links().join(link_name(interface, mode))
    }

    pub(super) fn has_maps(&self) -> Result<bool, KernelError> {
        let path = self.maps();
        path.try_exists().map_err(|source| KernelError::File { path, source })
    }

    /// Pins a set of maps: `pin` is given the directory. Whoever looks sees none of them or all.
    pub(super) fn pin_maps(&self, pin: impl FnOnce(&Path) -> Result<(), KernelError>) -> Result<(), KernelError> {
        let (unfinished, maps) = (self.unfinished(), self.maps());
        // Left by a start that was killed; nothing was ever attached to these.
        remove_dir(&unfinished)?;
        make_dir(&unfinished)?;
        pin(&unfinished)
            .and_then(|()| fs::rename(&unfinished, &maps).map_err(|source| KernelError::File { path: maps, source }))
            .inspect_err(|_| {
                // The first error counts; what stays is removed by the next start.
                let _unused = remove_dir(&unfinished);
            })
    }

    /// The links that are pinned: interface, mode, path.
    pub(super) fn pinned_links(&self) -> Result<Vec<(String, AttachMode, PathBuf)>, KernelError> {
        let mut links: Vec<_> = entries(&self.links())?
            .into_iter()
            .filter_map(|path| {
                let (interface, mode) = link_target(path.file_name()?.to_str()?)?;
                Some((interface, mode, path))
            })
            .collect();
        links.sort_by(|a, b| a.2.cmp(&b.2));
        Ok(links)
    }

    /// Removes every pin of the load balancer, links first. Returns the interfaces that were attached.
    pub(super) fn remove_all(&self) -> Result<Vec<String>, KernelError> {
        let mut interfaces = Vec::new();
        for (interface, _, path) in self.pinned_links()? {
            remove_link(&path)?;
            interfaces.push(interface);
        }
        for path in [self.links(), self.programs(), self.maps(), self.unfinished()] {
            remove_dir(&path)?;
        }
        // These stay when there is more in them: the decapsulation program, or another version.
        for path in [Some(self.version.as_path()), self.version.parent()].into_iter().flatten() {
            let _unused = fs::remove_dir(path);
        }
        interfaces.dedup();
        Ok(interfaces)
    }
}

pub(super) fn make_dir(path: &Path) -> Result<(), KernelError> {
    fs::create_dir_all(path).map_err(|source| KernelError::File { path: path.to_owned(), source })
}

pub(super) fn remove_file(path: &Path) -> Result<(), KernelError> {
    absent_is_fine(fs::remove_file(path), path)
}

/// Detaches and removes a pinned link; nothing where there is none.
pub(super) fn remove_link(path: &Path) -> Result<(), KernelError> {
    if path.exists() {
        // What is no link, or one whose interface has gone, needs no more than the next line.
        let _unused = sys::detach_link(path);
    }
    remove_file(path)
}

fn remove_dir(path: &Path) -> Result<(), KernelError> {
    absent_is_fine(fs::remove_dir_all(path), path)
}

fn absent_is_fine(result: io::Result<()>, path: &Path) -> Result<(), KernelError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(KernelError::File { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, KernelError> {
    let failed = |source| KernelError::File { path: directory.to_owned(), source };
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

/// Name of a link's pin. A BPF file system has no names with dots, interfaces have (`eth0.100`); a colon is in no
/// interface's name. The mode is part of it, since a link's mode can be neither asked nor changed.
fn link_name(interface: &str, mode: AttachMode) -> String {
    let name = interface.replace('.', ":d");
    match mode {
        AttachMode::Native => name,
        AttachMode::Generic => name + ":g",
    }
}

fn link_target(name: &str) -> Option<(String, AttachMode)> {
    let (name, mode) = match name.strip_suffix(":g") {
        Some(name) => (name, AttachMode::Generic),
        None => (name, AttachMode::Native),
    };
    let interface = name.replace(":d", ".");
    (!interface.contains(':')).then_some((interface, mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_and_mode_has_a_pin_of_its_own() {
        for interface in ["eth0", "eth0.100", "d", "g", "a.g", "a.."] {
            for mode in [AttachMode::Native, AttachMode::Generic] {
                let name = link_name(interface, mode);
                assert!(!name.contains('.'), "{name}");
                assert_eq!(link_target(&name), Some((interface.to_owned(), mode)), "{name}");
            }
        }
    }
}
