//! The egress program on a backend that lowers the maximum segment size of SYN-ACKs: attached beside the decapsulation,
//! whose VIPs it uses, and replaced and detached with it.

use std::fs;

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError},
};
use edge_common::abi::{MssLimits, map, program};

use super::{
    DecapPins, XdpError,
    decap_maps::{Counters, in_map, pin},
    link,
    tc::{self, Side},
};
use crate::bpf::{self, BpfError, if_present, interface_file_name, interface_of};

/// The egress interfaces of SYN-ACKs, and the segment sizes that fit the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MssPlan {
    pub(crate) egress: Vec<String>,
    pub(crate) limits: MssLimits,
}

/// Attaches the object's program to the interfaces of `plan`, in place of an earlier one, and detaches it from all
/// others; `None` detaches it everywhere.
pub(super) fn attach(object: &mut Ebpf, pins: &DecapPins, plan: Option<&MssPlan>) -> Result<(), XdpError> {
    let egress = plan.map_or(&[][..], |plan| &plan.egress);
    write_limits(object, plan.map_or(MssLimits::default(), |plan| plan.limits), pins)?;
    if plan.is_some() {
        bpf::make_dir(&pins.mss())?;
        let program = match tc::load(object, program::MSS) {
            Ok(program) => program,
            // Tunnel packets matter more than short segments: if the kernel refuses this program, the other one is
            // attached all the same.
            Err(error @ XdpError::Program { .. }) => {
                tracing::warn!(%error, "segments of answers are not shortened: clients that receive no ICMP errors \
                                        can't upload");
                return detach_but(pins, &[]);
            }
            Err(error) => return Err(error),
        };
        for interface in egress {
            let (current, next) = (pins.mss_on(interface), pins.next("mss"));
            bpf::remove_file(&next)?;
            tc::attach(program, interface, Side::Egress, place(pins))?.keep(&next)?;
            if !next.try_exists().map_err(|source| BpfError::file(&next, source))? {
                // A filter has no link to pin: the pinned program marks that there is one.
                program.pin(&next).map_err(|source| BpfError::Pin { path: next.clone(), source })?;
            }
            // The earlier link goes with its pin, once the new one is in place. Two programs at a time have the same
            // effect as one.
            bpf::rename(&next, &current)?;
        }
    }
    detach_but(pins, egress)
}

/// Detaches the program from all interfaces except these.
pub(super) fn detach_but(pins: &DecapPins, egress: &[String]) -> Result<(), XdpError> {
    for interface in pinned(pins)?.iter().filter(|interface| !egress.contains(interface)) {
        link::remove(&pins.mss_on(interface))?;
        tc::remove_filter(interface, Side::Egress, place(pins))?;
    }
    Ok(())
}

/// The interfaces that the program is attached to. Those whose filter somebody has removed are not among them.
fn attached(pins: &DecapPins) -> Result<Vec<String>, XdpError> {
    let mut names = pinned(pins)?;
    names.retain(|interface| tc::is_kept(&pins.mss_on(interface), interface, Side::Egress, place(pins)));
    Ok(names)
}

/// The interfaces that the program was attached to.
fn pinned(pins: &DecapPins) -> Result<Vec<String>, XdpError> {
    let directory = pins.mss();
    let failed = |source| BpfError::file(&directory, source);
    let Some(entries) = if_present(fs::read_dir(&directory)).map_err(failed)? else { return Ok(Vec::new()) };
    let names = entries.map(|entry| Ok(interface_of(&entry?.file_name().to_string_lossy())));
    let mut names = names.collect::<Result<Vec<_>, std::io::Error>>().map_err(failed)?;
    names.sort_unstable();
    Ok(names)
}

/// The plan in force, and packets by exit number; `None` if the program is not attached.
pub(super) fn look(pins: &DecapPins) -> Result<Option<(MssPlan, Vec<u64>)>, XdpError> {
    let egress = attached(pins)?;
    if egress.is_empty() {
        return Ok(None);
    }
    let read = || -> Result<[u32; 2], MapError> {
        Array::<_, [u32; 2]>::try_from(Map::Array(MapData::from_pin(pins.current(map::MSS_LIMITS))?))?.get(&0, 0)
    };
    let [v4, v6] = read().map_err(in_map(map::MSS_LIMITS))?;
    Ok(Some((MssPlan { egress, limits: MssLimits { v4, v6 } }, Counters::MSS.read(&pins.mss_exits())?)))
}

fn write_limits(object: &mut Ebpf, limits: MssLimits, pins: &DecapPins) -> Result<(), XdpError> {
    let map = object.map_mut(map::MSS_LIMITS).ok_or(XdpError::NotInObject(map::MSS_LIMITS))?;
    let mut array = Array::<_, [u32; 2]>::try_from(&mut *map).map_err(in_map(map::MSS_LIMITS))?;
    array.set(0, [limits.v4, limits.v6], 0).map_err(in_map(map::MSS_LIMITS))?;
    pin(map, &pins.next(map::MSS_LIMITS))
}

/// Distinguishes the filters of several decapsulations whose answers leave by the same interface.
fn place(pins: &DecapPins) -> u16 {
    let [.., high, low] = crc32fast::hash(interface_file_name(pins.interface()).as_bytes()).to_be_bytes();
    0x8000 | u16::from_be_bytes([high, low])
}
