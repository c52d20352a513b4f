//! Pins of the edge program's links: one per interface and mode.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{XdpError, link};
use crate::{
    bpf::{self, BpfError, PinDir, if_present, interface_file_name, interface_of},
    config::AttachMode,
    net::{self, attached_xdp},
};

/// The thread's own network namespace.
const HERE: &str = "/proc/thread-self/ns/net";

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EdgeLink {
    pub(super) interface: String,
    pub(super) mode: AttachMode,
    pub(super) path: PathBuf,
}

/// Gives each pinned link the name that its interface has now.
///
/// # Errors
/// If an interface can't be looked up, or a pin not be renamed.
pub(super) fn follow_names(pins: &PinDir) -> Result<(), XdpError> {
    // Each round gives one more link its name for good.
    for _ in 0..all(pins)?.len() {
        let Some((from, to)) = misnamed(pins)? else { break };
        bpf::swap_into(&from, &to)?;
    }
    Ok(())
}

/// The path of a link whose interface has another name by now, and the path that it should have.
fn misnamed(pins: &PinDir) -> Result<Option<(PathBuf, PathBuf)>, XdpError> {
    for EdgeLink { interface, mode, path: pinned } in all(pins)? {
        let Some(ends) = link::ends(&pinned)?.filter(|ends| ends.interface != 0) else { continue };
        let name = net::name_of(ends.interface);
        let name = name.map_err(|source| XdpError::Interface { interface: interface.clone(), source })?;
        let Some(name) = name.filter(|name| *name != interface) else { continue };
        // An interface in another network namespace may have the index of one here.
        if attached_xdp(&name)?.is_some_and(|attached| attached.program == ends.program) {
            return Ok(Some((pinned, path(pins, &name, mode))));
        }
    }
    Ok(None)
}

/// The path of an interface's pinned link.
pub(super) fn path(pins: &PinDir, interface: &str, mode: AttachMode) -> PathBuf {
    pins.links().join(name(interface, mode))
}

/// All pinned links.
pub(super) fn all(pins: &PinDir) -> Result<Vec<EdgeLink>, BpfError> {
    let directory = pins.links();
    let failed = |source| BpfError::file(&directory, source);
    let Some(entries) = if_present(fs::read_dir(&directory)).map_err(failed)? else { return Ok(Vec::new()) };
    let mut links: Vec<_> = entries
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?
        .into_iter()
        .filter_map(|entry| {
            let (interface, mode) = target(entry.file_name().to_str()?)?;
            Some(EdgeLink { interface, mode, path: entry.path() })
        })
        .collect();
    links.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(links)
}

/// The interfaces that the program is attached to.
///
/// # Errors
/// If they cannot be looked up; there may be some then.
pub(crate) fn attached(pins: &PinDir) -> Result<Vec<String>, BpfError> {
    attached_besides(pins, |_| false)
}

/// As [`attached`], without the interfaces that `is_known` accepts, whose links are not looked up.
pub(crate) fn attached_besides(pins: &PinDir, is_known: impl Fn(&str) -> bool) -> Result<Vec<String>, BpfError> {
    let mut interfaces = Vec::new();
    for pinned in all(pins)?.into_iter().filter(|pinned| !is_known(&pinned.interface)) {
        if link::is_attached(&pinned.path)? {
            interfaces.push(pinned.interface);
        }
    }
    Ok(interfaces)
}

/// Whether a program other than the one with this kernel ID is attached to any interface.
pub(super) fn has_other_program(pins: &PinDir, number: u32) -> Result<bool, BpfError> {
    for pinned in all(pins)? {
        if link::ends(&pinned.path)?.is_some_and(|ends| ends.interface != 0 && ends.program != number) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the program with this kernel ID is attached to any interface.
pub(super) fn has_program(pins: &PinDir, number: u32) -> Result<bool, BpfError> {
    for pinned in all(pins)? {
        if link::ends(&pinned.path)?.is_some_and(|ends| ends.interface != 0 && ends.program == number) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The interfaces that another version's program, with pins under the same root, is attached to.
pub(crate) fn attached_by_others(pins: &PinDir) -> Result<Vec<String>, BpfError> {
    let others: Result<Vec<_>, _> = pins.others()?.iter().map(attached).collect();
    Ok(others?.concat())
}

/// Path of another version's link on the interface with this index, in this mode.
pub(super) fn of_another(
    pins: &PinDir,
    interface: &str,
    mode: AttachMode,
    index: u32,
) -> Result<Option<PathBuf>, BpfError> {
    for other in pins.others()? {
        let path = path(&other, interface, mode);
        if link::is_attached_to(&path, index)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// As [`attached`], but in this network namespace an interface must still have the name of its pin: after a rename, the
/// program under the old name does not count.
///
/// # Errors
/// As [`attached`].
pub(crate) fn attached_here(pins: &PinDir) -> Result<Vec<String>, BpfError> {
    let here = fs::metadata(HERE).map_err(|source| BpfError::file(Path::new(HERE), source))?.ino();
    if pins.network()?.is_some_and(|network| network != here) {
        return attached(pins);
    }
    let mut interfaces = Vec::new();
    for pinned in all(pins)? {
        let index = net::index_of(&pinned.interface);
        let index = index.map_err(|source| BpfError::file(&pinned.path, source))?;
        let Some(index) = index else { continue };
        if link::is_attached_to(&pinned.path, index)? {
            interfaces.push(pinned.interface);
        }
    }
    Ok(interfaces)
}

/// Detaches from one interface. Returns whether the program was attached.
pub(crate) fn detach_interface(pins: &PinDir, interface: &str) -> Result<bool, XdpError> {
    let mut found = false;
    for mode in [AttachMode::Native, AttachMode::Generic] {
        found |= link::remove(&path(pins, interface, mode))?;
    }
    Ok(found)
}

/// Name of a link's pin. It includes the mode, since the mode of a link can be neither read nor changed.
fn name(interface: &str, mode: AttachMode) -> String {
    let name = interface_file_name(interface);
    match mode {
        AttachMode::Native => name,
        AttachMode::Generic => name + ":g",
    }
}

fn target(name: &str) -> Option<(String, AttachMode)> {
    let (name, mode) = match name.strip_suffix(":g") {
        Some(name) => (name, AttachMode::Generic),
        None => (name, AttachMode::Native),
    };
    let interface = interface_of(name);
    (!interface.contains(':')).then_some((interface, mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_and_mode_has_a_pin_of_its_own() {
        for interface in ["eth0", "eth0.100", "d", "g", "a.g", "a.."] {
            for mode in [AttachMode::Native, AttachMode::Generic] {
                let name = name(interface, mode);
                assert!(!name.contains('.'), "{name}");
                assert_eq!(target(&name), Some((interface.to_owned(), mode)), "{name}");
            }
        }
    }
}
