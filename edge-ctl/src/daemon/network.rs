//! The pins belong to one network namespace: a daemon in another would not see the interfaces that packets arrive on.

use std::{fs, io, os::unix::fs::MetadataExt as _};

use thiserror::Error;

use crate::{
    bpf::{BpfError, PinDir},
    xdp,
};

/// The thread's own network namespace.
const HERE: &str = "/proc/thread-self/ns/net";

#[derive(Debug, Error)]
pub(crate) enum NetworkError {
    #[error("cannot see which network namespace this is ({HERE})")]
    Unknown(#[source] io::Error),
    #[error("the pins cannot be used")]
    Pins(#[from] BpfError),
    #[error(
        "the pins under {pins} are for another network namespace, net:[{theirs}], and the program is attached there to {}; \
         this is net:[{ours}]\n  do: run it there, or give this one a --pin-dir and a --run-dir of its own",
        interfaces.join(", ")
    )]
    Other { pins: String, theirs: u64, ours: u64, interfaces: Vec<String> },
}

/// Claims the pins for this namespace. The caller must hold the lock.
///
/// # Errors
/// If the pins are for another namespace, and the program is still attached there.
pub(super) fn claim(pins: &PinDir) -> Result<(), NetworkError> {
    let ours = fs::metadata(HERE).map_err(NetworkError::Unknown)?.ino();
    match pins.network()? {
        Some(theirs) if theirs == ours => return Ok(()),
        Some(theirs) => {
            let interfaces = xdp::attached(pins)?;
            if !interfaces.is_empty() {
                let pins = pins.version_dir().display().to_string();
                return Err(NetworkError::Other { pins, theirs, ours, interfaces });
            }
        }
        // Pins of an earlier version have no record of a namespace.
        None => {}
    }
    Ok(pins.set_network(ours)?)
}
