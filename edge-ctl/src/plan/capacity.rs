//! Sizes of the maps, derived from the configuration.

use serde::{Deserialize, Serialize};

use edge_common::abi::{Dimension, MAPS, MapKind, MapSpec, SLOTS_PER_CELL, SNAPSHOT_PAGE};

use super::regions::cells;
use crate::config::{Config, DEFAULT_SLOTS, NatPorts, Service};

/// Sizes of the maps in entries. For a map with two banks: entries of one bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capacity {
    /// Service numbers.
    pub services: u32,
    /// Pool numbers.
    pub pools: u32,
    /// Backend numbers, the unused number 0 among them.
    pub backends: u32,
    /// Positions of the IPv4 service index.
    pub index_v4: u32,
    /// Positions of the IPv6 service index.
    pub index_v6: u32,
    /// Cells of candidate tables and member lists.
    pub candidates: u32,
    /// Cells of slots.
    pub slots: u32,
    /// Entries of the flow table, a power of two.
    pub flows: u32,
    /// Entries of the table of translated flows, a power of two.
    pub nat_flows: u32,
    /// Port range of translated sources, from which the entries' places follow. `None` if nothing is translated.
    pub nat_ports: Option<NatPorts>,
    /// Fragmented packets of each IP version.
    pub fragments: u32,
    /// Pages of the snapshot.
    pub snapshot: u32,
    /// Pages of the history.
    pub history: u32,
}

/// Kernel overhead of an element of a hash table, and of a bucket, in bytes. A table has as many buckets as elements.
const HASH_ELEMENT: u32 = 48;
const HASH_BUCKET: u32 = 16;

/// Entries of a table of translated flows that is not used.
const LEAST_NAT_FLOWS: u32 = 16;

/// Backend numbers are 16 bits wide.
const MOST_BACKENDS: u32 = 1 << 16;

impl Capacity {
    /// Room for every configuration within the limits of `config`, and for half as many slots more, so that any other
    /// such configuration can follow it.
    ///
    /// Numbers and cells of one generation may not be written while the one before may still be read, so there is room
    /// for two.
    pub(crate) fn of(config: &Config) -> Self {
        let limits = config.limits;
        let services = limits.services.max(1).saturating_mul(2);
        let pools = limits.pools.clamp(1, 1 << 15) * 2;
        let backends = limits.backends.saturating_mul(2).saturating_add(1).min(MOST_BACKENDS);
        // Two-choice hashing fills a quarter without trouble; the second half of the room is a reserve for unlucky sets
        // of keys.
        let index = limits.destinations.clamp(1, 1 << 24).saturating_mul(8).next_power_of_two();
        let slots = config.services.iter().map(|service| service.slots).fold(0, u32::saturating_add);
        let tables = table_sizes(config).into_iter().fold(0, u32::saturating_add);
        let lists = cells(limits.backends).saturating_add(limits.pools);
        let snapshot =
            (u64::from(limits.backends) * 512 + u64::from(limits.pools + limits.services) * 512 + (64 << 10))
                .saturating_add(config.text.len() as u64 * 4)
                .div_ceil(SNAPSHOT_PAGE as u64);
        // Ten texts that fill the limits, compressed to less than half.
        let text = (u64::from(limits.backends) * 96 + u64::from(limits.pools + limits.services) * 256 + (4 << 10))
            .max(config.text.len() as u64 * 2);
        let history = (text * 4 + (64 << 10)).div_ceil(SNAPSHOT_PAGE as u64);
        Self {
            services,
            pools,
            backends,
            index_v4: index,
            index_v6: index,
            // Lists vary in length, so twice the room again keeps gaps between them from mattering.
            candidates: room(tables)
                .saturating_add(lists.saturating_mul(4))
                .saturating_add(server_cells(config).saturating_mul(3)),
            slots: room(slots) / SLOTS_PER_CELL,
            flows: limits.flows.clamp(16, 1 << 24).next_power_of_two(),
            nat_flows: limits.nat_flows.unwrap_or(LEAST_NAT_FLOWS),
            nat_ports: limits.nat_flows.map(|_| config.nat.ports),
            fragments: limits.fragments,
            snapshot: u32::try_from(snapshot).unwrap_or(u32::MAX),
            history: u32::try_from(history).unwrap_or(u32::MAX),
        }
    }
}

impl Capacity {
    /// Whether a configuration that translates may use these maps: every port range needs more entries than an unused
    /// table has.
    pub(crate) const fn translates(&self) -> bool {
        self.nat_flows > LEAST_NAT_FLOWS
    }

    /// The size of a dimension.
    pub(crate) const fn of_dimension(&self, dimension: Dimension) -> u32 {
        match dimension {
            Dimension::IndexV4 => self.index_v4,
            Dimension::IndexV6 => self.index_v6,
            Dimension::Services => self.services,
            Dimension::Pools => self.pools,
            Dimension::Backends => self.backends,
            Dimension::Candidates => self.candidates,
            Dimension::Slots => self.slots,
            Dimension::Flows => self.flows,
            Dimension::NatFlows => self.nat_flows,
            Dimension::Fragments => self.fragments,
            Dimension::Snapshot => self.snapshot,
            Dimension::History => self.history,
        }
    }

    /// Bytes that the kernel allocates for all maps, with counters for one processor.
    pub(crate) fn memory(&self) -> u64 {
        let bytes = |map: MapSpec| {
            let entry = match map.kind {
                MapKind::Shared | MapKind::PerCpu => map.value.next_multiple_of(8),
                // Overhead of an element and of its bucket; `htab_map_mem_usage` counts the same way.
                MapKind::Lru => {
                    map.key.next_multiple_of(8) + map.value.next_multiple_of(8) + HASH_ELEMENT + HASH_BUCKET
                }
            };
            u64::from(map.entries.count(|dimension| self.of_dimension(dimension))) * u64::from(entry)
        };
        MAPS.into_iter().map(bytes).sum()
    }

    /// Whether a size that the configuration names differs from these; sizes without a name follow from the named ones.
    pub(crate) fn is_other_than_named(&self, config: &Config) -> bool {
        let sizes = self.sizes().into_iter().zip(Self::of(config).sizes());
        let other_ports =
            self.nat_ports.is_some() && config.limits.nat_flows.is_some() && self.nat_ports != Some(config.nat.ports);
        other_ports || sizes.zip(config.limits.is_named()).any(|((has, wanted), named)| named && has != wanted)
    }

    /// Sizes by their names in docs/config.md.
    pub(crate) const fn sizes(&self) -> [(&'static str, u32); 7] {
        [
            ("services", self.services / 2),
            ("destinations", self.index_v4 / 8),
            ("pools", self.pools / 2),
            ("backends", self.backends / 2),
            ("flows", self.flows),
            ("nat_flows", self.nat_flows),
            ("fragments", self.fragments),
        ]
    }
}

/// Room for slots if `slots` are configured: two generations of half as many more, and at least of two default services.
fn room(slots: u32) -> u32 {
    slots.max(2 * DEFAULT_SLOTS).saturating_mul(3)
}

/// The table sizes of each pool: the numbers of slots of the services that use it, one bit each.
pub(super) fn table_sizes(config: &Config) -> Vec<u32> {
    let mut sizes = vec![0; config.pools.len()];
    for service in &config.services {
        service.pools.iter().for_each(|&pool| sizes[pool] |= service.slots);
    }
    sizes
}

/// Cells of the server numbers of all services.
fn server_cells(config: &Config) -> u32 {
    let routed = config.services.iter().filter(|service| service.quic_cid.is_some());
    let backends = |service: &Service| service.pools.iter().map(|at| config.pools[*at].backends.len()).sum::<usize>();
    let cells = |service| u32::try_from(backends(service) * 2).map_or(u32::MAX, u32::next_power_of_two);
    routed.map(cells).fold(0, u32::saturating_add)
}
