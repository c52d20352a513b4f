//! The decapsulation's maps: the edges whose packets are taken, and the counters.

use std::{net::IpAddr, path::Path};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, MapError, MapInfo, MapType, PerCpuArray},
};
use edge_common::abi::{DecapExit, map};

use super::XdpError;
use crate::bpf::{self, BpfError};

/// Writes `sources` into the object's map, and pins it at `path`.
pub(super) fn write_sources(object: &mut Ebpf, sources: &[IpAddr], path: &Path) -> Result<(), XdpError> {
    let map = object.map_mut(map::DECAP_SOURCES).ok_or(XdpError::NotInObject(map::DECAP_SOURCES))?;
    bpf::remove_file(path)?;
    let mut known = HashMap::<_, [u8; 16], u32>::try_from(&mut *map).map_err(in_map(map::DECAP_SOURCES))?;
    for source in sources {
        known.insert(key(*source), 1, 0).map_err(in_map(map::DECAP_SOURCES))?;
    }
    map.pin(path).map_err(|source| BpfError::Pin { path: path.to_owned(), source })?;
    Ok(())
}

/// The sources in the map that is pinned at `path`, in ascending order.
pub(super) fn read_sources(path: &Path) -> Result<Vec<IpAddr>, XdpError> {
    let sources = MapData::from_pin(path).map_err(in_map(map::DECAP_SOURCES))?;
    let sources = HashMap::<_, [u8; 16], u32>::try_from(Map::HashMap(sources)).map_err(in_map(map::DECAP_SOURCES))?;
    let keys: Result<Vec<[u8; 16]>, _> = sources.keys().collect();
    let keys = keys.map_err(in_map(map::DECAP_SOURCES))?;
    let mut sources: Vec<IpAddr> = keys.into_iter().map(|key| IpAddr::from(key).to_canonical()).collect();
    sources.sort_unstable();
    Ok(sources)
}

/// Packets by number of exit, over all CPUs, in the map that is pinned at `path`.
pub(super) fn read_exits(path: &Path) -> Result<Vec<u64>, XdpError> {
    let exits = MapData::from_pin(path).map_err(in_map(map::DECAP_EXITS))?;
    let exits = PerCpuArray::<_, u64>::try_from(Map::PerCpuArray(exits)).map_err(in_map(map::DECAP_EXITS))?;
    let packets = (0..exits.len().min(DecapExit::COUNT)).map(|exit| Ok(exits.get(&exit, 0)?.iter().sum()));
    packets.collect::<Result<_, MapError>>().map_err(in_map(map::DECAP_EXITS))
}

/// Whether counters of the shape that the program expects are pinned at `path`: aya takes a pin of any shape.
pub(super) fn exits_fit(path: &Path) -> Result<bool, XdpError> {
    if !path.exists() {
        return Ok(false);
    }
    let info = MapInfo::from_pin(path).map_err(in_map(map::DECAP_EXITS))?;
    let shape = (info.map_type().ok(), info.key_size(), info.value_size(), info.max_entries(), info.map_flags());
    Ok(shape == (Some(MapType::PerCpuArray), 4, 8, DecapExit::COUNT, 0))
}

/// An address as the map's key: IPv6, IPv4 as `::ffff:a.b.c.d`.
fn key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn in_map(name: &'static str) -> impl Fn(MapError) -> XdpError {
    move |source| XdpError::Map { name, source }
}
