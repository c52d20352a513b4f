//! The pin directory: maps, programs and links persist there while no process runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    sys::statfs::{FsType, statfs},
};

use edge_common::abi::{ABI_VERSION, program};

use super::{BpfError, if_present};

/// Directories in a BPF file system; the ABI version is part of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PinDir {
    version: PathBuf,
    /// Name of the directory of the maps.
    maps: &'static str,
}

const MAPS: &str = "maps";
/// The directory of maps that larger ones are replacing.
const OUTGROWN: &str = "maps-outgrown";

impl PinDir {
    /// The pins under `root`, for example `/sys/fs/bpf/edge`, which need not exist yet.
    ///
    /// # Errors
    /// If `root` is not in a BPF file system.
    pub(crate) fn new(root: &Path) -> Result<Self, BpfError> {
        // The directories that are still missing will be on the file system of the nearest one that exists.
        let (existing, stat) = root
            .ancestors()
            .find_map(|path| Some((path, if_present(statfs(path).map_err(io::Error::from)).transpose()?)))
            .ok_or_else(|| BpfError::NotBpffs { path: root.to_owned() })?;
        let stat = stat.map_err(|source| BpfError::file(existing, source))?;
        if stat.filesystem_type() != FsType(libc::BPF_FS_MAGIC) {
            return Err(BpfError::NotBpffs { path: root.to_owned() });
        }
        Ok(Self { version: root.join(format!("v{ABI_VERSION}")), maps: MAPS })
    }

    /// The pins of other ABI versions, under the same root.
    pub(crate) fn others(&self) -> Result<Vec<Self>, BpfError> {
        let Some(root) = self.version.parent() else { return Ok(Vec::new()) };
        let failed = |source| BpfError::file(root, source);
        let Some(entries) = if_present(fs::read_dir(root)).map_err(failed)? else { return Ok(Vec::new()) };
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

    /// The directory of this ABI version.
    pub(crate) fn version_dir(&self) -> &Path {
        &self.version
    }

    pub(super) fn maps(&self) -> PathBuf {
        self.version.join(self.maps)
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Directory in which new maps are pinned. When all are pinned, one `rename` gives it its final name.
    fn unfinished(&self) -> PathBuf {
        self.version.join("maps-unfinished")
    }

    pub(crate) fn programs(&self) -> PathBuf {
        self.version.join("programs")
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.programs().join(program::EDGE)
    }

    /// The load balancer of a tracer, while it is attached in place of [`Self::program`].
    pub(crate) fn traced_program(&self) -> PathBuf {
        self.programs().join("edge-traced")
    }

    /// The program arrays of tail calls between the programs, each under the ID of its program.
    pub(crate) fn calls(&self) -> PathBuf {
        self.version.join("calls")
    }

    /// Directory of the rehearsals' pins, by version.
    pub(crate) fn rehearsal(&self) -> PathBuf {
        self.version.join("rehearsal")
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.version.join("links")
    }

    fn network_dir(&self) -> PathBuf {
        self.version.join(NETWORK)
    }

    /// A marker directory that exists while new maps are filled.
    fn filling(&self) -> PathBuf {
        self.version.join("filling")
    }

    /// Marks the new maps as incomplete: until [`Self::end_filling`], a process that starts makes them anew.
    pub(crate) fn begin_filling(&self) -> Result<(), BpfError> {
        make_dir(&self.filling())
    }

    pub(crate) fn end_filling(&self) -> Result<(), BpfError> {
        remove_dir(&self.filling()).map(drop)
    }

    /// Whether the filling of new maps was interrupted.
    pub(crate) fn are_filling(&self) -> Result<bool, BpfError> {
        let path = self.filling();
        path.try_exists().map_err(|source| BpfError::file(&path, source))
    }

    /// The pins of maps that larger ones are replacing. These maps stay in use until the new ones are filled, and the
    /// program records flows in them until it is loaded onto the new ones.
    pub(crate) fn outgrown(&self) -> Self {
        Self { version: self.version.clone(), maps: OUTGROWN }
    }

    /// Moves the maps aside, to make room for larger ones.
    pub(crate) fn set_aside(&self) -> Result<(), BpfError> {
        self.forget_outgrown()?;
        rename(&self.maps(), &self.outgrown().maps())
    }

    /// Removes the maps that were set aside, once no program uses them.
    pub(crate) fn forget_outgrown(&self) -> Result<(), BpfError> {
        remove_dir(&self.outgrown().maps()).map(drop)
    }

    /// The pins of the usable maps: those that were set aside, unless the new ones were filled completely.
    pub(crate) fn in_force(&self) -> Result<Self, BpfError> {
        let outgrown = self.outgrown();
        let is_unfinished = self.are_filling()? || !self.has_maps()?;
        Ok(if is_unfinished && outgrown.has_maps()? { outgrown } else { self.clone() })
    }

    /// Restores the maps that were set aside, unless the new ones were filled completely. Returns whether maps were
    /// restored.
    pub(crate) fn take_back(&self) -> Result<bool, BpfError> {
        let in_force = self.in_force()?;
        if in_force == *self {
            return Ok(false);
        }
        // In this order: if a step is the last one done, the next start restores the same maps.
        self.remove_maps()?;
        self.end_filling()?;
        rename(&in_force.maps(), &self.maps())?;
        Ok(true)
    }

    /// Inode of the network namespace that the pins are for; `None` if none is recorded.
    pub(crate) fn network(&self) -> Result<Option<u64>, BpfError> {
        let directory = self.network_dir();
        let failed = |source| BpfError::file(&directory, source);
        let Some(entries) = if_present(fs::read_dir(&directory)).map_err(failed)? else { return Ok(None) };
        for entry in entries {
            if let Some(inode) = entry.map_err(failed)?.file_name().to_str().and_then(|name| name.parse().ok()) {
                return Ok(Some(inode));
            }
        }
        Ok(None)
    }

    /// Records the network namespace as the name of a directory: a BPF file system has no files.
    pub(crate) fn set_network(&self, inode: u64) -> Result<(), BpfError> {
        remove_dir(&self.network_dir())?;
        make_dir(&self.network_dir().join(inode.to_string()))
    }

    pub(super) fn has_maps(&self) -> Result<bool, BpfError> {
        let path = self.maps();
        path.try_exists().map_err(|source| BpfError::file(&path, source))
    }

    /// Pins a set of maps; `pin` receives the directory. Readers see none of the maps or all of them.
    pub(super) fn pin_maps(&self, pin: impl FnOnce(&Path) -> Result<(), BpfError>) -> Result<(), BpfError> {
        let (unfinished, maps) = (self.unfinished(), self.maps());
        // Left behind by a start that was killed; no program was ever attached to these maps.
        remove_dir(&unfinished)?;
        make_dir(&unfinished)?;
        pin(&unfinished).and_then(|()| rename(&unfinished, &maps)).inspect_err(|_| {
            // The first error counts; leftovers are removed by the next start.
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
        let Some(entries) = if_present(fs::read_dir(&self.version)).map_err(failed)? else { return Ok(()) };
        for entry in entries {
            if entry.map_err(failed)?.file_name() != NETWORK {
                return Ok(());
            }
        }
        self.remove_directories()
    }

    /// Removes the directories that are empty. The lock disappears with its directory: the holder creates no more pins
    /// here.
    pub(crate) fn remove_directories(&self) -> Result<(), BpfError> {
        remove_dir(&self.network_dir())?;
        self.forget_outgrown()?;
        self.end_filling()?;
        // They stay if anything else is in them: the decapsulation program, or another version.
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

/// Makes `path` the only directory in its parent, and empty. Fails if the parent does not exist.
pub(crate) fn make_only_dir(path: &Path) -> Result<(), BpfError> {
    let parent = path.parent().unwrap_or(path);
    let failed = |source| BpfError::file(parent, source);
    for entry in fs::read_dir(parent).map_err(failed)? {
        remove_dir(&entry.map_err(failed)?.path())?;
    }
    fs::create_dir(path).map_err(|source| BpfError::file(path, source))
}

/// Removes a pin; true if it existed.
pub(crate) fn remove_file(path: &Path) -> Result<bool, BpfError> {
    was_there(fs::remove_file(path), path)
}

/// Removes a directory with all pins in it; true if it existed.
pub(crate) fn remove_dir(path: &Path) -> Result<bool, BpfError> {
    was_there(fs::remove_dir_all(path), path)
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), BpfError> {
    fs::rename(from, to).map_err(|source| BpfError::file(to, source))
}

/// Exchanges two pins, or two directories of pins.
fn exchange(one: &Path, other: &Path) -> Result<(), BpfError> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
        .map_err(|errno| BpfError::file(other, errno.into()))
}

/// Renames a pin or a directory of pins; if there is one of the new name, that gets the old one.
pub(crate) fn swap_into(from: &Path, to: &Path) -> Result<(), BpfError> {
    let is_there = to.try_exists().map_err(|source| BpfError::file(to, source))?;
    if is_there { exchange(from, to) } else { rename(from, to) }
}

fn was_there(removed: io::Result<()>, path: &Path) -> Result<bool, BpfError> {
    Ok(if_present(removed).map_err(|source| BpfError::file(path, source))?.is_some())
}

/// The pin name of an interface. A BPF file system refuses dots, which interface names may have (`eth0.100`); no
/// interface name has a colon.
pub(crate) fn interface_file_name(interface: &str) -> String {
    interface.replace('.', ":d").replace('/', ":s")
}

/// The interface with this pin name.
pub(crate) fn interface_of(file_name: &str) -> String {
    file_name.replace(":d", ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_dots_and_stay_apart() {
        assert_eq!(interface_file_name("eth0"), "eth0");
        assert_eq!(interface_file_name("eth0.100"), "eth0:d100");
        assert_eq!(interface_file_name("../x"), ":d:d:sx");
        for interface in ["eth0", "eth0.100", "d.d", "a.."] {
            assert_eq!(interface_of(&interface_file_name(interface)), interface);
        }
    }
}
