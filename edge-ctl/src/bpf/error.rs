//! Errors between the controller and the kernel.

use std::{
    io,
    path::{Path, PathBuf},
};

use aya::{maps::MapError, pin::PinError};
use thiserror::Error;

use edge_common::abi::BackendNumber;

/// The remedy for unusable maps.
const TAKE_OVER: &str = "Start the daemon (`edge-ctl run`): it makes new maps, and takes over from the program that is attached \
                         without a gap";

/// Error messages name the remedy if there is one.
#[derive(Debug, Error)]
pub(crate) enum BpfError {
    #[error("{path} is not on a BPF file system: run `mount -t bpf bpf /sys/fs/bpf`, or give another --pin-dir", path = .path.display())]
    NotBpffs { path: PathBuf },
    #[error("cannot use {path}", path = .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("not permitted to use {path}\n  do: run it as root, or with CAP_BPF, CAP_NET_ADMIN and access to this path", path = .path.display())]
    NotPermitted { path: PathBuf },
    #[error(
        "[nat] has {left} sources more than there are numbers for: removed sources keep their numbers while they have \
         flows\n  do: wait until these flows are over, or name fewer new ones"
    )]
    NatSources { left: usize },
    #[error("maps are pinned in {path} already", path = .path.display())]
    AlreadyPinned { path: PathBuf },
    #[error(
        "the pinned maps in {path} are not complete: {map} is missing. {TAKE_OVER}",
        path = .path.display()
    )]
    Incomplete { path: PathBuf, map: &'static str },
    #[error(
        "the pinned map {path} is not the one that this version makes: its {what} is {found}, not {expected}. \
         {TAKE_OVER}",
        path = .path.display()
    )]
    Mismatch { path: PathBuf, what: &'static str, found: String, expected: String },
    #[error(
        "the embedded object and this controller disagree about the map {map}: its {what} is {found}, not {expected}; build both from one source"
    )]
    Object { map: String, what: &'static str, found: u32, expected: u32 },
    #[error("cannot parse the embedded object: {reason}")]
    Parse { reason: String },
    #[error("cannot make the map {map} with {entries} entries of {size} bytes{hint}")]
    Create {
        map: &'static str,
        entries: u32,
        size: u32,
        hint: &'static str,
        #[source]
        source: MapError,
    },
    #[error("cannot open the pinned map {map}")]
    Open {
        map: &'static str,
        #[source]
        source: MapError,
    },
    #[error("cannot map {map} into memory")]
    Mmap {
        map: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot pin {path}", path = .path.display())]
    Pin {
        path: PathBuf,
        #[source]
        source: PinError,
    },
    #[error("cannot reset a counter in {map}")]
    Counter {
        map: &'static str,
        #[source]
        source: MapError,
    },
    #[error("entry {index} is past the end of the map {map}; nothing was published")]
    OutOfRange { map: &'static str, index: u32 },
    #[error(
        "this was planned as generation {planned}, but something was changed since, and generation {published} is published"
    )]
    Stale { planned: u64, published: u64 },
    #[error("the snapshot of the published configuration is damaged ({what}). {TAKE_OVER}")]
    Snapshot { what: String },
    #[error("there is no backend numbered {0}")]
    NoSuchBackend(BackendNumber),
    #[error("there is no service numbered {0}")]
    NoSuchService(u32),
    #[error(
        "nothing is published in the pinned maps\n  do: restart the daemon, which publishes a configuration again; where none runs, \
         start it with `edge-ctl run FILE`"
    )]
    Unpublished,
}

impl BpfError {
    /// Whether pinned maps exist but cannot be used.
    pub(crate) const fn is_damage(&self) -> bool {
        matches!(self, Self::Incomplete { .. } | Self::Mismatch { .. } | Self::Snapshot { .. })
    }

    /// `source` is the reason why the file at `path` cannot be used.
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted { path },
            _ => Self::File { path, source },
        }
    }
}

/// The error for an index `index` past the end of `map`.
pub(super) const fn out_of(map: &'static str, index: u32) -> BpfError {
    BpfError::OutOfRange { map, index }
}
