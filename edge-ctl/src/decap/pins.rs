//! Where the decapsulation of one interface is pinned.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use edge_common::abi::{ABI_VERSION, map};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

/// Why the pins can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PinError {
    #[error("{path} is not on a BPF file system\n  do: mount -t bpf bpf /sys/fs/bpf")]
    NotBpffs { path: PathBuf },
    #[error(
        "not permitted to use {path}\n  do: run it as root, or with CAP_BPF, CAP_NET_ADMIN and access to this path"
    )]
    NotPermitted { path: PathBuf },
    #[error(
        "another `edge-ctl decap` works on this interface at this moment\n  do: run it again when that one is done"
    )]
    Busy,
    #[error("can't use {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Paths of one interface's pins: `PIN/vN/decap/IFNAME/{link,maps/NAME}`, N the version of the interface.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    interface: String,
    directory: PathBuf,
}

impl Pins {
    /// Those under `root`, which need not exist yet but must be on a BPF file system.
    pub(super) fn new(root: &Path, interface: &str) -> Result<Self, PinError> {
        let directory = root.join(format!("v{ABI_VERSION}")).join("decap").join(file_name(interface));
        let existing = root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let kind = statfs(existing).map_err(|errno| Self::failed(existing, errno.into()))?.filesystem_type();
        if kind != BPF_FS_MAGIC {
            return Err(PinError::NotBpffs { path: root.to_owned() });
        }
        Ok(Self { interface: interface.to_owned(), directory })
    }

    pub(super) fn interface(&self) -> &str {
        &self.interface
    }

    pub(super) fn link(&self) -> PathBuf {
        self.directory.join("link")
    }

    pub(super) fn exits(&self) -> PathBuf {
        self.maps().join(map::DECAP_EXITS)
    }

    pub(super) fn sources(&self) -> PathBuf {
        self.maps().join(map::DECAP_SOURCES)
    }

    /// Where the next sources wait until the program that reads them is at work.
    pub(super) fn next_sources(&self) -> PathBuf {
        self.maps().join("NEXT_SOURCES")
    }

    fn maps(&self) -> PathBuf {
        self.directory.join("maps")
    }

    /// Makes the directories, and keeps everybody else out until the result is dropped.
    pub(super) fn lock(&self) -> Result<Flock<File>, PinError> {
        let maps = self.maps();
        fs::create_dir_all(&maps).map_err(|error| Self::failed(&maps, error))?;
        let directory = File::open(&self.directory).map_err(|error| Self::failed(&self.directory, error))?;
        Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => PinError::Busy,
            errno => Self::failed(&self.directory, errno.into()),
        })
    }

    /// Removes the pin at `path`; true if there was one.
    pub(super) fn remove(path: &Path) -> Result<bool, PinError> {
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Self::failed(path, error)),
        }
    }

    pub(super) fn rename(from: &Path, to: &Path) -> Result<(), PinError> {
        fs::rename(from, to).map_err(|error| Self::failed(to, error))
    }

    /// Removes every pin, the link first; true if there was a link.
    pub(super) fn remove_all(&self) -> Result<bool, PinError> {
        let was_attached = Self::remove(&self.link())?;
        for path in [self.sources(), self.next_sources(), self.exits()] {
            Self::remove(&path)?;
        }
        for directory in [self.maps(), self.directory.clone()] {
            match fs::remove_dir(&directory) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(Self::failed(&directory, error)),
                _ => {}
            }
        }
        Ok(was_attached)
    }

    pub(super) fn failed(path: &Path, source: io::Error) -> PinError {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::PermissionDenied => PinError::NotPermitted { path },
            _ => PinError::Io { path, source },
        }
    }
}

/// An interface's name as a file name. A BPF file system has no names with dots, interfaces have (`eth0.100`); no
/// interface's name has a colon.
fn file_name(interface: &str) -> String {
    interface.replace('.', ":d").replace('/', ":s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_dots_and_stay_apart() {
        assert_eq!(file_name("eth0"), "eth0");
        assert_eq!(file_name("eth0.100"), "eth0:d100");
        assert_eq!(file_name("../x"), ":d:d:sx");
    }

    #[test]
    fn refuses_what_is_no_bpf_file_system() {
        let directory = tempfile::tempdir().unwrap();
        let error = Pins::new(&directory.path().join("edge"), "eth0").unwrap_err().to_string();
        assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
    }
}
