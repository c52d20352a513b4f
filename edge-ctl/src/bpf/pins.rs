//! The pin directory: where maps, programs and links stay when no process runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::sys::statfs::{FsType, statfs};

use edge_common::abi::{ABI_VERSION, program};

use super::{BpfError, found};

/// Directories in a BPF file system; the interface's version is part of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PinDir {
    version: PathBuf,
    /// Name of the directory of the maps.
    maps: &'static str,
}

const MAPS: &str = "maps";
/// Of maps that larger ones take the place of.
const OUTGROWN: &str = "maps-outgrown";

impl PinDir {
    /// The pins under `root`, as `/sys/fs/bpf/edge`, which need not exist yet.
    ///
    /// # Errors
    /// When `root` is not in a BPF file system.
    pub(crate) fn new(root: &Path) -> Result<Self, BpfError> {
        // The nearest directory that exists is on the file system on which the others will be.
        let (existing, stat) = root
            .ancestors()
            .find_map(|path| Some((path, found(statfs(path).map_err(io::Error::from)).transpose()?)))
            .ok_or_else(|| BpfError::NotBpffs { path: root.to_owned() })?;
        let stat = stat.map_err(|source| BpfError::file(existing, source))?;
        if stat.filesystem_type() != FsType(libc::BPF_FS_MAGIC) {
            return Err(BpfError::NotBpffs { path: root.to_owned() });
        }
        Ok(Self { version: root.join(format!("v{ABI_VERSION}")), maps: MAPS })
    }

    /// The pins of other versions of the interface, under the same root.
    pub(crate) fn others(&self) -> Result<Vec<Self>, BpfError> {
        let Some(root) = self.version.parent() else { return Ok(Vec::new()) };
        let failed = |source| BpfError::file(root, source);
        let Some(entries) = found(fs::read_dir(root)).map_err(failed)? else { return Ok(Vec::new()) };
        let mut others = Vec::new();
        for entry in entries {
            let version = entry.map_err(failed)?.path();
            let number = version.file_name().and_then(|name| name.to_str()?.strip_prefix('v')?.parse::<u32>().ok());
            if number.is_some() && version != self.version {
                others.push(Self { version, maps: MAPS });
            }
        }
        Ok(others)
    }

    /// The directory of this version of the interface.
    pub(crate) fn version_dir(&self) -> &Path {
        &self.version
    }

    pub(super) fn maps(&self) -> PathBuf {
        self.version.join(self.maps)
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Where maps are pinned until all of them are, when the directory gets its name with one `rename`.
    fn unfinished(&self) -> PathBuf {
        self.version.join("maps-unfinished")
    }

    pub(crate) fn programs(&self) -> PathBuf {
        self.version.join("programs")
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.programs().join(program::EDGE)
    }

    /// The maps by which programs hand packets over, each under the number of its program.
    pub(crate) fn calls(&self) -> PathBuf {
        self.version.join("calls")
    }

    /// What rehearsals need, by version.
    pub(crate) fn rehearsal(&self) -> PathBuf {
        self.version.join("rehearsal")
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.version.join("links")
    }

    fn network_dir(&self) -> PathBuf {
        self.version.join(NETWORK)
    }

    /// There while new maps are filled: the directory itself says so.
    fn filling(&self) -> PathBuf {
        self.version.join("filling")
    }

    /// From here on until [`Self::end_filling`] whoever starts makes the maps anew.
    pub(crate) fn begin_filling(&self) -> Result<(), BpfError> {
        make_dir(&self.filling())
    }

    pub(crate) fn end_filling(&self) -> Result<(), BpfError> {
        remove_dir(&self.filling()).map(drop)
    }

    /// Whether somebody was killed in between.
    pub(crate) fn are_filling(&self) -> Result<bool, BpfError> {
        let path = self.filling();
        path.try_exists().map_err(|source| BpfError::file(&path, source))
    }

    /// The pins of maps that larger ones take the place of: until those are filled they are what is gone on with, and until the
    /// program is loaded onto those it records flows in them.
    pub(crate) fn outgrown(&self) -> Self {
        Self { version: self.version.clone(), maps: OUTGROWN }
    }

    /// Makes room for larger maps.
    pub(crate) fn set_aside(&self) -> Result<(), BpfError> {
        self.forget_outgrown()?;
        rename(&self.maps(), &self.outgrown().maps())
    }

    /// Nothing is recorded any more in the maps that were set aside.
    pub(crate) fn forget_outgrown(&self) -> Result<(), BpfError> {
        remove_dir(&self.outgrown().maps()).map(drop)
    }

    /// Where the maps are that can be gone on with: those that were set aside, unless others were filled to the end.
    pub(crate) fn in_force(&self) -> Result<Self, BpfError> {
        let outgrown = self.outgrown();
        let is_unfinished = self.are_filling()? || !self.has_maps()?;
        Ok(if is_unfinished && outgrown.has_maps()? { outgrown } else { self.clone() })
    }

    /// Puts maps back that were set aside, unless others were filled to the end. Returns whether it did.
    pub(crate) fn take_back(&self) -> Result<bool, BpfError> {
        let in_force = self.in_force()?;
        if in_force == *self {
            return Ok(false);
        }
        // In this order: after each step the next one goes on with the same.
        self.remove_maps()?;
        self.end_filling()?;
        rename(&in_force.maps(), &self.maps())?;
        Ok(true)
    }

    /// The network namespace that the pins are for, by its inode; `None` when there is no word of it.
    pub(crate) fn network(&self) -> Result<Option<u64>, BpfError> {
        let directory = self.network_dir();
        let failed = |source| BpfError::file(&directory, source);
        let Some(entries) = found(fs::read_dir(&directory)).map_err(failed)? else { return Ok(None) };
        for entry in entries {
            if let Some(inode) = entry.map_err(failed)?.file_name().to_str().and_then(|name| name.parse().ok()) {
                return Ok(Some(inode));
            }
        }
        Ok(None)
    }

    /// Notes it, as the name of a directory: there are no files in a BPF file system.
    pub(crate) fn set_network(&self, inode: u64) -> Result<(), BpfError> {
        remove_dir(&self.network_dir())?;
        make_dir(&self.network_dir().join(inode.to_string()))
    }

    pub(super) fn has_maps(&self) -> Result<bool, BpfError> {
        let path = self.maps();
        path.try_exists().map_err(|source| BpfError::file(&path, source))
    }

    /// Pins a set of maps: `pin` is given the directory. A reader sees none of them or all.
    pub(super) fn pin_maps(&self, pin: impl FnOnce(&Path) -> Result<(), BpfError>) -> Result<(), BpfError> {
        let (unfinished, maps) = (self.unfinished(), self.maps());
        // Left by a start that was killed; nothing was ever attached to these.
        remove_dir(&unfinished)?;
        make_dir(&unfinished)?;
        pin(&unfinished).and_then(|()| rename(&unfinished, &maps)).inspect_err(|_| {
            // The first error counts; what stays is removed by the next start.
            let _unused = remove_dir(&unfinished);
        })
    }

    /// Removes the pins of all maps.
    pub(crate) fn remove_maps(&self) -> Result<(), BpfError> {
        for path in [self.maps(), self.unfinished()] {
            remove_dir(&path)?;
        }
        Ok(())
    }

    /// Removes the directories of a start that failed before it pinned anything. Pins, if there are any, stay.
    pub(crate) fn remove_unused(&self) -> Result<(), BpfError> {
        let failed = |source| BpfError::file(&self.version, source);
        let Some(entries) = found(fs::read_dir(&self.version)).map_err(failed)? else { return Ok(()) };
        for entry in entries {
            if entry.map_err(failed)?.file_name() != NETWORK {
                return Ok(());
            }
        }
        self.remove_directories()
    }

    /// Removes the directories that are empty. The lock goes with them: its holder makes nothing here any more.
    pub(crate) fn remove_directories(&self) -> Result<(), BpfError> {
        remove_dir(&self.network_dir())?;
        self.forget_outgrown()?;
        self.end_filling()?;
        // These stay while they hold anything else: the decapsulation program, or another version.
        for path in [Some(self.version.as_path()), self.version.parent()].into_iter().flatten() {
            let _unused = fs::remove_dir(path);
        }
        Ok(())
    }
}

/// The directory that names the network namespace of the pins.
const NETWORK: &str = "network";

pub(crate) fn make_dir(path: &Path) -> Result<(), BpfError> {
    fs::create_dir_all(path).map_err(|source| BpfError::file(path, source))
}

/// Removes a pin; true if there was one.
pub(crate) fn remove_file(path: &Path) -> Result<bool, BpfError> {
    was_there(fs::remove_file(path), path)
}

/// Removes a directory with all pins in it; true if there was one.
pub(crate) fn remove_dir(path: &Path) -> Result<bool, BpfError> {
    was_there(fs::remove_dir_all(path), path)
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), BpfError> {
    fs::rename(from, to).map_err(|source| BpfError::file(to, source))
}

fn was_there(removed: io::Result<()>, path: &Path) -> Result<bool, BpfError> {
    Ok(found(removed).map_err(|source| BpfError::file(path, source))?.is_some())
}

/// The name of an interface as that of a pin. A BPF file system refuses dots, which an interface's name may have
/// (`eth0.100`); a colon is in no interface's name.
pub(crate) fn interface_file_name(interface: &str) -> String {
    interface.replace('.', ":d").replace('/', ":s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_dots_and_stay_apart() {
        assert_eq!(interface_file_name("eth0"), "eth0");
        assert_eq!(interface_file_name("eth0.100"), "eth0:d100");
        assert_eq!(interface_file_name("../x"), ":d:d:sx");
    }
}
