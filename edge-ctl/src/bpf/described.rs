//! Kind, sizes and memory of the pinned maps, for people.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use edge_common::abi::MAPS;

use super::{BpfError, PinDir, spec};

/// A pinned map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    /// The kernel's ID.
    pub(crate) id: u32,
    pub(crate) kind: String,
    pub(crate) entries: u32,
    /// Bytes of a key and of a value.
    pub(crate) key: u32,
    pub(crate) value: u32,
    /// Bytes of memory; absent if the kernel does not tell.
    pub(crate) memory: Option<u64>,
}

/// All maps of the load balancer, each with an error if it can't be examined.
pub(crate) fn describe(pins: &PinDir) -> impl Iterator<Item = (&'static str, Result<Described, BpfError>)> {
    MAPS.iter().map(move |map| (map.name, described(pins, map.name)))
}

fn described(pins: &PinDir, name: &'static str) -> Result<Described, BpfError> {
    let info = spec::info(pins, name)?;
    let memory = info.fd().ok().and_then(|map| {
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd())).ok()?;
        text.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
    });
    let kind = info.map_type().map_or_else(|error| error.to_string(), |kind| format!("{kind:?}"));
    let (key, value) = (info.key_size(), info.value_size());
    Ok(Described { id: info.id(), kind, entries: info.max_entries(), key, value, memory })
}
