//! The load balancer's program: loads it onto the pinned maps, and attaches it to interfaces.

use aya::{EbpfLoader, programs::Xdp};
use aya_obj::programs::XdpAttachType;
use edge_common::abi::program;

use super::{
    OBJECT, XdpError,
    calls::{self, Calls, Loaded},
    edge_links, features, link,
    sys::LinkEnds,
    traced, traces,
};
use crate::{
    bpf::{self, BpfError, PinDir, PinnedMaps},
    config::AttachMode,
};

/// The program that this process has loaded. It holds two descriptors; the kernel keeps the maps.
pub(crate) struct EdgeProgram {
    pins: PinDir,
    program: Xdp,
    /// The program's kernel ID.
    number: u32,
    calls: Calls,
}

impl EdgeProgram {
    /// Loads the embedded program onto the pinned maps, and pins it.
    ///
    /// # Errors
    /// If the object does not fit the maps, or the kernel refuses the program; attached programs stay. Also if everything
    /// was taken down meanwhile: no pin is made then.
    pub(crate) fn load(maps: &PinnedMaps) -> Result<Self, XdpError> {
        let pins = maps.pins();
        let loaded = Self::verified(maps)?;
        Self::pinned(pins, loaded)
    }

    /// Makes the directories of the pins, and loads the program, which may take seconds.
    pub(super) fn verified(maps: &PinnedMaps) -> Result<Loaded, XdpError> {
        features::check_kernel()?;
        bpf::check_object(OBJECT, maps.capacity())?;
        let pins = maps.pins();
        bpf::make_dir(&pins.programs())?;
        bpf::make_dir(&pins.calls())?;
        calls::load(maps.capacity(), || {
            let mut loader = EbpfLoader::new();
            for name in maps.names() {
                loader.map_pin_path(name, pins.map(name));
            }
            loader
        })
    }

    /// Pins a loaded program. No directory is made here: a takedown that ends during the load has removed them.
    pub(super) fn pinned(pins: &PinDir, (mut object, called): Loaded) -> Result<Self, XdpError> {
        let loaded = link::program(&mut object, program::EDGE)?;
        let new = pins.programs().join("edge-unfinished");
        bpf::remove_file(&new)?;
        loaded.pin(&new).map_err(|source| BpfError::Pin { path: new.clone(), source })?;
        bpf::rename(&new, &pins.program())?;
        traces::follow(&mut object);
        let unusable = |source| XdpError::Program { name: program::EDGE, source: Box::new(source) };
        let program = Xdp::from_pin(pins.program(), XdpAttachType::Interface).map_err(unusable)?;
        let number = program.info().map_err(unusable)?.id();
        // Before the program is attached.
        let calls = Calls::pin(called, pins, number)?;
        Ok(Self { pins: pins.clone(), program, number, calls })
    }

    /// Restores the pins that the attached program needs, if they were removed.
    pub(crate) fn keep(&self) -> Result<(), XdpError> {
        self.calls.keep()
    }

    /// Whether this program is attached to the interface in this mode, or for the time of a trace the tracer's program in
    /// its place.
    ///
    /// # Errors
    /// If there is no such interface, or it can't be looked up.
    pub(crate) fn is_attached(&self, interface: &str, mode: AttachMode) -> Result<bool, XdpError> {
        let wanted = LinkEnds { interface: link::interface_index(interface)?, program: self.number };
        match link::ends(&edge_links::path(&self.pins, interface, mode))? {
            Some(ends) if ends == wanted => Ok(true),
            Some(ends) => Ok(ends.interface == wanted.interface && traced::is_tracers(&self.pins, ends.program)?),
            None => Ok(false),
        }
    }

    /// Whether no interface has another program of these pins, which may use other maps.
    ///
    /// # Errors
    /// If that can't be looked up.
    pub(crate) fn is_only_one(&self) -> Result<bool, XdpError> {
        Ok(!edge_links::has_other_program(&self.pins, self.number)?)
    }

    /// Attaches the program to an interface, so that it stays when this process ends. In a link that is pinned already,
    /// the program is replaced between two packets; only another mode, or a recreated interface, needs a new link. A link follows its interface to another name.
    ///
    /// # Errors
    /// If there is no such interface, its driver refuses the mode, or another XDP program is attached to it. The
    /// previous attachment stays.
    pub(crate) fn attach(&mut self, interface: &str, mode: AttachMode) -> Result<(), XdpError> {
        let index = link::interface_index(interface)?;
        bpf::make_dir(&self.pins.links())?;
        for pins in self.pins.others()?.iter().chain([&self.pins]) {
            edge_links::follow_names(pins)?;
        }
        let other = match mode {
            AttachMode::Native => AttachMode::Generic,
            AttachMode::Generic => AttachMode::Native,
        };
        let path = edge_links::path(&self.pins, interface, mode);
        let before = edge_links::path(&self.pins, interface, other);
        // All lookups precede the first removal.
        let (stands, changes_mode) = (link::is_attached_to(&path, index)?, link::is_attached_to(&before, index)?);
        if changes_mode {
            // An interface has one mode at a time: only here the old link goes before the new one is in place.
            link::remove(&before)?;
            let result = link::create(&mut self.program, interface, mode, &path);
            if result.is_err() {
                // If the driver refuses the new mode, the old one is restored; the first error is returned.
                let _unused = link::create(&mut self.program, interface, other, &before);
            }
            return result;
        }
        let of_another = edge_links::of_another(&self.pins, interface, mode, index)?;
        if stands {
            link::replace(&mut self.program, interface, mode, &path)?;
        } else if let Some(of_another) = of_another {
            link::replace(&mut self.program, interface, mode, &of_another)?;
            bpf::rename(&of_another, &path)?;
        } else {
            link::create(&mut self.program, interface, mode, &path)?;
        }
        // A link of a deleted interface.
        link::remove(&before)?;
        traced::forget(&self.pins)?;
        calls::forget(&self.pins, self.number)
    }

    /// Kernel IDs of the maps that the loaded program uses.
    #[cfg(test)]
    pub(super) fn map_ids(&self) -> Vec<u32> {
        self.program.info().and_then(|info| Ok(info.map_ids()?.unwrap_or_default())).expect("loaded")
    }
}

/// Detaches from all interfaces and removes every pin of the load balancer, links first, and the directories. Returns
/// the interfaces. The caller must hold the lock, and end afterwards.
///
/// It also works on pins that [`PinnedMaps::open`] refuses.
pub(crate) fn detach_all(pins: &PinDir) -> Result<Vec<String>, XdpError> {
    let mut interfaces = Vec::new();
    for pinned in edge_links::all(pins)? {
        link::remove(&pinned.path)?;
        interfaces.push(pinned.interface);
    }
    bpf::remove_dir(&pins.links())?;
    bpf::remove_dir(&pins.calls())?;
    make_room(pins)?;
    pins.remove_directories()?;
    interfaces.dedup();
    Ok(interfaces)
}

/// Removes the pins of maps and programs. An attached program goes on, with its maps.
pub(crate) fn make_room(pins: &PinDir) -> Result<(), XdpError> {
    bpf::remove_dir(&pins.programs())?;
    bpf::remove_dir(&pins.rehearsal())?;
    Ok(pins.remove_maps()?)
}
