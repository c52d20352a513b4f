//! The maps: made, pinned, opened.

use std::{mem::offset_of, os::fd::AsFd as _};

use aya::maps::{Map, MapData, PerCpuArray};
use bytemuck::Pod;

use edge_common::abi::{
    Backend, Cell, FlowCount, FlowKeyV4, FlowKeyV6, Generation, Note, Pool, Published, Service, ServiceEntryV4,
    ServiceEntryV6, SnapshotPage, banked, map,
};

use super::{
    KernelError, PinDir,
    flows::FlowTable,
    mapped::Mapped,
    spec::{self, Spec},
};
use crate::model::Capacity;

/// A counter of packets, bytes and flows, as aya takes it.
pub(super) type RawTraffic = [u64; 3];

/// A service's counts of its flow records, as aya takes them.
pub(super) type RawFlowCounts = [u64; FlowCount::COUNT];

/// The opened maps.
pub(super) struct Maps {
    pub(super) published: Mapped<Published>,
    pub(super) index_v4: Mapped<ServiceEntryV4>,
    pub(super) index_v6: Mapped<ServiceEntryV6>,
    pub(super) services: Mapped<Service>,
    pub(super) pools: Mapped<Pool>,
    pub(super) backends: Mapped<Backend>,
    pub(super) candidates: Mapped<Cell>,
    pub(super) owners: Mapped<Cell>,
    pub(super) missed: Mapped<Cell>,
    pub(super) flows_v4: FlowTable<FlowKeyV4>,
    pub(super) flows_v6: FlowTable<FlowKeyV6>,
    pub(super) transitions: Mapped<Note>,
    pub(super) notes: Mapped<Note>,
    pub(super) snapshot: Mapped<SnapshotPage>,
    pub(super) exits: PerCpuArray<MapData, u64>,
    pub(super) flow_stats: PerCpuArray<MapData, RawFlowCounts>,
    pub(super) service_stats: PerCpuArray<MapData, RawTraffic>,
    pub(super) backend_stats: PerCpuArray<MapData, RawTraffic>,
}

impl Maps {
    pub(super) fn create(pins: &PinDir, capacity: &Capacity) -> Result<(), KernelError> {
        pins.pin_maps(|directory| {
            for spec in spec::all(capacity) {
                let path = directory.join(spec.name);
                create(spec)?.pin(&path).map_err(|source| KernelError::Pin { path, source })?;
            }
            Ok(())
        })
    }

    /// Opens the pinned maps after checking that they are what they should be.
    pub(super) fn open(pins: &PinDir) -> Result<(Self, Capacity), KernelError> {
        let capacity = spec::check_pins(pins)?;
        let maps = Self {
            published: shared(pins, map::PUBLISHED)?,
            index_v4: shared(pins, map::SERVICE_INDEX_V4)?,
            index_v6: shared(pins, map::SERVICE_INDEX_V6)?,
            services: shared(pins, map::SERVICES)?,
            pools: shared(pins, map::POOLS)?,
            backends: shared(pins, map::BACKENDS)?,
            candidates: shared(pins, map::CANDIDATES)?,
            owners: shared(pins, map::OWNERS)?,
            missed: shared(pins, map::UNRECORDED)?,
            flows_v4: FlowTable::open(pins, map::FLOWS_V4)?,
            flows_v6: FlowTable::open(pins, map::FLOWS_V6)?,
            transitions: shared(pins, map::TRANSITIONS)?,
            notes: shared(pins, map::NOTES)?,
            snapshot: shared(pins, map::SNAPSHOT)?,
            exits: per_cpu(pins, map::EXITS)?,
            flow_stats: per_cpu(pins, map::FLOW_STATS)?,
            service_stats: per_cpu(pins, map::SERVICE_STATS)?,
            backend_stats: per_cpu(pins, map::BACKEND_STATS)?,
        };
        Ok((maps, capacity))
    }

    /// The published half, and its generation; `None` before the first.
    pub(super) fn published(&self) -> Option<(u32, Generation)> {
        let half = self.half();
        let generation = self.published.read(0)?.generations[half as usize];
        (generation.number != 0).then_some((half, generation))
    }

    /// The half that is published.
    pub(super) fn half(&self) -> u32 {
        self.published
            .word(0, offset_of!(Published, active))
            .map_or(0, |word| word.load(std::sync::atomic::Ordering::Acquire))
            & 1
    }

    pub(super) fn service(&self, half: u32, number: u32) -> Option<Service> {
        self.services.read(position(half, number)?)
    }

    #[cfg(test)]
    pub(super) fn pool(&self, half: u32, number: u16) -> Option<Pool> {
        self.pools.read(position(half, number.into())?)
    }
}

/// Index into a banked map; `None` when there is no such index in any map.
pub(super) fn position(half: u32, number: u32) -> Option<u32> {
    (number < 1 << 31).then(|| banked(half, number))
}

fn create(spec: Spec) -> Result<MapData, KernelError> {
    let map = aya_obj::Map::new_from_params(spec.map_type() as u32, spec.key, spec.value, spec.entries, spec.flags());
    MapData::create(map, spec.name, None).map_err(|source| {
        let hint = match errno(&source) {
            Some(libc::EPERM | libc::EACCES) => ": run it as root",
            Some(libc::ENOMEM | libc::E2BIG) => {
                ": this is more memory than there is; write smaller [limits] or `slots`"
            }
            _ => "",
        };
        KernelError::Create { map: spec.name, entries: spec.entries, size: spec.value, hint, source }
    })
}

fn errno(error: &aya::maps::MapError) -> Option<i32> {
    match error {
        aya::maps::MapError::CreateError { io_error, .. } => io_error.raw_os_error(),
        _ => None,
    }
}

fn shared<T: Pod>(pins: &PinDir, name: &'static str) -> Result<Mapped<T>, KernelError> {
    let open = |source| KernelError::Open { map: name, source };
    let data = MapData::from_pin(pins.map(name)).map_err(open)?;
    let entries = data.info().map_err(open)?.max_entries();
    Mapped::new(data.fd().as_fd(), entries).map_err(|source| KernelError::Mmap { map: name, source })
}

fn per_cpu<T: aya::Pod>(pins: &PinDir, name: &'static str) -> Result<PerCpuArray<MapData, T>, KernelError> {
    let open = |source| KernelError::Open { map: name, source };
    let data = MapData::from_pin(pins.map(name)).map_err(open)?;
    Map::from_map_data(data).and_then(PerCpuArray::try_from).map_err(open)
}
