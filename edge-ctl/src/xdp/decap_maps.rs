//! The maps of the decapsulation: accepted packets and counters.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, MapInfo, MapType, PerCpuArray, lpm_trie::Key},
};
use edge_common::abi::{AddressPrefix, DecapExit, MssExit, Role, map};
use serde::Serialize;

use super::{
    DecapPins, XdpError,
    decap_prefix::{Prefix, octets},
};
use crate::bpf::{self, BpfError};

/// The accepted tunnel packets. Lists that were read from the maps are in ascending order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Accepted {
    /// From these edges.
    pub(crate) from: Vec<Prefix>,
    /// To these addresses; if none is given, to every global address of the host that is not a VIP.
    pub(crate) to: Vec<IpAddr>,
    /// With inner packets to these addresses.
    pub(crate) vips: Vec<Prefix>,
    /// Also in UDP to this port.
    pub(crate) gue: Option<u16>,
}

/// Addresses as keys, with the bits of their [`Role`]s.
pub(super) type Roles = BTreeMap<[u8; 16], u32>;

/// A key of the trie after its number of bits.
type PrefixData = [u8; AddressPrefix::PADDING + 16];

/// The roles of the addresses in `accepted`, and of the host's addresses.
pub(super) fn roles(accepted: &Accepted, host: &[IpAddr]) -> Roles {
    let mut roles = Roles::new();
    let edges: Vec<_> = accepted.from.iter().filter_map(|from| from.single()).collect();
    for (addresses, role) in
        [(&edges[..], Role::EDGE), (&accepted.to, Role::ENDPOINT), (&accepted.to, Role::OWN), (host, Role::OWN)]
    {
        for address in addresses {
            *roles.entry(octets(*address)).or_default() |= role;
        }
    }
    roles
}

/// Writes `roles` into the object's map, and pins it at `path`.
pub(super) fn write_roles(object: &mut Ebpf, roles: &Roles, path: &Path) -> Result<(), XdpError> {
    let map = object.map_mut(map::DECAP_ADDRESSES).ok_or(XdpError::NotInObject(map::DECAP_ADDRESSES))?;
    let mut addresses = HashMap::<_, [u8; 16], u32>::try_from(&mut *map).map_err(in_map(map::DECAP_ADDRESSES))?;
    for (address, roles) in roles {
        addresses.insert(address, roles, 0).map_err(in_map(map::DECAP_ADDRESSES))?;
    }
    pin(map, path)
}

/// The edges that are given as prefixes.
pub(super) fn prefixes_of_edges(accepted: &Accepted) -> Vec<Prefix> {
    accepted.from.iter().copied().filter(|from| from.single().is_none()).collect()
}

/// Writes `prefixes` into the object's map `name`, and pins it at `path`.
pub(super) fn write_prefixes(
    object: &mut Ebpf,
    name: &'static str,
    prefixes: &[Prefix],
    path: &Path,
) -> Result<(), XdpError> {
    let map = object.map_mut(name).ok_or(XdpError::NotInObject(name))?;
    let mut trie = LpmTrie::<_, PrefixData, u32>::try_from(&mut *map).map_err(in_map(name))?;
    for prefix in prefixes {
        let (bits, data) = prefix.key().key();
        trie.insert(&Key::new(bits, data), 1, 0).map_err(in_map(name))?;
    }
    pin(map, path)
}

/// Writes the settings of tunnel packets in UDP into the object's map, and pins it at `path`.
pub(super) fn write_settings(object: &mut Ebpf, accepted: &Accepted, path: &Path) -> Result<(), XdpError> {
    let name = map::DECAP_SETTINGS;
    let map = object.map_mut(name).ok_or(XdpError::NotInObject(name))?;
    let mut array = Array::<_, [u8; 4]>::try_from(&mut *map).map_err(in_map(name))?;
    let [high, low] = accepted.gue.unwrap_or(0).to_be_bytes();
    let has_prefixes = u8::from(!prefixes_of_edges(accepted).is_empty());
    array.set(0, [high, low, has_prefixes, 0], 0).map_err(in_map(name))?;
    pin(map, path)
}

pub(super) fn pin(map: &mut Map, path: &Path) -> Result<(), XdpError> {
    bpf::remove_file(path)?;
    map.pin(path).map_err(|source| BpfError::Pin { path: path.to_owned(), source })?;
    Ok(())
}

/// The accepted packets by the pinned maps.
pub(super) fn read_accepted(pins: &DecapPins) -> Result<Accepted, XdpError> {
    let read = |name| read_prefixes(&pins.current(name)).map_err(in_map(name));
    let roles = read_roles(&pins.current(map::DECAP_ADDRESSES)).map_err(in_map(map::DECAP_ADDRESSES))?;
    let with = |role| {
        let mut addresses: Vec<_> =
            roles.iter().filter(|(_, roles)| *roles & role != 0).map(|(address, _)| from_octets(*address)).collect();
        addresses.sort_unstable();
        addresses
    };
    let mut vips = read(map::DECAP_VIPS)?;
    vips.sort_unstable();
    let mut from: Vec<_> = with(Role::EDGE).into_iter().map(Prefix::of).collect();
    from.extend(read(map::DECAP_EDGES)?);
    from.sort_unstable();
    let settings = || -> Result<[u8; 4], MapError> {
        let map = MapData::from_pin(pins.current(map::DECAP_SETTINGS))?;
        Array::<_, [u8; 4]>::try_from(Map::Array(map))?.get(&0, 0)
    };
    let [high, low, ..] = settings().map_err(in_map(map::DECAP_SETTINGS))?;
    let gue = Some(u16::from_be_bytes([high, low])).filter(|port| *port != 0);
    Ok(Accepted { from, to: with(Role::ENDPOINT), vips, gue })
}

fn read_roles(path: &Path) -> Result<Roles, MapError> {
    HashMap::<_, [u8; 16], u32>::try_from(Map::HashMap(MapData::from_pin(path)?))?.iter().collect()
}

fn read_prefixes(path: &Path) -> Result<Vec<Prefix>, MapError> {
    let trie = LpmTrie::<_, PrefixData, u32>::try_from(Map::LpmTrie(MapData::from_pin(path)?))?;
    trie.keys()
        .map(|key| key.map(|key| Prefix::from_key(AddressPrefix::from_key(key.prefix_len(), key.data()))))
        .collect()
}

/// A map of counters, one per exit of a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counters {
    name: &'static str,
    count: u32,
}

impl Counters {
    pub(super) const DECAP: Self = Self { name: map::DECAP_EXITS, count: DecapExit::COUNT };
    pub(super) const MSS: Self = Self { name: map::MSS_EXITS, count: MssExit::COUNT };

    /// Packets by exit number, over all CPUs, in the map pinned at `path`.
    pub(super) fn read(self, path: &Path) -> Result<Vec<u64>, XdpError> {
        let exits = MapData::from_pin(path).map_err(in_map(self.name))?;
        let exits = PerCpuArray::<_, u64>::try_from(Map::PerCpuArray(exits)).map_err(in_map(self.name))?;
        let packets = (0..exits.len().min(self.count)).map(|exit| Ok(exits.get(&exit, 0)?.iter().sum()));
        packets.collect::<Result<_, MapError>>().map_err(in_map(self.name))
    }

    /// Removes the pin at `path` unless it is a map of counters of the expected shape, since aya accepts a pin of any
    /// shape. Returns whether it was removed.
    pub(super) fn keep_if_fit(self, path: &Path) -> Result<bool, XdpError> {
        if !path.try_exists().map_err(|source| BpfError::file(path, source))? {
            return Ok(false);
        }
        let info = MapInfo::from_pin(path).map_err(in_map(self.name))?;
        let shape = (info.map_type().ok(), info.key_size(), info.value_size(), info.max_entries(), info.map_flags());
        Ok(shape != (Some(MapType::PerCpuArray), 4, 8, self.count, 0) && bpf::remove_file(path)?)
    }
}

fn from_octets(octets: [u8; 16]) -> IpAddr {
    IpAddr::from(octets).to_canonical()
}

pub(super) fn in_map(name: &'static str) -> impl Fn(MapError) -> XdpError {
    move |source| XdpError::Map { name, source }
}
