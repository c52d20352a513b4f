//! Reads slots and their owners from the pinned maps while the packet path and the daemon use them.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use bytemuck::Pod;
use edge_common::abi::{
    self, BackendNumber, FlowCount, Generation, Published, ServiceEntryV4, ServiceEntryV6, ServiceRef, Slot, SlotCell,
    banked, map,
};
use memmap2::{MmapOptions, MmapRaw};

use crate::lab::topology::{Backend, Family, Part, Protocol, Service};

pub(super) struct Maps {
    path: PathBuf,
    published: MmapRaw,
    slots: MmapRaw,
    services: MmapRaw,
    backends: MmapRaw,
    counts: PerCpuArray<MapData, [u64; FlowCount::COUNT]>,
}

impl Maps {
    /// The maps that are pinned at `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mapped = |name: &str| -> Result<MmapRaw> {
            let data = pinned(path, name)?;
            let info = data.info()?;
            let length = info.max_entries() as usize * (info.value_size() as usize).next_multiple_of(8);
            Ok(MmapOptions::new().len(length).map_raw_read_only(data.fd().as_fd().as_raw_fd())?)
        };
        Ok(Self {
            published: mapped(map::PUBLISHED)?,
            slots: mapped(map::SLOTS)?,
            services: mapped(map::SERVICES)?,
            backends: mapped(map::BACKENDS)?,
            counts: Map::from_map_data(pinned(path, map::FLOW_STATS)?)?.try_into()?,
            path: path.to_owned(),
        })
    }

    pub(super) fn generation(&self) -> Generation {
        let Published { active, generations, .. } = self.published();
        generations[active as usize % generations.len()]
    }

    fn published(&self) -> Published {
        read(&self.published, 0, 1)[0]
    }

    /// Position of the slots of each TCP service of the lab, in the order of the lab's list.
    pub(super) fn targets(&self) -> Result<Vec<(SocketAddr, ServiceRef)>> {
        const V4: usize = size_of::<ServiceEntryV4>();
        const V6: usize = size_of::<ServiceEntryV6>();
        let v4 = self
            .index::<ServiceEntryV4, V4>(map::SERVICE_INDEX_V4)?
            .into_iter()
            .map(|entry| (Ipv4Addr::from(entry.key.vip).into(), entry.key.port, entry.key.protocol, entry.service_ref));
        let v6 = self
            .index::<ServiceEntryV6, V6>(map::SERVICE_INDEX_V6)?
            .into_iter()
            .map(|entry| (Ipv6Addr::from(entry.key.vip).into(), entry.key.port, entry.key.protocol, entry.service_ref));
        let published: Vec<_> = v4.chain(v6).collect();
        let targets = Service::of(Protocol::Tcp).map(|service| {
            let is_its = |(vip, port, protocol, _): &&(_, [u8; 2], u8, _)| {
                (*vip, *port, i32::from(*protocol)) == (service.vip, service.port.to_be_bytes(), libc::IPPROTO_TCP)
            };
            let found = published.iter().find(is_its);
            let service_ref = found.with_context(|| format!("{} is not published", service.name))?.3;
            // The entry may name a table that the service shares.
            let at = banked(self.published().active, service_ref.service()) as usize * size_of::<abi::Service>();
            let own: abi::Service = read(&self.services, at, 1)[0];
            Ok((service.address(), service_ref.with_slots(own.slots)))
        });
        targets.collect()
    }

    fn index<T: Pod, const SIZE: usize>(&self, name: &str) -> Result<Vec<T>> {
        let data = pinned(&self.path, name)?;
        let (bank, places) = (self.published().active, data.info()?.max_entries() / 2);
        let index: Array<MapData, [u8; SIZE]> = Map::from_map_data(data)?.try_into()?;
        (0..places).map(|place| Ok(bytemuck::pod_read_unaligned(&index.get(&banked(bank, place), 0)?))).collect()
    }

    pub(super) fn slots(&self, service_ref: ServiceRef) -> Vec<Slot> {
        read(&self.slots, service_ref.slots() as usize * size_of::<SlotCell>(), service_ref.slot_mask() as usize + 1)
    }

    /// Number of slots of a service that packets took over.
    pub(super) fn taken_over(&self, service_ref: ServiceRef) -> Result<u64> {
        let counts = self.counts.get(&service_ref.service(), 0)?;
        Ok(counts.iter().map(|counts| counts[FlowCount::OwnerTakenOver as usize]).sum())
    }

    /// The machine that currently has this backend number.
    pub(super) fn machine(&self, number: BackendNumber) -> Option<Backend> {
        let known: abi::Backend = read(&self.backends, usize::from(number) * size_of::<abi::Backend>(), 1)[0];
        let addresses = [Part::Lan, Part::Wan].map(|part| [Family::V4, Family::V6].map(|via| (part, via)));
        Backend::all().find(|backend| {
            addresses.as_flattened().iter().any(|&(part, via)| {
                let (family, address) = abi::Family::split(backend.address(part, via));
                (family as u8, address) == (known.family, known.address)
            })
        })
    }
}

fn pinned(path: &Path, name: &str) -> Result<MapData> {
    MapData::from_pin(path.join(name)).with_context(|| format!("{name} is not pinned in {}", path.display()))
}

/// `count` values from byte `at` of a map on.
fn read<T: Pod>(map: &MmapRaw, at: usize, count: usize) -> Vec<T> {
    let mut values = vec![T::zeroed(); count];
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
    assert!(at + bytes.len() <= map.len(), "it is behind the end");
    // SAFETY: the bytes are inside the mapping, to which no reference is ever made. Concurrent writers store single
    // words.
    unsafe { std::ptr::copy_nonoverlapping(map.as_ptr().add(at), bytes.as_mut_ptr(), bytes.len()) };
    values
}
