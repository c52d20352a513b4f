//! Marks the VIPs that are addresses of the host by a bit in each VIP's own entry of the service index.
//!
//! The bit belongs to the host, not to the configuration: it changes as addresses come and go, and a publication
//! preserves it.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::offset_of,
    net::IpAddr,
    sync::atomic::Ordering,
};

use bytemuck::Pod;
use edge_common::abi::{ServiceEntryV4, ServiceEntryV6, ServiceRef};

use super::{
    PinnedMaps,
    mapped::Mapped,
    maps::{Maps, position},
};

/// An entry of the service index of either family.
pub(super) trait Entry: Pod {
    /// Offset of the word that contains the bit, in bytes.
    const SLOTS_AT: usize;

    fn is_used(&self) -> bool;
    fn vip(&self) -> IpAddr;
    fn service_ref(&mut self) -> &mut ServiceRef;
}

impl Entry for ServiceEntryV4 {
    const SLOTS_AT: usize = offset_of!(Self, service_ref) + ServiceRef::SLOTS_AT;

    fn is_used(&self) -> bool {
        self.key.used == 1
    }

    fn vip(&self) -> IpAddr {
        self.key.vip.into()
    }

    fn service_ref(&mut self) -> &mut ServiceRef {
        &mut self.service_ref
    }
}

impl Entry for ServiceEntryV6 {
    const SLOTS_AT: usize = offset_of!(Self, service_ref) + ServiceRef::SLOTS_AT;

    fn is_used(&self) -> bool {
        self.key.used == 1
    }

    fn vip(&self) -> IpAddr {
        self.key.vip.into()
    }

    fn service_ref(&mut self) -> &mut ServiceRef {
        &mut self.service_ref
    }
}

impl PinnedMaps {
    /// Stores for each of these VIPs whether it is an address of the host. Other VIPs keep their bits.
    pub(crate) fn set_host_vips(&mut self, vips: &BTreeMap<IpAddr, bool>) {
        for (vip, is_host) in vips {
            if *is_host {
                self.host_vips.insert(*vip);
            } else {
                self.host_vips.remove(vip);
            }
        }
        let Some((bank, generation)) = self.maps.published() else { return };
        mark(&self.maps.index_v4, bank, generation.index_mask_v4, &self.host_vips);
        mark(&self.maps.index_v6, bank, generation.index_mask_v6, &self.host_vips);
    }

    /// The entry with the bit of its VIP, for publication.
    pub(super) fn with_host<E: Entry>(&self, mut entry: E) -> E {
        let vip = entry.vip();
        let service_ref = entry.service_ref();
        if service_ref.is_vip() {
            *service_ref = service_ref.with_host(self.host_vips.contains(&vip));
        }
        entry
    }
}

/// The VIPs that are published as addresses of the host.
pub(super) fn of_host(maps: &Maps) -> BTreeSet<IpAddr> {
    let Some((bank, generation)) = maps.published() else { return BTreeSet::new() };
    let v4 = vips(&maps.index_v4, bank, generation.index_mask_v4);
    let v6 = vips(&maps.index_v6, bank, generation.index_mask_v6);
    let host = |(_, vip, service_ref): (u32, IpAddr, ServiceRef)| service_ref.is_host().then_some(vip);
    v4.filter_map(host).chain(v6.filter_map(host)).collect()
}

/// The VIPs' own entries: index, VIP and service reference.
fn vips<E: Entry>(index: &Mapped<E>, bank: u32, mask: u32) -> impl Iterator<Item = (u32, IpAddr, ServiceRef)> {
    (0..=mask).filter_map(move |number| {
        let at = position(bank, number)?;
        let mut entry = index.read(at)?;
        let service_ref = *entry.service_ref();
        service_ref.is_vip().then(|| (at, entry.vip(), service_ref))
    })
}

/// Sets or clears the bits that differ from `host`, each by one atomic operation.
fn mark<E: Entry>(index: &Mapped<E>, bank: u32, mask: u32, host: &BTreeSet<IpAddr>) {
    for (at, vip, service_ref) in vips(index, bank, mask) {
        if service_ref.is_host() != host.contains(&vip)
            && let Some(word) = index.atomic_u32(at, E::SLOTS_AT)
        {
            word.fetch_xor(ServiceRef::HOST, Ordering::AcqRel);
        }
    }
}
