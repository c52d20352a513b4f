//! Sizes: how many entries the maps need, and whether a configuration is too large.

use std::collections::{HashMap, HashSet};

use edge_common::abi::SLOTS_PER_CELL;

use super::{
    Limits,
    across::Sections,
    host::{Counts, LimitsDraft, MOST, SLOTS},
    nat,
    problems::{Problems, Read},
    services::ServiceDraft,
    walk::Located,
};

/// Slots that each backend of a pool needs for a balance within 1 %.
const SLOTS_PER_BACKEND: usize = 100;

/// Default sizes of the maps, for a file that needs no more.
const BASE: Counts = Counts { services: 64, destinations: 256, pools: 16, backends: 1024 };

/// Limit of the tables that grow with slots, in bytes. A cell has 8 bytes, see `edge_common::abi::Cell`.
const TABLE_MEMORY: u64 = 4 << 30;

impl Sections {
    /// Sizes of the maps: as configured, else enough for a configuration that grows to twice its size.
    pub(super) fn limits(&self) -> Limits {
        let need = self.need();
        let enough = |need: u64, base: u32, most: u32| {
            let twice = need.saturating_mul(2).checked_next_power_of_two();
            twice.and_then(|size| u32::try_from(size).ok()).map_or(most, |size| size.clamp(base, most))
        };
        let size = |wanted: Option<Located<u32>>, need, base, most| {
            wanted.map_or_else(|| enough(need, base, most), |wanted| wanted.value)
        };
        let LimitsDraft { wanted, flows, flows_per_second, nat_flows, fragments, first_fragments_per_second, answers } =
            self.limits.unwrap_or_default();
        Limits {
            services: size(wanted.services, need.services, BASE.services, MOST.services),
            destinations: size(wanted.destinations, need.destinations, BASE.destinations, MOST.destinations),
            pools: size(wanted.pools, need.pools, BASE.pools, MOST.pools),
            backends: size(wanted.backends, need.backends, BASE.backends, MOST.backends),
            named: [wanted.services, wanted.destinations, wanted.pools, wanted.backends].map(|wanted| wanted.is_some()),
            flows,
            flows_per_second,
            nat_flows: nat::entries(self.services.as_deref().unwrap_or_default(), nat_flows),
            fragments,
            first_fragments_per_second,
            answers,
        }
    }

    /// Number of services, destinations, pools and backends in the file.
    fn need(&self) -> Counts<u64> {
        let pools = self.pools.as_deref().unwrap_or_default();
        let count = |n: usize| n as u64;
        let (services, split) = (self.services.as_deref().unwrap_or_default(), self.split_pools());
        Counts {
            services: count(services.iter().map(|service| parts(service, &split)).sum()),
            destinations: count(self.destinations()),
            pools: count(pools.iter().map(|pool| pool.parts().len()).sum()),
            backends: count(pools.iter().map(|pool| pool.size * pool.parts().len()).sum()),
        }
    }

    /// Names of the pools with a backend that has two addresses. Computed once: there may be thousands of services.
    fn split_pools(&self) -> HashSet<&str> {
        let pools = self.pools.as_deref().unwrap_or_default().iter();
        let split = pools.filter(|pool| pool.parts().len() > 1);
        split.filter_map(|pool| Some(pool.name.as_ref().ok()?.value.as_str())).collect()
    }

    /// Entries of the service index: each VIP with each port, and each VIP itself.
    pub(super) fn destinations(&self) -> usize {
        let services = self.services.as_deref().unwrap_or_default();
        let vips: HashSet<_> = services.iter().flat_map(ServiceDraft::vips).map(|vip| vip.value).collect();
        let doors = services.iter().map(doors);
        doors.fold(vips.len(), usize::saturating_add)
    }

    /// Records maps that would be too large, or smaller than the configuration, each at the largest part of it.
    pub(super) fn check_sizes(&self, problems: &Problems<'_>) {
        let (need, split) = (self.need(), self.split_pools());
        let Ok(LimitsDraft { wanted, .. }) = self.limits else { return };
        for (key, wanted, need, most) in [
            ("services", wanted.services, need.services, MOST.services),
            ("destinations", wanted.destinations, need.destinations, MOST.destinations),
            ("pools", wanted.pools, need.pools, MOST.pools),
            ("backends", wanted.backends, need.backends, MOST.backends),
        ] {
            if need > u64::from(most) {
                let (at, largest) = self.largest(key, most as usize);
                let what = format!("{need} {key} are configured; {most} is the most{largest}");
                problems.add(at, what, "fewer, or another edge");
            } else if let Some(wanted) = wanted.filter(|wanted| u64::from(wanted.value) < need) {
                let twice = if key != "destinations" && !split.is_empty() {
                    ", where those with backends of two addresses count twice"
                } else {
                    ""
                };
                let what = format!("`{key}` is {}, but {need} are configured{twice}", wanted.value);
                let room = need.saturating_mul(2).min(most.into());
                problems.add(wanted.at, what, format!("{key} = {room}, which leaves room to grow"));
            }
        }
        self.check_slots(problems);
        self.check_memory(problems, &split);
    }

    /// Place and name of the part of the configuration with most of `key`, or the first one beyond `most` of them.
    fn largest(&self, key: &str, most: usize) -> (usize, String) {
        let services = self.services.as_deref().unwrap_or_default();
        let pools = self.pools.as_deref().unwrap_or_default();
        let last_of = |at: Option<usize>| (at.unwrap_or_default(), String::new());
        match key {
            "services" => last_of(services.get(most).or(services.last()).map(|service| service.at)),
            "pools" => last_of(pools.get(most).or(pools.last()).map(|pool| pool.at)),
            "destinations" => {
                services.iter().rev().max_by_key(|service| doors(service)).map_or_else(Default::default, |found| {
                    let (vips, ports) = (found.vips().len(), count_ports(found));
                    (found.at, format!("; service `{}` has {vips} VIPs with {ports} ports each", named(&found.name)))
                })
            }
            _ => pools.iter().rev().max_by_key(|pool| pool.size).map_or_else(Default::default, |found| {
                (found.at, format!("; pool `{}` has {}", named(&found.name), found.size))
            }),
        }
    }

    /// Records tables of slots that would take too much memory.
    fn check_memory(&self, problems: &Problems<'_>, split: &HashSet<&str>) {
        let Ok(slots) = self.slots else { return };
        // The slots of a service take a cell for two. Candidate tables take a cell per slot, for each pool and number
        // of slots. The maps are made three times as large, see `plan::Capacity`.
        let services = self.services.as_deref().unwrap_or_default();
        let of = |service: &ServiceDraft| u64::from(service.slots_or(slots).value) * parts(service, split) as u64;
        let own: u64 = services.iter().map(of).sum();
        let sizes = self.sizes(slots);
        let tables = self.pools.as_deref().unwrap_or_default().iter().filter_map(|pool| {
            let (sizes, _) = sizes.get(pool.name.as_ref().ok()?.value.as_str())?;
            Some(u64::from(*sizes) * pool.parts().len() as u64)
        });
        let tables: u64 = tables.sum();
        let bytes = (own / u64::from(SLOTS_PER_CELL) + tables) * 3 * 8;
        if bytes > TABLE_MEMORY {
            let what = format!(
                "the slots of {} services ({} each by default) and their pools take {} MiB of kernel memory; {} is the most",
                services.len(),
                slots.value,
                bytes >> 20,
                TABLE_MEMORY >> 20,
            );
            let largest = services.iter().rev().max_by_key(|service| of(service));
            let at = if slots.at > 0 {
                slots.at
            } else {
                largest.map_or(0, |service| service.slots_or(slots).at.max(service.at))
            };
            problems.add(at, what, "a smaller `slots`, for the whole file or for services with few clients");
        }
    }

    /// For each pool name: the slot counts of its services, or-ed (each is a power of two), and the smallest of them.
    fn sizes(&self, slots: Located<u32>) -> HashMap<&str, (u32, Located<u32>)> {
        let mut sizes: HashMap<&str, (u32, Located<u32>)> = HashMap::new();
        for service in self.services.as_deref().unwrap_or_default() {
            let own = service.slots_or(slots);
            for pool in service.pools.as_deref().unwrap_or_default() {
                let (sizes, smallest) = sizes.entry(&pool.value).or_insert((0, own));
                *sizes |= own.value;
                if own.value < smallest.value {
                    *smallest = own;
                }
            }
        }
        sizes
    }

    fn check_slots(&self, problems: &Problems<'_>) {
        let Ok(slots) = self.slots else { return };
        let sizes = self.sizes(slots);
        for pool in self.pools.as_deref().unwrap_or_default() {
            let Ok(name) = &pool.name else { continue };
            let Some((_, slots)) = sizes.get(name.value.as_str()) else { continue };
            let need = pool.size.saturating_mul(SLOTS_PER_BACKEND);
            if need <= slots.value as usize {
                continue;
            }
            let what =
                format!("{} slots are too few for the {} backends of pool `{}`", slots.value, pool.size, name.value);
            let enough = need.next_power_of_two();
            if enough <= SLOTS.1 as usize {
                // The default number of slots is nowhere in the file.
                let at = if slots.at > 0 { slots.at } else { pool.at };
                problems.add(at, what, format!("slots = {enough} (100 for each backend and a power of two)"));
            } else {
                let most = SLOTS.1 as usize / SLOTS_PER_BACKEND;
                let write = format!("several pools of at most {most} backends, with slots = {}", SLOTS.1);
                problems.add(pool.at, what, write);
            }
        }
    }
}

/// Services that a service of the file becomes: 2 if one of its pools is in `split` and its VIPs are of both versions.
fn parts(service: &ServiceDraft, split: &HashSet<&str>) -> usize {
    let mut pools = service.pools.as_deref().unwrap_or_default().iter();
    service.parts(pools.any(|name| split.contains(name.value.as_str()))).len()
}

/// Each VIP with each port.
fn doors(service: &ServiceDraft) -> usize {
    service.vips().len().saturating_mul(count_ports(service))
}

fn count_ports(service: &ServiceDraft) -> usize {
    service.ports().iter().map(|ports| usize::from(ports.value.last - ports.value.first) + 1).sum()
}

fn named(name: &Read<Located<String>>) -> &str {
    name.as_ref().map_or("?", |name| &name.value)
}
