//! Loading, attaching, replacing and detaching the decapsulation program.

use std::{
    io,
    net::IpAddr,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError, MapInfo, MapType, PerCpuArray},
    pin::PinError as AyaPinError,
    programs::{
        ProgramError, Xdp, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
        xdp::{XdpError, XdpLink},
    },
};
use edge_common::abi::{DecapExit, map, program};

use super::{
    Mode,
    pins::{PinError, Pins},
};
use crate::{
    kernel::Lacks,
    net::{AttachedXdp, NetError, attached_xdp},
};

/// Edges that a backend can be told of, at the least.
const SOURCES: u32 = 256;
/// How long the kernel may take to let go of the link.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the program could not be attached, detached or looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecapError {
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("can't load the program{}", Lacks::here())]
    Load(#[source] EbpfError),
    #[error("the kernel does not take the program{}", Lacks::here())]
    Verify(#[source] ProgramError),
    #[error("the embedded object has no `{0}`; it was built from other sources than this `edge-ctl`")]
    NotInObject(&'static str),
    #[error("not permitted to {what}\n  do: run it as root, or with CAP_BPF and CAP_NET_ADMIN")]
    NotPermitted { what: &'static str },
    #[error("can't use the map {name}")]
    Map {
        name: &'static str,
        #[source]
        source: MapError,
    },
    #[error("can't pin the map or link at {path}")]
    PinObject {
        path: std::path::PathBuf,
        #[source]
        source: AyaPinError,
    },
    #[error("can't use the pinned link")]
    Link(#[source] LinkError),
    #[error(
        "another XDP program (number {}) is on {interface}, in {} mode\n  do: see whose it is with `bpftool net show \
         dev {interface}` and take it off first", other.program, if other.generic { "generic" } else { "native" }
    )]
    Occupied { interface: String, other: AttachedXdp },
    #[error("another XDP program came upon {0} at this moment\n  do: see whose it is with `bpftool net show dev {0}`")]
    Taken(String),
    #[error("the driver of {0} has no native XDP\n  do: add --mode generic (slower, any driver)")]
    NoNativeXdp(String),
    #[error(
        "the driver of {interface} refuses XDP in {} mode: its MTU or its number of queues is too large for it, or the \
         kernel's log (`dmesg`) says why{}", mode.name(), if *mode == Mode::Native { "\n  do: lower the MTU (`ip link \
         set dev IFACE mtu 1500`), or add --mode generic (slower)" } else { "" }
    )]
    Unfit {
        interface: String,
        mode: Mode,
        #[source]
        source: io::Error,
    },
    #[error(
        "it is attached in {} mode, and a mode can't be changed in place\n  do: edge-ctl decap --interface {interface} \
         --detach, then the same command again; between the two, tunnel packets are not taken", attached.name()
    )]
    OtherMode { interface: String, attached: Mode },
    #[error("can't attach")]
    Attach(#[source] ProgramError),
    #[error(
        "the pins are gone, but the program is still on {0}: another process holds the link open\n  do: find it with \
         `bpftool link show`, whose `pids` name it"
    )]
    StillAttached(String),
    #[error("no decapsulation is attached to {0}\n  do: edge-ctl decap --interface {0} --from ADDR")]
    NotAttached(String),
}

/// What [`attach`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    /// An earlier program of ours was replaced.
    pub replaced: bool,
    /// The earlier program's counters could not be kept.
    pub counters_restarted: bool,
}

/// What is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    pub mode: Mode,
    /// In ascending order.
    pub from: Vec<IpAddr>,
    /// By number of exit, over all CPUs.
    pub packets: Vec<u64>,
}

/// Attaches the program in `object` to the interface, taking packets from `sources`, or replaces the one that is there.
pub(super) fn attach(pins: &Pins, sources: &[IpAddr], mode: Mode, object: &[u8]) -> Result<Done, DecapError> {
    let interface = pins.interface();
    // Whatever can be refused is refused before anything is changed.
    let present = attached_xdp(interface)?;
    let ours = our_link(pins, present)?;
    match (present, &ours) {
        (Some(other), None) => return Err(DecapError::Occupied { interface: interface.to_owned(), other }),
        (Some(AttachedXdp { generic, .. }), Some(_)) if generic != (mode == Mode::Generic) => {
            let attached = if generic { Mode::Generic } else { Mode::Native };
            return Err(DecapError::OtherMode { interface: interface.to_owned(), attached });
        }
        _ => {}
    }
    let _lock = pins.lock()?;
    let result = attach_locked(pins, sources, mode, object, ours);
    if result.is_err() {
        Pins::remove(&pins.next_sources())?;
        if !pins.link().exists() {
            pins.remove_all()?;
        }
    }
    result
}

fn attach_locked(
    pins: &Pins,
    sources: &[IpAddr],
    mode: Mode,
    object: &[u8],
    ours: Option<PinnedLink>,
) -> Result<Done, DecapError> {
    let counters_restarted = !counters_fit(&pins.exits())? && Pins::remove(&pins.exits())?;
    let mut loaded = load(object, &pins.exits(), sources.len())?;
    let map = loaded.map_mut(map::DECAP_SOURCES).ok_or(DecapError::NotInObject(map::DECAP_SOURCES))?;
    fill(map, sources, &pins.next_sources())?;
    let program = loaded.program_mut(program::DECAP).ok_or(DecapError::NotInObject(program::DECAP))?;
    let program: &mut Xdp = program.try_into().map_err(DecapError::Verify)?;
    program.load().map_err(DecapError::Verify)?;

    let replaced = ours.is_some();
    if let Some(link) = ours {
        let link = XdpLink::try_from(FdLink::from(link)).map_err(DecapError::Link)?;
        program.attach_to_link(link).map_err(DecapError::Attach)?;
    } else {
        // A link of ours that is left here is one of an interface that is gone.
        Pins::remove(&pins.link())?;
        pin_new_link(program, pins, mode)?;
    }
    Pins::rename(&pins.next_sources(), &pins.sources())?;
    Ok(Done { replaced, counters_restarted })
}

/// Takes the program off the interface, and waits until it is off; false when there was none of ours.
pub(super) fn detach(pins: &Pins) -> Result<bool, DecapError> {
    let present = attached_xdp(pins.interface()).or_else(|error| match error {
        // What is left of an interface that is gone can be removed.
        NetError::NoInterface(_) => Ok(None),
        error => Err(error),
    })?;
    let was_attached = our_link(pins, present)?.is_some();
    pins.remove_all()?;
    // The kernel lets go of a link some time after its last name is gone.
    let started = Instant::now();
    while was_attached && attached_xdp(pins.interface())? == present {
        if started.elapsed() > PATIENCE {
            return Err(DecapError::StillAttached(pins.interface().to_owned()));
        }
        sleep(Duration::from_millis(5));
    }
    Ok(was_attached)
}

/// What is attached.
pub(super) fn look(pins: &Pins) -> Result<Attached, DecapError> {
    let none = || DecapError::NotAttached(pins.interface().to_owned());
    let present = attached_xdp(pins.interface())?.ok_or_else(none)?;
    our_link(pins, Some(present))?.ok_or_else(none)?;

    let sources = MapData::from_pin(pins.sources()).map_err(in_map(map::DECAP_SOURCES))?;
    let sources = HashMap::<_, [u8; 16], u32>::try_from(Map::HashMap(sources)).map_err(in_map(map::DECAP_SOURCES))?;
    let keys: Result<Vec<[u8; 16]>, _> = sources.keys().collect();
    let keys = keys.map_err(in_map(map::DECAP_SOURCES))?;
    let mut from: Vec<IpAddr> = keys.into_iter().map(|key| IpAddr::from(key).to_canonical()).collect();
    from.sort_unstable();

    let exits = MapData::from_pin(pins.exits()).map_err(in_map(map::DECAP_EXITS))?;
    let exits = PerCpuArray::<_, u64>::try_from(Map::PerCpuArray(exits)).map_err(in_map(map::DECAP_EXITS))?;
    let packets = (0..exits.len().min(DecapExit::COUNT)).map(|exit| Ok(exits.get(&exit, 0)?.iter().sum())).collect();
    let mode = if present.generic { Mode::Generic } else { Mode::Native };
    Ok(Attached { mode, from, packets: Result::map_err(packets, in_map(map::DECAP_EXITS))? })
}

/// The pinned link, if the program that is on the interface is on it by this link.
fn our_link(pins: &Pins, present: Option<AttachedXdp>) -> Result<Option<PinnedLink>, DecapError> {
    let (Some(present), path) = (present, pins.link()) else { return Ok(None) };
    let link = match PinnedLink::from_pin(&path) {
        Ok(link) => FdLink::from(link),
        Err(LinkError::SyscallError(error)) => {
            return match error.io_error.kind() {
                io::ErrorKind::NotFound => Ok(None),
                _ => Err(Pins::failed(&path, error.io_error).into()),
            };
        }
        Err(error) => return Err(DecapError::Link(error)),
    };
    let program = link.info().map_err(DecapError::Link)?.program_id();
    drop(link);
    if program == present.program { PinnedLink::from_pin(&path).map(Some).map_err(DecapError::Link) } else { Ok(None) }
}

/// Whether counters of the shape that the program expects are pinned at `path`: aya takes a pin of any shape.
fn counters_fit(path: &Path) -> Result<bool, DecapError> {
    if !path.exists() {
        return Ok(false);
    }
    let info = MapInfo::from_pin(path).map_err(in_map(map::DECAP_EXITS))?;
    let shape = (info.map_type().ok(), info.key_size(), info.value_size(), info.max_entries(), info.map_flags());
    Ok(shape == (Some(MapType::PerCpuArray), 4, 8, DecapExit::COUNT, 0))
}

fn load(object: &[u8], exits: &Path, sources: usize) -> Result<Ebpf, DecapError> {
    let capacity = u32::try_from(sources).unwrap_or(u32::MAX).max(SOURCES);
    let mut loader = EbpfLoader::new();
    loader.map_pin_path(map::DECAP_EXITS, exits).map_max_entries(map::DECAP_SOURCES, capacity);
    loader.load(object).map_err(|error| match &error {
        EbpfError::MapError(MapError::CreateError { io_error, .. })
            if io_error.kind() == io::ErrorKind::PermissionDenied =>
        {
            DecapError::NotPermitted { what: "make BPF maps" }
        }
        _ => DecapError::Load(error),
    })
}

/// Writes `sources` into `map`, and pins it at `path`.
fn fill(map: &mut Map, sources: &[IpAddr], path: &Path) -> Result<(), DecapError> {
    Pins::remove(path)?;
    let mut known = HashMap::<_, [u8; 16], u32>::try_from(&mut *map).map_err(in_map(map::DECAP_SOURCES))?;
    for source in sources {
        known.insert(key(*source), 1, 0).map_err(in_map(map::DECAP_SOURCES))?;
    }
    map.pin(path).map_err(|source| DecapError::PinObject { path: path.to_owned(), source })
}

/// An address as the map's key: IPv6, IPv4 as `::ffff:a.b.c.d`.
fn key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn pin_new_link(program: &mut Xdp, pins: &Pins, mode: Mode) -> Result<(), DecapError> {
    let flags = match mode {
        Mode::Native => XdpMode::Driver,
        Mode::Generic => XdpMode::Skb,
    };
    let id = program.attach(pins.interface(), flags).map_err(|error| refused(error, pins.interface(), mode))?;
    let link = program.take_link(id).map_err(DecapError::Attach)?;
    let link = FdLink::try_from(link).map_err(DecapError::Link)?;
    let path = pins.link();
    link.pin(&path).map_err(|source| DecapError::PinObject { path, source })?;
    Ok(())
}

/// What the kernel's refusal to attach means.
fn refused(error: ProgramError, interface: &str, mode: Mode) -> DecapError {
    let code = match &error {
        ProgramError::UnknownInterface { name } => return NetError::NoInterface(name.clone()).into(),
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        ProgramError::XdpError(XdpError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    };
    let interface = interface.to_owned();
    match code {
        Some(libc::EBUSY | libc::EEXIST) => DecapError::Taken(interface),
        Some(libc::EOPNOTSUPP) if mode == Mode::Native => DecapError::NoNativeXdp(interface),
        Some(libc::EPERM | libc::EACCES) => DecapError::NotPermitted { what: "attach an XDP program" },
        Some(code @ (libc::ERANGE | libc::EINVAL | libc::ENOSPC | libc::E2BIG)) => {
            DecapError::Unfit { interface, mode, source: io::Error::from_raw_os_error(code) }
        }
        _ => DecapError::Attach(error),
    }
}

fn in_map(name: &'static str) -> impl Fn(MapError) -> DecapError {
    move |source| DecapError::Map { name, source }
}
