//! Which maps there are: type, key, value, size and flags of each, and whether a given map is that.

use aya::maps::{MapInfo, MapType};
use aya_obj::generated::BPF_F_MMAPABLE;

use edge_common::{
    abi::{self, map},
    exit::Exit,
};

use super::{KernelError, PinDir};
use crate::model::Capacity;

/// A map as it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Bytes of a key: the four of an index, but in a hash.
    pub(super) key: u32,
    /// Bytes of a value.
    pub(super) value: u32,
    pub(super) entries: u32,
}

/// What the kernel does with a map's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An array, mapped into the controller's memory.
    Shared,
    /// An array with one value for each CPU.
    PerCpu,
    /// A hash with room for all of its entries from the beginning, which refuses one more.
    Hash,
    /// A hash in which the entry that was not used for longest makes room.
    Recent,
}

impl Kind {
    pub(super) const fn map_type(self) -> MapType {
        match self {
            Self::Shared => MapType::Array,
            Self::PerCpu => MapType::PerCpuArray,
            Self::Hash => MapType::Hash,
            Self::Recent => MapType::LruHash,
        }
    }

    pub(super) const fn flags(self) -> u32 {
        match self {
            Self::Shared => BPF_F_MMAPABLE,
            Self::PerCpu | Self::Hash | Self::Recent => 0,
        }
    }
}

/// All maps of the load balancer, of this capacity.
pub(super) fn all(capacity: &Capacity) -> [Spec; 21] {
    #[expect(clippy::cast_possible_truncation, reason = "the largest value is a page")]
    const fn size<T>() -> u32 {
        size_of::<T>() as u32
    }
    const fn array<T>(name: &'static str, kind: Kind, entries: u32) -> Spec {
        Spec { name, kind, key: size::<u32>(), value: size::<T>(), entries }
    }
    const fn shared<T>(name: &'static str, entries: u32) -> Spec {
        array::<T>(name, Kind::Shared, entries)
    }
    const fn per_cpu<T>(name: &'static str, entries: u32) -> Spec {
        array::<T>(name, Kind::PerCpu, entries)
    }
    const fn hash<K, V>(name: &'static str, kind: Kind, entries: u32) -> Spec {
        Spec { name, kind, key: size::<K>(), value: size::<V>(), entries }
    }
    let twice = |half: u32| half.saturating_mul(2);
    [
        shared::<abi::Published>(map::PUBLISHED, 1),
        shared::<abi::ServiceEntryV4>(map::SERVICE_INDEX_V4, twice(capacity.index_v4)),
        shared::<abi::ServiceEntryV6>(map::SERVICE_INDEX_V6, twice(capacity.index_v6)),
        shared::<abi::Service>(map::SERVICES, twice(capacity.services)),
        shared::<abi::Pool>(map::POOLS, twice(capacity.pools)),
        shared::<abi::Backend>(map::BACKENDS, capacity.backends),
        shared::<abi::Cell>(map::CANDIDATES, capacity.candidates),
        shared::<abi::Cell>(map::OWNERS, capacity.owners),
        shared::<abi::Cell>(map::UNRECORDED, capacity.owners),
        hash::<abi::FlowKeyV4, abi::FlowRecord>(map::FLOWS_V4, Kind::Hash, capacity.flows),
        hash::<abi::FlowKeyV6, abi::FlowRecord>(map::FLOWS_V6, Kind::Hash, capacity.flows),
        per_cpu::<abi::FlowCounts>(map::FLOW_STATS, capacity.services),
        hash::<abi::FlowKeyV4, abi::FragmentRecord>(map::FRAGMENTS_V4, Kind::Recent, capacity.fragments),
        hash::<abi::FlowKeyV6, abi::FragmentRecord>(map::FRAGMENTS_V6, Kind::Recent, capacity.fragments),
        per_cpu::<abi::RateLimiter>(map::RATE_LIMITS, 1),
        shared::<abi::Note>(map::TRANSITIONS, capacity.services),
        per_cpu::<u64>(map::EXITS, Exit::COUNT),
        per_cpu::<abi::Traffic>(map::SERVICE_STATS, capacity.services),
        per_cpu::<abi::Traffic>(map::BACKEND_STATS, capacity.backends),
        shared::<abi::Note>(map::NOTES, capacity.backends),
        shared::<abi::SnapshotPage>(map::SNAPSHOT, twice(capacity.snapshot)),
    ]
}

/// The capacity of the pinned maps, after each was seen to be what it should be. aya would take any map that bears the
/// name.
pub(super) fn check_pins(pins: &PinDir) -> Result<Capacity, KernelError> {
    let entries = |name: &'static str| info(pins, name).map(|info| info.max_entries());
    let half = |name| entries(name).map(|entries| entries / 2);
    let capacity = Capacity {
        services: half(map::SERVICES)?,
        pools: half(map::POOLS)?,
        backends: entries(map::BACKENDS)?,
        index_v4: half(map::SERVICE_INDEX_V4)?,
        index_v6: half(map::SERVICE_INDEX_V6)?,
        candidates: entries(map::CANDIDATES)?,
        owners: entries(map::OWNERS)?,
        flows: entries(map::FLOWS_V4)?,
        fragments: entries(map::FRAGMENTS_V4)?,
        snapshot: half(map::SNAPSHOT)?,
    };
    for spec in all(&capacity) {
        check_pin(pins, spec)?;
    }
    Ok(capacity)
}

fn check_pin(pins: &PinDir, spec: Spec) -> Result<(), KernelError> {
    let info = info(pins, spec.name)?;
    let compare = |what, found: String, expected: String| {
        if found == expected {
            return Ok(());
        }
        Err(KernelError::Mismatch { path: pins.map(spec.name), what, found, expected })
    };
    let open = |source| KernelError::Open { map: spec.name, source };
    compare("type", format!("{:?}", info.map_type().map_err(open)?), format!("{:?}", spec.kind.map_type()))?;
    for (what, found, expected) in [
        ("key size", info.key_size(), spec.key),
        ("value size", info.value_size(), spec.value),
        ("number of entries", info.max_entries(), spec.entries),
        ("flags word", info.map_flags(), spec.kind.flags()),
    ] {
        compare(what, found.to_string(), expected.to_string())?;
    }
    Ok(())
}

fn info(pins: &PinDir, name: &'static str) -> Result<MapInfo, KernelError> {
    let path = pins.map(name);
    if !path.exists() {
        return Err(KernelError::Incomplete { path: pins.maps(), map: name });
    }
    MapInfo::from_pin(path).map_err(|source| KernelError::Open { map: name, source })
}

/// Compares what the object says about the maps with what they are made as. Sizes are the configuration's.
pub(super) fn check_object(object: &[u8], capacity: &Capacity) -> Result<(), KernelError> {
    let object = aya_obj::Object::parse(object).map_err(|error| KernelError::Parse { reason: error.to_string() })?;
    for spec in all(capacity) {
        // The object has no map that its programs don't use.
        let Some(map) = object.maps.get(spec.name) else { continue };
        for (what, found, expected) in [
            ("type", map.map_type(), spec.kind.map_type() as u32),
            ("key size", map.key_size(), spec.key),
            ("value size", map.value_size(), spec.value),
            ("flags word", map.map_flags(), spec.kind.flags()),
        ] {
            if found != expected {
                return Err(KernelError::Object { map: spec.name.to_owned(), what, found, expected });
            }
        }
    }
    Ok(())
}
