//! The decapsulation program of one interface: attach, replace, inspect, detach.
//!
//! Each run makes complete new maps of addresses and a new program, and activates all with one replacement in the pinned
//! link: no packet meets the new program with the old addresses.

use std::{
    net::IpAddr,
    thread::sleep,
    time::{Duration, Instant},
};

use aya::{Ebpf, EbpfLoader};
use edge_common::abi::{map, program};

use super::{
    DecapPins, XdpError,
    decap_maps::{self, Accepted, Counters, Roles},
    decap_mss::{self, MssPlan},
    link,
};
use crate::{
    bpf,
    config::AttachMode,
    net::{AttachedXdp, HostAddresses, NetError, attached_xdp, host_addresses},
};

/// Minimum number of entries of each map of addresses.
const ENTRIES: u32 = 256;
/// The maps that each run makes anew.
const MADE_ANEW: [&str; 5] =
    [map::DECAP_ADDRESSES, map::DECAP_EDGES, map::DECAP_VIPS, map::DECAP_SETTINGS, map::MSS_LIMITS];
/// How long the kernel may take to release the link.
const PATIENCE: Duration = Duration::from_secs(2);

/// Result of [`attach`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// An earlier decapsulation program was replaced.
    pub(crate) replaced: bool,
    /// The counters of the earlier program could not be kept.
    pub(crate) counters_restarted: bool,
}

/// The decapsulation that is attached to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decapsulation {
    pub(crate) mode: AttachMode,
    pub(crate) accepted: Accepted,
    /// Packets by exit number, over all CPUs.
    pub(crate) packets: Vec<u64>,
    /// The limits on SYN-ACKs, and packets by exit number; `None` if SYN-ACKs are not changed.
    pub(crate) mss: Option<(MssPlan, Vec<u64>)>,
}

/// Attaches the program in `object` to the interface, or replaces the present one. Completes the destinations of tunnel
/// packets in `accepted`. Limits SYN-ACKs as in `mss`.
pub(crate) fn attach(
    pins: &DecapPins,
    accepted: &mut Accepted,
    mss: Option<&MssPlan>,
    mode: AttachMode,
    object: &[u8],
) -> Result<Done, XdpError> {
    let interface = pins.interface();
    // Everything that can be refused is checked before anything is changed.
    let present = attached_xdp(interface)?;
    if let Some(other) = present.filter(|_| matches!(is_ours(pins, present), Ok(false))) {
        pins.follow_name(other.program)?;
    }
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
    let host = host_addresses()?;
    accepted.complete(&host)?;
    let roles = decap_maps::roles(accepted, &host.all);
    let _lock = pins.lock()?;
    let result = attach_locked(pins, &roles, accepted, mss, mode, object, replaces);
    if result.is_err() {
        for name in MADE_ANEW {
            bpf::remove_file(&pins.next(name))?;
        }
        if link::ends(&pins.link())?.is_none() {
            remove_all(pins)?;
        }
    }
    result
}

impl Accepted {
    /// Fills in the destinations of tunnel packets, if none are given.
    pub(crate) fn complete(&mut self, host: &HostAddresses) -> Result<(), XdpError> {
        if self.to.is_empty() {
            let is_vip = |address: &IpAddr| self.vips.iter().any(|vips| vips.contains(*address));
            self.to = host.global.iter().copied().filter(|address| !is_vip(address)).collect();
        }
        if self.to.is_empty() { Err(XdpError::NoEndpoint) } else { Ok(()) }
    }
}

fn attach_locked(
    pins: &DecapPins,
    roles: &Roles,
    accepted: &Accepted,
    mss: Option<&MssPlan>,
    mode: AttachMode,
    object: &[u8],
    replaces: bool,
) -> Result<Done, XdpError> {
    let counters_restarted = Counters::DECAP.keep_if_fit(&pins.exits())?;
    Counters::MSS.keep_if_fit(&pins.mss_exits())?;
    let edges = decap_maps::prefixes_of_edges(accepted);
    let mut object = load(object, pins, [roles.len(), edges.len(), accepted.vips.len()])?;
    decap_maps::write_roles(&mut object, roles, &pins.next(map::DECAP_ADDRESSES))?;
    for (name, prefixes) in [(map::DECAP_EDGES, &edges), (map::DECAP_VIPS, &accepted.vips)] {
        decap_maps::write_prefixes(&mut object, name, prefixes, &pins.next(name))?;
    }
    decap_maps::write_settings(&mut object, accepted, &pins.next(map::DECAP_SETTINGS))?;
    decap_mss::attach(&mut object, pins, mss)?;
    let program = link::load(&mut object, program::DECAP)?;
    if replaces {
        link::replace(program, pins.interface(), mode, &pins.link())?;
    } else {
        // A link that is left at this path belongs to a deleted interface.
        link::create(program, pins.interface(), mode, &pins.link())?;
    }
    for name in MADE_ANEW {
        bpf::rename(&pins.next(name), &pins.current(name))?;
    }
    Ok(Done { replaced: replaces, counters_restarted })
}

/// Detaches the program from the interface and waits for completion; false if there was no program of ours.
pub(crate) fn detach(pins: &DecapPins) -> Result<bool, XdpError> {
    let present = attached_xdp(pins.interface()).or_else(|error| match error {
        // The pins of a deleted interface can be removed.
        NetError::NoInterface(_) => Ok(None),
        error => Err(error),
    })?;
    let was_attached = is_ours(pins, present)?;
    remove_all(pins)?;
    // The kernel releases a link some time after its last reference is gone.
    let started = Instant::now();
    while was_attached && attached_xdp(pins.interface())? == present {
        if started.elapsed() > PATIENCE {
            return Err(XdpError::StillAttached { interface: pins.interface().to_owned() });
        }
        sleep(Duration::from_millis(5));
    }
    Ok(was_attached)
}

fn remove_all(pins: &DecapPins) -> Result<(), XdpError> {
    decap_mss::detach_but(pins, &[])?;
    Ok(pins.remove_all()?)
}

/// The decapsulation that is attached to the interface.
pub(crate) fn look(pins: &DecapPins) -> Result<Decapsulation, XdpError> {
    match attached_xdp(pins.interface())? {
        Some(present) if is_ours(pins, Some(present))? => Ok(Decapsulation {
            mode: mode_of(present),
            accepted: decap_maps::read_accepted(pins)?,
            packets: Counters::DECAP.read(&pins.exits())?,
            mss: decap_mss::look(pins)?,
        }),
        _ => Err(XdpError::NotAttached { interface: pins.interface().to_owned() }),
    }
}

/// Whether the program on the interface is attached by the pinned link.
fn is_ours(pins: &DecapPins, present: Option<AttachedXdp>) -> Result<bool, XdpError> {
    let Some(present) = present else { return Ok(false) };
    Ok(link::program_id(&pins.link())? == Some(present.program))
}

const fn mode_of(attached: AttachedXdp) -> AttachMode {
    if attached.generic { AttachMode::Generic } else { AttachMode::Native }
}

fn load(object: &[u8], pins: &DecapPins, entries: [usize; 3]) -> Result<Ebpf, XdpError> {
    let capacity = |entries| u32::try_from(entries).unwrap_or(u32::MAX).max(ENTRIES);
    let mut loader = EbpfLoader::new();
    let (exits, mss_exits) = (pins.exits(), pins.mss_exits());
    loader.map_pin_path(map::DECAP_EXITS, exits).map_pin_path(map::MSS_EXITS, mss_exits);
    for (name, entries) in [map::DECAP_ADDRESSES, map::DECAP_EDGES, map::DECAP_VIPS].into_iter().zip(entries) {
        loader.map_max_entries(name, capacity(entries));
    }
    loader.load(object).map_err(XdpError::not_loaded)
}
