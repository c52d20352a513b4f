//! The program and its links: loaded onto the pinned maps, attached, replaced, detached.

use std::{fs, path::Path};

use aya::{
    EbpfLoader,
    programs::{
        ProgramError, Xdp, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
        xdp::XdpLink,
    },
};
use nix::{errno::Errno, net::if_::if_nametoindex};

use edge_common::abi::program;

use super::{Kernel, KernelError, PinDir, features, pins, spec, sys, traces};
use crate::config::AttachMode;

/// The eBPF object: the load balancer and the decapsulation program.
pub(crate) const OBJECT: &[u8] = aya::include_bytes_aligned!(env!("EDGE_OBJECT"));

impl Kernel {
    /// Loads the embedded program onto the pinned maps, and pins it.
    ///
    /// # Errors
    /// When the object does not fit the maps, or the kernel refuses the program; what is attached stays.
    pub(crate) fn load_program(&mut self) -> Result<(), KernelError> {
        spec::check_object(OBJECT, &self.capacity)?;
        let mut loader = EbpfLoader::new();
        for spec in spec::all(&self.capacity) {
            loader.map_pin_path(spec.name, self.pins.map(spec.name));
        }
        let mut object = loader.load(&features::object()).map_err(|source| KernelError::Load(Box::new(source)))?;
        let xdp = edge(&mut object)?;
        let refused = |source| KernelError::Program { name: program::EDGE, source: Box::new(source) };
        xdp.load().map_err(refused)?;

        let (path, new) = (self.pins.program(), self.pins.programs().join("edge-unfinished"));
        pins::make_dir(&self.pins.programs())?;
        pins::remove_file(&new)?;
        xdp.pin(&new).map_err(|source| KernelError::Pin { path: new.clone(), source })?;
        fs::rename(&new, &path).map_err(|source| KernelError::File { path, source })?;
        traces::follow(&mut object);
        self.program = Some(object);
        Ok(())
    }

    /// Attaches the loaded program to an interface, so that it stays when this process ends. Where a link is pinned
    /// already its program is replaced, between two packets; only another mode, or an interface that was made anew,
    /// needs a new link.
    ///
    /// # Errors
    /// When there is no such interface, its driver refuses the mode, or another XDP program is attached to it. What was
    /// attached before stays.
    pub(crate) fn attach(&mut self, interface: &str, mode: AttachMode) -> Result<(), KernelError> {
        let index =
            if_nametoindex(interface).map_err(|_| KernelError::NoInterface { interface: interface.to_owned() })?;
        let xdp = edge(self.program.as_mut().ok_or(KernelError::NotLoaded)?)?;
        pins::make_dir(&self.pins.links())?;

        let other = match mode {
            AttachMode::Native => AttachMode::Generic,
            AttachMode::Generic => AttachMode::Native,
        };
        // The kernel has one mode on an interface at a time.
        let before = self.pins.link(interface, other);
        let changes_mode = sys::link_interface(&before).is_ok_and(|attached| attached == index);
        pins::remove_link(&before)?;
        let path = self.pins.link(interface, mode);
        if path.exists() {
            if sys::link_interface(&path).is_ok_and(|attached| attached == index) {
                return replace(xdp, &path, interface);
            }
            pins::remove_link(&path)?;
        }
        let result = new_link(xdp, interface, index, mode, &path);
        if result.is_err() && changes_mode {
            // A mode that the driver refuses must not cost the one that worked; the first error is the one to tell.
            let _unused = new_link(xdp, interface, index, other, &before);
        }
        result
    }

    /// The interfaces that the program is attached to.
    pub(crate) fn attached(&self) -> Vec<String> {
        let links = self.pins.pinned_links().unwrap_or_default();
        let attached = links.into_iter().filter(|(_, _, path)| sys::link_interface(path).is_ok_and(|index| index != 0));
        attached.map(|(interface, ..)| interface).collect()
    }

    /// Detaches from one interface. Returns whether it was attached.
    pub(crate) fn detach_interface(&mut self, interface: &str) -> Result<bool, KernelError> {
        let mut found = false;
        for mode in [AttachMode::Native, AttachMode::Generic] {
            let path = self.pins.link(interface, mode);
            found |= path.exists();
            pins::remove_link(&path)?;
        }
        Ok(found)
    }

    /// Detaches from all interfaces and removes everything that is pinned. Returns the interfaces.
    ///
    /// It works on pins that [`open`](Self::open) refuses, too.
    pub(crate) fn detach(pins: &PinDir) -> Result<Vec<String>, KernelError> {
        pins.remove_all()
    }
}

fn edge(object: &mut aya::Ebpf) -> Result<&mut Xdp, KernelError> {
    let missing = KernelError::NoProgram { name: program::EDGE };
    object.program_mut(program::EDGE).and_then(|program| program.try_into().ok()).ok_or(missing)
}

/// Attaches the program by a link of its own, pinned at `path`.
fn new_link(xdp: &mut Xdp, interface: &str, index: u32, mode: AttachMode, path: &Path) -> Result<(), KernelError> {
    let mode = match mode {
        AttachMode::Native => XdpMode::Driver,
        AttachMode::Generic => XdpMode::Skb,
    };
    let id = xdp.attach_to_if_index(index, mode).map_err(|source| refused(interface, source))?;
    let link = xdp.take_link(id).map_err(|source| refused(interface, source))?;
    let link = FdLink::try_from(link).map_err(|source| no_link(interface, source))?;
    link.pin(path).map_err(|source| KernelError::Pin { path: path.to_owned(), source })?;
    Ok(())
}

/// Puts the program into the link pinned at `path`.
fn replace(xdp: &mut Xdp, path: &Path, interface: &str) -> Result<(), KernelError> {
    let link = PinnedLink::from_pin(path).map_err(|source| no_link(interface, source))?;
    let link = XdpLink::try_from(FdLink::from(link)).map_err(|source| no_link(interface, source))?;
    let id = xdp.attach_to_link(link).map_err(|source| refused(interface, source))?;
    // Closes our descriptor; the pin holds the link.
    xdp.take_link(id).map_err(|source| refused(interface, source))?;
    Ok(())
}

fn no_link(interface: &str, source: LinkError) -> KernelError {
    KernelError::Link { interface: interface.to_owned(), source }
}

fn refused(interface: &str, source: ProgramError) -> KernelError {
    let errno = match &source {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error().map(Errno::from_raw),
        _ => None,
    };
    let hint = match errno {
        Some(Errno::EOPNOTSUPP) => ": its driver has no native XDP; write mode = \"generic\"",
        Some(Errno::EBUSY) => {
            ": another XDP program is attached to it; detach that first, by `edge-ctl detach` of its version if it is ours"
        }
        Some(Errno::EPERM) => ": run it as root",
        _ => "",
    };
    KernelError::Attach { interface: interface.to_owned(), hint, source: Box::new(source) }
}
