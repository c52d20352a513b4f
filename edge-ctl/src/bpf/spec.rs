//! Map specifications: type, key, value, size and flags, verified on pins and on the embedded object.

use aya::maps::{MapInfo, MapType};
use aya_obj::generated::BPF_F_MMAPABLE;

use edge_common::abi::{MAPS, MapKind, map};

use super::{BpfError, PinDir};
use crate::plan::Capacity;

/// The specification of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) kind: MapKind,
    /// Bytes of a key: 4 for an array's index; only hash maps have other keys.
    pub(super) key: u32,
    /// Bytes of a value.
    pub(super) value: u32,
    pub(super) entries: u32,
}

impl Spec {
    pub(super) const fn map_type(&self) -> MapType {
        match self.kind {
            MapKind::Shared => MapType::Array,
            MapKind::PerCpu => MapType::PerCpuArray,
            MapKind::Lru => MapType::LruHash,
        }
    }

    pub(super) const fn flags(&self) -> u32 {
        match self.kind {
            MapKind::Shared => BPF_F_MMAPABLE,
            MapKind::PerCpu | MapKind::Lru => 0,
        }
    }
}

/// All maps of the load balancer, for this capacity.
pub(super) fn all(capacity: &Capacity) -> [Spec; MAPS.len()] {
    MAPS.map(|map| Spec {
        name: map.name,
        kind: map.kind,
        key: map.key,
        value: map.value,
        entries: map.entries.count(|dimension| capacity.of_dimension(dimension)),
    })
}

/// The capacity of the pinned maps, after verifying each against its specification: aya would accept any map of the
/// right name.
pub(super) fn check_pins(pins: &PinDir) -> Result<Capacity, BpfError> {
    let entries = |name: &'static str| info(pins, name).map(|info| info.max_entries());
    let bank = |name| entries(name).map(|entries| entries / 2);
    let capacity = Capacity {
        services: bank(map::SERVICES)?,
        pools: bank(map::POOLS)?,
        backends: entries(map::BACKENDS)?,
        index_v4: bank(map::SERVICE_INDEX_V4)?,
        index_v6: bank(map::SERVICE_INDEX_V6)?,
        candidates: entries(map::CANDIDATES)?,
        slots: entries(map::SLOTS)?,
        flows: entries(map::FLOWS)?,
        nat_flows: entries(map::NAT_FLOWS)?,
        // Stored in a map.
        nat_ports: None,
        fragments: entries(map::FRAGMENTS_V4)?,
        snapshot: bank(map::SNAPSHOT)?,
        history: bank(map::HISTORY)?,
    };
    for spec in all(&capacity) {
        check_pin(pins, spec)?;
    }
    Ok(capacity)
}

/// Kernel IDs of the pinned maps.
pub(super) fn numbers(pins: &PinDir, capacity: &Capacity) -> Result<Vec<(&'static str, u32)>, BpfError> {
    all(capacity).iter().map(|spec| Ok((spec.name, info(pins, spec.name)?.id()))).collect()
}

fn check_pin(pins: &PinDir, spec: Spec) -> Result<(), BpfError> {
    let info = info(pins, spec.name)?;
    let compare = |what, found: String, expected: String| {
        if found == expected {
            return Ok(());
        }
        Err(BpfError::Mismatch { path: pins.map(spec.name), what, found, expected })
    };
    let open = |source| BpfError::Open { map: spec.name, source };
    compare("type", format!("{:?}", info.map_type().map_err(open)?), format!("{:?}", spec.map_type()))?;
    for (what, found, expected) in [
        ("key size", info.key_size(), spec.key),
        ("value size", info.value_size(), spec.value),
        ("number of entries", info.max_entries(), spec.entries),
        ("flags word", info.map_flags(), spec.flags()),
    ] {
        compare(what, found.to_string(), expected.to_string())?;
    }
    Ok(())
}

pub(super) fn info(pins: &PinDir, name: &'static str) -> Result<MapInfo, BpfError> {
    let path = pins.map(name);
    if !path.try_exists().map_err(|source| BpfError::file(&path, source))? {
        return Err(BpfError::Incomplete { path: pins.maps(), map: name });
    }
    MapInfo::from_pin(path).map_err(|source| BpfError::Open { map: name, source })
}

/// Compares the maps that the object declares with their specifications, except for the number of entries, which depends
/// on the configuration.
pub(crate) fn check_object(object: &[u8], capacity: &Capacity) -> Result<(), BpfError> {
    let object = aya_obj::Object::parse(object).map_err(|error| BpfError::Parse { reason: error.to_string() })?;
    for spec in all(capacity) {
        // The object lacks maps that its programs do not use.
        let Some(map) = object.maps.get(spec.name) else { continue };
        for (what, found, expected) in [
            ("type", map.map_type(), spec.map_type() as u32),
            ("key size", map.key_size(), spec.key),
            ("value size", map.value_size(), spec.value),
            ("flags word", map.map_flags(), spec.flags()),
        ] {
            if found != expected {
                return Err(BpfError::Object { map: spec.name.to_owned(), what, found, expected });
            }
        }
    }
    Ok(())
}
