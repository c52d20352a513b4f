//! The decapsulation program of one interface: attached, replaced, looked at, detached.
//!
//! A run makes new sources and a new program, complete, and puts both to work with one replacement in the pinned link:
//! no packet meets the new program with the old sources.

use std::{
    net::IpAddr,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use aya::{Ebpf, EbpfLoader};
use edge_common::abi::{map, program};

use super::{DecapPins, XdpError, decap_maps, link};
use crate::{
    bpf,
    config::AttachMode,
    net::{AttachedXdp, NetError, attached_xdp},
};

/// Room for at least so many edges.
const SOURCES: u32 = 256;
/// How long the kernel may take to let go of the link.
const PATIENCE: Duration = Duration::from_secs(2);

/// What [`attach`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// An earlier program of ours was replaced.
    pub(crate) replaced: bool,
    /// The earlier program's counters could not be kept.
    pub(crate) counters_restarted: bool,
}

/// The decapsulation that is attached to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decapsulation {
    pub(crate) mode: AttachMode,
    /// In ascending order.
    pub(crate) from: Vec<IpAddr>,
    /// By number of exit, over all CPUs.
    pub(crate) packets: Vec<u64>,
}

/// Attaches the program in `object` to the interface, taking packets from `sources`, or replaces the one that is there.
pub(crate) fn attach(pins: &DecapPins, sources: &[IpAddr], mode: AttachMode, object: &[u8]) -> Result<Done, XdpError> {
    let interface = pins.interface();
    // Everything that can be refused is refused before anything is changed.
    let present = attached_xdp(interface)?;
    let replaces = is_ours(pins, present)?;
    if let Some(other) = present {
        let attached = mode_of(other);
        if !replaces {
            return Err(XdpError::Occupied { interface: interface.to_owned(), other });
        }
        if attached != mode {
            return Err(XdpError::OtherMode { interface: interface.to_owned(), attached });
        }
    }
    let _lock = pins.lock()?;
    let result = attach_locked(pins, sources, mode, object, replaces);
    if result.is_err() {
        bpf::remove_file(&pins.next_sources())?;
        if !pins.link().exists() {
            pins.remove_all()?;
        }
    }
    result
}

fn attach_locked(
    pins: &DecapPins,
    sources: &[IpAddr],
    mode: AttachMode,
    object: &[u8],
    replaces: bool,
) -> Result<Done, XdpError> {
    let counters_restarted = !decap_maps::exits_fit(&pins.exits())? && bpf::remove_file(&pins.exits())?;
    let mut object = load(object, &pins.exits(), sources.len())?;
    decap_maps::write_sources(&mut object, sources, &pins.next_sources())?;
    let program = link::load(&mut object, program::DECAP)?;
    if replaces {
        link::replace(program, pins.interface(), mode, &pins.link())?;
    } else {
        // A link that is left here belongs to an interface that is gone.
        link::remove(&pins.link())?;
        link::create(program, pins.interface(), mode, &pins.link())?;
    }
    bpf::rename(&pins.next_sources(), &pins.sources())?;
    Ok(Done { replaced: replaces, counters_restarted })
}

/// Takes the program off the interface, and waits until it is off; false when there was none of ours.
pub(crate) fn detach(pins: &DecapPins) -> Result<bool, XdpError> {
    let present = attached_xdp(pins.interface()).or_else(|error| match error {
        // The pins of an interface that is gone can be removed.
        NetError::NoInterface(_) => Ok(None),
        error => Err(error),
    })?;
    let was_attached = is_ours(pins, present)?;
    pins.remove_all()?;
    // The kernel lets go of a link some time after its last name is gone.
    let started = Instant::now();
    while was_attached && attached_xdp(pins.interface())? == present {
        if started.elapsed() > PATIENCE {
            return Err(XdpError::StillAttached { interface: pins.interface().to_owned() });
        }
        sleep(Duration::from_millis(5));
    }
    Ok(was_attached)
}

/// The decapsulation that is attached to the interface.
pub(crate) fn look(pins: &DecapPins) -> Result<Decapsulation, XdpError> {
    match attached_xdp(pins.interface())? {
        Some(present) if is_ours(pins, Some(present))? => Ok(Decapsulation {
            mode: mode_of(present),
            from: decap_maps::read_sources(&pins.sources())?,
            packets: decap_maps::read_exits(&pins.exits())?,
        }),
        _ => Err(XdpError::NotAttached { interface: pins.interface().to_owned() }),
    }
}

/// Whether the program on the interface is there by the pinned link.
fn is_ours(pins: &DecapPins, present: Option<AttachedXdp>) -> Result<bool, XdpError> {
    let Some(present) = present else { return Ok(false) };
    Ok(link::program_id(pins.interface(), &pins.link())? == Some(present.program))
}

const fn mode_of(attached: AttachedXdp) -> AttachMode {
    if attached.generic { AttachMode::Generic } else { AttachMode::Native }
}

fn load(object: &[u8], exits: &Path, sources: usize) -> Result<Ebpf, XdpError> {
    let capacity = u32::try_from(sources).unwrap_or(u32::MAX).max(SOURCES);
    let mut loader = EbpfLoader::new();
    loader.map_pin_path(map::DECAP_EXITS, exits).map_max_entries(map::DECAP_SOURCES, capacity);
    loader.load(object).map_err(XdpError::not_loaded)
}
