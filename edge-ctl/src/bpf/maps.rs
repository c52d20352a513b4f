//! The maps, each declared once: made, pinned, opened.

use std::{marker::PhantomData, mem::offset_of, os::fd::AsFd as _, sync::atomic::Ordering};

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use bytemuck::Pod;
use edge_common::{
    abi::{
        Backend, Budget, Cell, FlowCount, FlowKeyV4, FlowKeyV6, FragmentRecord, Generation, Note, Pool, Published,
        Service, ServiceEntryV4, ServiceEntryV6, SnapshotPage, Traffic, halved, map,
    },
    exit::Exit,
};

use super::{
    BpfError, PinDir,
    flows::FlowTable,
    mapped::Mapped,
    spec::{self, MapKind, Spec, size},
};
use crate::plan::Capacity;

/// Counters of a traffic: packets, bytes and flows.
pub(super) type TrafficCounters = Counters<{ size_of::<Traffic>() / 8 }>;

/// A map of one value of `N` counters for each CPU and index.
pub(super) type Counters<const N: usize> = PerCpuArray<MapData, [u64; N]>;

/// A way to open a map, which fixes the map's type and the sizes of its keys and values.
pub(super) trait Handle: Sized {
    const KIND: MapKind;
    const KEY: u32;
    const VALUE: u32;

    fn open(pins: &PinDir, name: &'static str) -> Result<Self, BpfError>;
}

/// Declares the maps: field, handle, name, and number of entries in maps of this `capacity`.
macro_rules! maps {
    (|$capacity:ident| $($field:ident: $handle:ty = $name:path, $entries:expr;)+) => {
        /// The opened maps.
        #[expect(dead_code, reason = "the packet path alone uses fragments and budgets")]
        pub(super) struct Maps {
            $(pub(super) $field: $handle,)+
        }

        impl Maps {
            /// All maps of this capacity.
            pub(super) fn specs($capacity: &Capacity) -> impl Iterator<Item = Spec> + use<> {
                [$(Spec {
                    name: $name,
                    kind: <$handle as Handle>::KIND,
                    key: <$handle as Handle>::KEY,
                    value: <$handle as Handle>::VALUE,
                    entries: $entries,
                },)+].into_iter()
            }

            fn open_all(pins: &PinDir) -> Result<Self, BpfError> {
                Ok(Self { $($field: Handle::open(pins, $name)?,)+ })
            }
        }
    };
}

maps! { |capacity|
    published: Mapped<Published> = map::PUBLISHED, 1;
    index_v4: Mapped<ServiceEntryV4> = map::SERVICE_INDEX_V4, banks(capacity.index_v4);
    index_v6: Mapped<ServiceEntryV6> = map::SERVICE_INDEX_V6, banks(capacity.index_v6);
    services: Mapped<Service> = map::SERVICES, banks(capacity.services);
    pools: Mapped<Pool> = map::POOLS, banks(capacity.pools);
    backends: Mapped<Backend> = map::BACKENDS, capacity.backends;
    candidates: Mapped<Cell> = map::CANDIDATES, capacity.candidates;
    owners: Mapped<Cell> = map::OWNERS, capacity.owners;
    missed: Mapped<Cell> = map::MISSED, capacity.owners;
    flows_v4: FlowTable<FlowKeyV4> = map::FLOWS_V4, capacity.flows;
    flows_v6: FlowTable<FlowKeyV6> = map::FLOWS_V6, capacity.flows;
    flow_stats: Counters<{ FlowCount::COUNT }> = map::FLOW_STATS, capacity.services;
    fragments_v4: Fragments<FlowKeyV4> = map::FRAGMENTS_V4, capacity.fragments;
    fragments_v6: Fragments<FlowKeyV6> = map::FRAGMENTS_V6, capacity.fragments;
    budgets: Counters<{ size_of::<Budget>() / 8 }> = map::BUDGETS, 1;
    transitions: Mapped<Note> = map::TRANSITIONS, capacity.services;
    exits: Counters<1> = map::EXITS, Exit::COUNT;
    service_stats: TrafficCounters = map::SERVICE_STATS, capacity.services;
    backend_stats: TrafficCounters = map::BACKEND_STATS, capacity.backends;
    notes: Mapped<Note> = map::NOTES, capacity.backends;
    snapshot: Mapped<SnapshotPage> = map::SNAPSHOT, banks(capacity.snapshot);
}

/// Entries of a map that holds one generation in each of two banks.
const fn banks(entries: u32) -> u32 {
    entries.saturating_mul(2)
}

impl Maps {
    pub(super) fn create(pins: &PinDir, capacity: &Capacity) -> Result<(), BpfError> {
        pins.pin_maps(|directory| {
            for spec in Self::specs(capacity) {
                let path = directory.join(spec.name);
                create(spec)?.pin(&path).map_err(|source| BpfError::Pin { path, source })?;
            }
            Ok(())
        })
    }

    /// Opens the pinned maps after checking that they are what they should be.
    pub(super) fn open(pins: &PinDir) -> Result<(Self, Capacity), BpfError> {
        let capacity = spec::check_pins(pins)?;
        Ok((Self::open_all(pins)?, capacity))
    }

    /// The published bank, and its generation; `None` before the first.
    pub(super) fn published(&self) -> Option<(u32, Generation)> {
        let bank = self.bank();
        let generation = self.published.read(0)?.generations[bank as usize];
        (generation.number != 0).then_some((bank, generation))
    }

    /// The bank that is published.
    pub(super) fn bank(&self) -> u32 {
        let active = self.published.atomic_u32(0, offset_of!(Published, active));
        active.map_or(0, |active| active.load(Ordering::Acquire)) & 1
    }

    pub(super) fn service(&self, bank: u32, number: u32) -> Option<Service> {
        self.services.read(position(bank, number)?)
    }

    #[cfg(test)]
    pub(super) fn pool(&self, bank: u32, number: u16) -> Option<Pool> {
        self.pools.read(position(bank, number.into())?)
    }
}

/// Index into a map of two banks; `None` when there is no such index in any map.
pub(super) fn position(bank: u32, number: u32) -> Option<u32> {
    (number < 1 << 31).then(|| halved(bank, number))
}

impl<T: Pod> Handle for Mapped<T> {
    const KIND: MapKind = MapKind::Shared;
    const KEY: u32 = size::<u32>();
    const VALUE: u32 = size::<T>();

    fn open(pins: &PinDir, name: &'static str) -> Result<Self, BpfError> {
        let open = |source| BpfError::Open { map: name, source };
        let data = MapData::from_pin(pins.map(name)).map_err(open)?;
        let entries = data.info().map_err(open)?.max_entries();
        Self::new(data.fd().as_fd(), entries).map_err(|source| BpfError::Mmap { map: name, source })
    }
}

impl<const N: usize> Handle for Counters<N> {
    const KIND: MapKind = MapKind::PerCpu;
    const KEY: u32 = size::<u32>();
    const VALUE: u32 = size::<[u64; N]>();

    fn open(pins: &PinDir, name: &'static str) -> Result<Self, BpfError> {
        let open = |source| BpfError::Open { map: name, source };
        let data = MapData::from_pin(pins.map(name)).map_err(open)?;
        Map::from_map_data(data).and_then(Self::try_from).map_err(open)
    }
}

/// The fragments map of one IP version, which only the packet path reads and writes.
pub(super) struct Fragments<K>(PhantomData<K>);

impl<K: Pod> Handle for Fragments<K> {
    const KIND: MapKind = MapKind::Recent;
    const KEY: u32 = size::<K>();
    const VALUE: u32 = size::<FragmentRecord>();

    fn open(_pins: &PinDir, _name: &'static str) -> Result<Self, BpfError> {
        Ok(Self(PhantomData))
    }
}

fn create(spec: Spec) -> Result<MapData, BpfError> {
    let map = aya_obj::Map::new_from_params(
        spec.kind.map_type() as u32,
        spec.key,
        spec.value,
        spec.entries,
        spec.kind.flags(),
    );
    MapData::create(map, spec.name, None).map_err(|source| {
        let errno = match &source {
            MapError::CreateError { io_error, .. } => io_error.raw_os_error(),
            _ => None,
        };
        let hint = match errno {
            Some(libc::EPERM | libc::EACCES) => ": run it as root",
            Some(libc::ENOMEM | libc::E2BIG) => {
                ": this is more memory than there is; write smaller [limits] or `slots`"
            }
            _ => "",
        };
        BpfError::Create { map: spec.name, entries: spec.entries, size: spec.value, hint, source }
    })
}
