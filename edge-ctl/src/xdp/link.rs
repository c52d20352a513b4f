//! One pinned link between a program and an interface.

use std::path::Path;

use aya::{
    Ebpf,
    programs::{
        Xdp, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
        xdp::XdpLink,
    },
};

use super::{
    XdpError,
    sys::{self, LinkEnds},
};
use crate::{
    bpf::{self, BpfError},
    config::AttachMode,
    net,
};

/// The program `name` of a loaded object, accepted by the kernel.
pub(super) fn load<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, XdpError> {
    let program = program(object, name)?;
    program.load().map_err(|source| XdpError::Program { name, source: Box::new(source) })?;
    Ok(program)
}

/// The program `name` of an object.
pub(super) fn program<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, XdpError> {
    let missing = XdpError::NotInObject(name);
    object.program_mut(name).and_then(|program| program.try_into().ok()).ok_or(missing)
}

/// The index of an interface.
pub(crate) fn interface_index(interface: &str) -> Result<u32, XdpError> {
    let index = net::index_of(interface);
    let index = index.map_err(|source| XdpError::Interface { interface: interface.to_owned(), source })?;
    index.ok_or_else(|| XdpError::NoInterface(interface.to_owned()))
}

/// Attaches the program by a new link that is pinned at `path`, so that it stays when this process ends. A previous pin
/// is removed once the new link is in place.
pub(super) fn create(program: &mut Xdp, interface: &str, mode: AttachMode, path: &Path) -> Result<(), XdpError> {
    let index = interface_index(interface)?;
    let xdp_mode = match mode {
        AttachMode::Native => XdpMode::Driver,
        AttachMode::Generic => XdpMode::Skb,
    };
    let refused = |source| XdpError::refused(source, interface, mode);
    let id = program.attach_to_if_index(index, xdp_mode).map_err(refused)?;
    let link = program.take_link(id).map_err(refused)?;
    let link = FdLink::try_from(link).map_err(|source| unusable(interface, source))?;
    remove(path)?;
    link.pin(path).map_err(|source| BpfError::Pin { path: path.to_owned(), source })?;
    Ok(())
}

/// Replaces the program in the link pinned at `path`, between two packets.
pub(super) fn replace(program: &mut Xdp, interface: &str, mode: AttachMode, path: &Path) -> Result<(), XdpError> {
    let link = PinnedLink::from_pin(path).map_err(|source| unusable(interface, source))?;
    let link = XdpLink::try_from(FdLink::from(link)).map_err(|source| unusable(interface, source))?;
    let refused = |source| XdpError::refused(source, interface, mode);
    let id = program.attach_to_link(link).map_err(refused)?;
    // Closes our descriptor; the pin keeps the link.
    program.take_link(id).map_err(refused)?;
    Ok(())
}

/// Kernel ID of the program in the link pinned at `path`; `None` if there is no such pin.
pub(super) fn program_id(path: &Path) -> Result<Option<u32>, BpfError> {
    Ok(ends(path)?.map(|ends| ends.program))
}

/// Interface and program of the link pinned at `path`; `None` if there is no such pin.
pub(super) fn ends(path: &Path) -> Result<Option<LinkEnds>, BpfError> {
    sys::link_ends(path).map_err(|source| BpfError::file(path, source))
}

/// Whether the link pinned at `path` is attached to the interface with this index.
pub(super) fn is_attached_to(path: &Path, index: u32) -> Result<bool, BpfError> {
    Ok(ends(path)?.is_some_and(|ends| ends.interface == index))
}

/// Whether the link pinned at `path` is attached to an interface that still exists.
pub(super) fn is_attached(path: &Path) -> Result<bool, BpfError> {
    Ok(ends(path)?.is_some_and(|ends| ends.interface != 0))
}

/// Detaches and removes a pinned link; true if it existed.
pub(super) fn remove(path: &Path) -> Result<bool, BpfError> {
    sys::detach_link(path).map_err(|source| BpfError::file(path, source))?;
    bpf::remove_file(path)
}

fn unusable(interface: &str, source: LinkError) -> XdpError {
    XdpError::Link { interface: interface.to_owned(), source }
}
