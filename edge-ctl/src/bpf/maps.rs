//! The maps, each declared once: create, pin, open.

use std::{
    mem::offset_of,
    os::fd::AsFd as _,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use bytemuck::Pod;
use edge_common::abi::{
    Backend, Cell, Evidence, FlowBucket, FlowCount, FlowEntry, FlowHead, Generation, NatHead, NatHop, Note, Pool,
    Published, Service, ServiceEntryV4, ServiceEntryV6, SlotCell, SnapshotPage, Traffic, banked, map,
};

use super::{
    BpfError, PinDir,
    mapped::Mapped,
    spec::{self, Spec},
};
use crate::{config::NatPorts, plan::Capacity};

/// Traffic counters: packets, bytes and flows.
pub(super) type TrafficCounters = Counters<{ size_of::<Traffic>() / 8 }>;

/// A per-CPU array whose values are `N` counters.
pub(super) type Counters<const N: usize> = PerCpuArray<MapData, [u64; N]>;

/// Opens a pinned map whose type and sizes were verified before ([`spec::check_pins`]).
pub(super) trait Handle: Sized {
    fn open(pins: &PinDir, name: &'static str) -> Result<Self, BpfError>;
}

/// Declares the maps that the controller uses: field, handle, name.
macro_rules! maps {
    ($($field:ident: $handle:ty = $name:path;)+) => {
        /// The opened maps.
        pub(super) struct Maps {
            $(pub(super) $field: $handle,)+
        }

        impl Maps {
            fn open_all(pins: &PinDir) -> Result<Self, BpfError> {
                Ok(Self { $($field: Handle::open(pins, $name)?,)+ })
            }
        }
    };
}

maps! {
    published: Mapped<Published> = map::PUBLISHED;
    index_v4: Mapped<ServiceEntryV4> = map::SERVICE_INDEX_V4;
    index_v6: Mapped<ServiceEntryV6> = map::SERVICE_INDEX_V6;
    services: Mapped<Service> = map::SERVICES;
    pools: Mapped<Pool> = map::POOLS;
    backends: Mapped<Backend> = map::BACKENDS;
    candidates: Mapped<Cell> = map::CANDIDATES;
    slots: Mapped<SlotCell> = map::SLOTS;
    flow_head: Mapped<FlowHead> = map::FLOW_HEAD;
    flow_index: Mapped<FlowBucket> = map::FLOW_INDEX;
    flows: Mapped<FlowEntry> = map::FLOWS;
    nat_head: Mapped<NatHead> = map::NAT_HEAD;
    nat_index: Mapped<FlowBucket> = map::NAT_INDEX;
    nat_flows: Mapped<FlowEntry> = map::NAT_FLOWS;
    nat_hops: Mapped<NatHop> = map::NAT_HOPS;
    flow_stats: Counters<{ FlowCount::COUNT }> = map::FLOW_STATS;
    transitions: Mapped<Note> = map::TRANSITIONS;
    exits: Counters<1> = map::EXITS;
    service_stats: TrafficCounters = map::SERVICE_STATS;
    backend_stats: TrafficCounters = map::BACKEND_STATS;
    evidence: Mapped<Evidence> = map::EVIDENCE;
    notes: Mapped<Note> = map::NOTES;
    snapshot: Mapped<SnapshotPage> = map::SNAPSHOT;
    history: Mapped<SnapshotPage> = map::HISTORY;
}

impl Maps {
    pub(super) fn create(pins: &PinDir, capacity: &Capacity) -> Result<(), BpfError> {
        pins.pin_maps(|directory| {
            for spec in spec::all(capacity) {
                let path = directory.join(spec.name);
                create(spec)?.pin(&path).map_err(|source| BpfError::Pin { path, source })?;
            }
            Ok(())
        })
    }

    /// Opens the pinned maps after verifying their types and sizes.
    pub(super) fn open(pins: &PinDir) -> Result<(Self, Capacity), BpfError> {
        let capacity = spec::check_pins(pins)?;
        let maps = Self::open_all(pins)?;
        let nat_ports = maps.nat_head.read(0).and_then(|head| ports(&head));
        Ok((maps, Capacity { nat_ports, ..capacity }))
    }

    /// The published bank and its generation; `None` before the first publication.
    pub(super) fn published(&self) -> Option<(u32, Generation)> {
        let bank = self.bank();
        let generation = self.published.read(0)?.generations[bank as usize];
        (generation.number != 0).then_some((bank, generation))
    }

    /// The published bank.
    pub(super) fn bank(&self) -> u32 {
        let active = self.published.atomic_u32(0, offset_of!(Published, active));
        active.map_or(0, |active| active.load(Ordering::Acquire)) & 1
    }

    /// The active bank and the count of editions in one word. Publication of a planned image depends on it: a plan is
    /// stale once the word has changed.
    pub(super) fn edition(&self) -> Option<&AtomicU64> {
        const _: () = assert!(offset_of!(Published, active) == 0 && offset_of!(Published, edition) == 4);
        self.published.atomic_u64(0, 0)
    }

    /// Offset of a bank's generation in `PUBLISHED`.
    pub(super) const fn generation(bank: u32) -> usize {
        offset_of!(Published, generations) + (bank & 1) as usize * size_of::<Generation>()
    }

    pub(super) fn service(&self, bank: u32, number: u32) -> Option<Service> {
        self.services.read(position(bank, number)?)
    }

    #[cfg(test)]
    pub(super) fn pool(&self, bank: u32, number: u16) -> Option<Pool> {
        self.pools.read(position(bank, number.into())?)
    }
}

/// Port range of the sources of translated flows; `None` while nothing is translated.
fn ports(head: &NatHead) -> Option<NatPorts> {
    let last = head.first_port.checked_add(head.ports.checked_sub(1)?)?;
    Some(NatPorts { first: u16::try_from(head.first_port).ok()?, last: u16::try_from(last).ok()? })
}

/// Index of a banked entry; `None` if `number` is too large for any map.
pub(super) fn position(bank: u32, number: u32) -> Option<u32> {
    (number < 1 << 31).then(|| banked(bank, number))
}

/// Pins a map, given by its kernel ID, under its name.
pub(super) fn pin_in(directory: &Path, (name, number): (&'static str, u32)) -> Result<(), BpfError> {
    let map = MapData::from_id(number).map_err(|source| BpfError::Open { map: name, source })?;
    let path = directory.join(name);
    map.pin(&path).map_err(|source| BpfError::Pin { path, source })
}

impl<T: Pod> Handle for Mapped<T> {
    fn open(pins: &PinDir, name: &'static str) -> Result<Self, BpfError> {
        let open = |source| BpfError::Open { map: name, source };
        let data = MapData::from_pin(pins.map(name)).map_err(open)?;
        let entries = data.info().map_err(open)?.max_entries();
        Self::new(data.fd().as_fd(), entries).map_err(|source| BpfError::Mmap { map: name, source })
    }
}

impl<const N: usize> Handle for Counters<N> {
    fn open(pins: &PinDir, name: &'static str) -> Result<Self, BpfError> {
        let open = |source| BpfError::Open { map: name, source };
        let data = MapData::from_pin(pins.map(name)).map_err(open)?;
        Map::from_map_data(data).and_then(Self::try_from).map_err(open)
    }
}

fn create(spec: Spec) -> Result<MapData, BpfError> {
    let map = aya_obj::Map::new_from_params(spec.map_type() as u32, spec.key, spec.value, spec.entries, spec.flags());
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
