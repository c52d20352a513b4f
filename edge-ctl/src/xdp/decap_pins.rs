//! Pins of the decapsulation of one interface.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use edge_common::abi::map;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::{XdpError, link};
use crate::bpf::{self, BpfError, PinDir, if_present, interface_file_name};

/// Paths of one interface's pins: `PIN/vN/decap/IFNAME/{link,mss/EGRESS,maps/NAME}`; N is the version of the ABI.
#[derive(Clone, Debug)]
pub(crate) struct DecapPins {
    interface: String,
    directory: PathBuf,
}

impl DecapPins {
    /// The pins under `root`, which need not exist yet but must be on a BPF file system.
    pub(crate) fn new(root: &Path, interface: &str) -> Result<Self, BpfError> {
        let directory = PinDir::new(root)?.version_dir().join("decap").join(interface_file_name(interface));
        Ok(Self { interface: interface.to_owned(), directory })
    }

    pub(crate) fn interface(&self) -> &str {
        &self.interface
    }

    pub(super) fn link(&self) -> PathBuf {
        self.directory.join("link")
    }

    /// The directory of the attachments to egress interfaces.
    pub(super) fn mss(&self) -> PathBuf {
        self.directory.join("mss")
    }

    pub(super) fn mss_on(&self, egress: &str) -> PathBuf {
        self.mss().join(interface_file_name(egress))
    }

    pub(super) fn mss_exits(&self) -> PathBuf {
        self.maps().join(map::MSS_EXITS)
    }

    pub(super) fn exits(&self) -> PathBuf {
        self.maps().join(map::DECAP_EXITS)
    }

    /// The map `name`, one of those that each run makes anew.
    pub(super) fn current(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Where the next map is pinned until the program that uses it is attached.
    pub(super) fn next(&self, name: &str) -> PathBuf {
        self.maps().join(format!("NEXT_{name}"))
    }

    fn maps(&self) -> PathBuf {
        self.directory.join("maps")
    }

    /// Makes the directories, and locks out every other `edge-ctl decap` until the result is dropped.
    pub(super) fn lock(&self) -> Result<Flock<File>, XdpError> {
        bpf::make_dir(&self.maps())?;
        let directory = File::open(&self.directory).map_err(|error| BpfError::file(&self.directory, error))?;
        Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => XdpError::Busy { interface: self.interface.clone() },
            errno => BpfError::file(&self.directory, errno.into()).into(),
        })
    }

    /// Takes over the pins of the program that is attached to the interface, if it was attached under another name.
    pub(super) fn follow_name(&self, program: u32) -> Result<(), BpfError> {
        let is_it = |directory: &Path| Ok(link::program_id(&directory.join("link"))? == Some(program));
        let Some(all) = self.directory.parent() else { return Ok(()) };
        let failed = |source| BpfError::file(all, source);
        let Some(entries) = if_present(fs::read_dir(all)).map_err(failed)? else { return Ok(()) };
        for entry in entries {
            let directory = entry.map_err(failed)?.path();
            if directory != self.directory && is_it(&directory)? {
                return bpf::swap_into(&directory, &self.directory);
            }
        }
        Ok(())
    }

    /// Removes every pin, the link first.
    pub(super) fn remove_all(&self) -> Result<(), BpfError> {
        link::remove(&self.link())?;
        // The maps of an earlier version have other names.
        bpf::remove_dir(&self.maps())?;
        bpf::remove_dir(&self.mss())?;
        if_present(fs::remove_dir(&self.directory)).map_err(|error| BpfError::file(&self.directory, error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_directory_that_is_on_no_bpf_file_system() {
        let directory = tempfile::tempdir().unwrap();
        let error = DecapPins::new(&directory.path().join("edge"), "eth0").unwrap_err().to_string();
        assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
    }
}
