//! Planning: a configuration and what was published before it, into what to write where.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use thiserror::Error;

use edge_common::{
    abi::{
        self, BackendNumber, CELL, Cell, Failover, Family, Generation, MAX_POOLS, SNAPSHOT_PAGE, ServiceEntryV4,
        ServiceEntryV6, SnapshotHead, State, map,
    },
    candidates::{self, Member},
    select,
};

use super::{
    BackendRecord, Capacity, LANES, PoolRecord, ServiceRecord, Snapshot, admin, index, regions::Regions,
    snapshot::list_cells, state,
};
use crate::{
    config::{self, Config},
    health::Health,
};

/// ICMP and ICMPv6 errors that each CPU sends in a second at most. Path MTU discovery needs few; a flood should not get one
/// for each of its packets (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4).
const ERRORS_PER_SECOND: u32 = 1000;

/// What was published before, and what has become of it since.
#[derive(Clone, Copy)]
pub(crate) struct Previous<'a> {
    pub snapshot: &'a Snapshot,
    pub state: &'a dyn Fn(BackendNumber) -> State,
    /// Asked by service number.
    pub failover: &'a dyn Fn(u32) -> Failover,
}

/// All that a new generation writes, and where. Nothing in it touches what the previous generation reads, but the owners
/// of services that stay.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub snapshot: Snapshot,
    /// The snapshot as JSON; it fits into its pages.
    pub json: Vec<u8>,
    pub generation: Generation,
    /// The whole IPv4 index; its length is the mask's plus one.
    pub index_v4: Vec<ServiceEntryV4>,
    /// The whole IPv6 index.
    pub index_v6: Vec<ServiceEntryV6>,
    pub services: Vec<NewService>,
    /// Numbers and pools; their two counts are right if no state changed since.
    pub pools: Vec<(u16, abi::Pool)>,
    /// Backends with new numbers; the others stay as they are.
    pub backends: Vec<(BackendNumber, abi::Backend)>,
    /// Candidate tables and member lists with new places; the others stay as they are.
    pub candidates: Vec<Region>,
}

/// A service of the new generation.
#[derive(Clone, Debug)]
pub(crate) struct NewService {
    pub number: u32,
    pub service: abi::Service,
    /// Whether the number was free before, so that its counters are somebody else's.
    pub fresh_number: bool,
    /// Whether its owners have a new place, and are all to be picked.
    pub fresh_owners: bool,
}

/// A run of cells.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    /// The first cell's index.
    pub first: u32,
    pub cells: Vec<Cell>,
}

/// Why a configuration cannot be published into these maps.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum PlanError {
    #[error(
        "the map {map} has room for {has} {unit}, this configuration needs {needs} (while the previous one is still in \
         use): run `edge-ctl detach`, then start again, which makes maps that are large enough"
    )]
    Full { map: &'static str, unit: &'static str, has: u32, needs: u32 },
    #[error(
        "the services do not fit into the map {map} with this `hash_key`: run `edge-ctl detach`, then start again with \
         larger [limits] services"
    )]
    Index { map: &'static str },
    #[error("the snapshot of this configuration cannot be written as JSON")]
    Json(String),
}

/// Plans the publication of `config` into maps of `capacity`, after `previous`.
///
/// Numbers are kept by name, and a backend's also by address: what belongs to the old address must not follow it.
/// Numbers and cells that the previous generation uses are not given anew.
///
/// # Errors
/// When the configuration does not fit; nothing needs to be undone.
pub(crate) fn plan(config: &Config, capacity: &Capacity, previous: Option<Previous<'_>>) -> Result<Image, PlanError> {
    let mut image = Image {
        snapshot: Snapshot {
            generation: previous.map_or(0, |p| p.snapshot.generation) + 1,
            slots: config.slots,
            config: config.text.clone(),
            services: Vec::new(),
            pools: Vec::new(),
        },
        json: Vec::new(),
        generation: Generation::default(),
        index_v4: Vec::new(),
        index_v6: Vec::new(),
        services: Vec::new(),
        pools: Vec::new(),
        backends: Vec::new(),
        candidates: Vec::new(),
    };
    plan_pools(config, capacity, previous, &mut image)?;
    plan_services(config, capacity, previous, &mut image)?;
    (image.index_v4, image.index_v6) = index::build(config, capacity, &image.services)?;
    let mask = |length: usize| u32::try_from(length.max(1) - 1).unwrap_or(u32::MAX);
    image.generation = Generation {
        number: image.snapshot.generation,
        hash_key: config.hash_key,
        index_mask_v4: mask(image.index_v4.len()),
        index_mask_v6: mask(image.index_v6.len()),
        slot_mask: config.slots - 1,
        tunnel_source_v4: config.tunnel.source_v4.unwrap_or(Ipv4Addr::UNSPECIFIED).octets(),
        tunnel_source_v6: config.tunnel.source_v6.unwrap_or(Ipv6Addr::UNSPECIFIED).octets(),
        records_per_second: 1 << 16,
        errors_per_second: ERRORS_PER_SECOND,
        reserved: [0; 8],
    };
    image.json = serde_json::to_vec(&image.snapshot).map_err(|error| PlanError::Json(error.to_string()))?;
    let pages = (size_of::<SnapshotHead>() + image.json.len()).div_ceil(SNAPSHOT_PAGE);
    if pages > capacity.snapshot as usize {
        return Err(full(map::SNAPSHOT, "pages", capacity.snapshot, pages));
    }
    Ok(image)
}

fn plan_pools(
    config: &Config,
    capacity: &Capacity,
    previous: Option<Previous<'_>>,
    image: &mut Image,
) -> Result<(), PlanError> {
    let before = previous.map(|p| p.snapshot);
    let mut pool_numbers =
        Numbers::new(0, capacity.pools, before.iter().flat_map(|s| &s.pools).map(|p| p.number.into()));
    let mut backend_numbers =
        Numbers::new(1, capacity.backends, before.iter().flat_map(|s| s.backends()).map(|(_, b)| b.number.into()));
    let mut regions = Regions::new(capacity.candidates, before.iter().flat_map(|s| s.candidate_cells()));

    for pool in &config.pools {
        let old = before.and_then(|s| s.pool(&pool.name));
        let number = match old {
            Some(old) => old.number,
            None => {
                narrow(pool_numbers.next().ok_or_else(|| pool_numbers.full(map::POOLS, "pools", config.pools.len()))?)
            }
        };
        let mut record = PoolRecord {
            name: pool.name.clone(),
            number,
            table: 0,
            member_list: 0,
            checksum: 0,
            backends: Vec::with_capacity(pool.backends.len()),
        };
        let mut states = Vec::with_capacity(pool.backends.len());
        for backend in &pool.backends {
            let namesake = old.and_then(|old| old.backends.iter().find(|b| b.name == backend.name));
            let (number, state) = match (namesake, previous) {
                (Some(old), Some(previous)) if old.address == backend.address => {
                    (old.number, (previous.state)(old.number))
                }
                _ => {
                    // The operator's word is about the name; what probes found out is about the address.
                    let word = namesake.zip(previous).map(|(old, p)| admin((p.state)(old.number))).unwrap_or_default();
                    let state = state(word, Health::Unknown);
                    let count = config.pools.iter().map(|p| p.backends.len()).sum();
                    let free = backend_numbers.next();
                    let new = narrow(free.ok_or_else(|| backend_numbers.full(map::BACKENDS, "backends", count))?);
                    image.backends.push((new, new_backend(backend.address, record.number, state)));
                    (new, state)
                }
            };
            states.push(state);
            record.backends.push(BackendRecord { name: backend.name.clone(), number, address: backend.address });
        }
        let same_slots = before.is_some_and(|s| s.slots == config.slots);
        let old = old.filter(|_| same_slots);
        place_tables(pool, &states, config.slots, old, &mut regions, &mut record, &mut image.candidates).ok_or_else(
            || {
                let needs = regions.used() as usize + config.slots as usize + list_cells(&record.backends) as usize;
                full(map::CANDIDATES, "cells", capacity.candidates, needs)
            },
        )?;
        let count = |bits| narrow(states.iter().filter(|state| state.has(bits)).count());
        image.pools.push((
            record.number,
            abi::Pool {
                table: record.table,
                member_list: record.member_list,
                members: narrow(record.backends.len()),
                min_healthy: pool.min_healthy,
                available: count(State::NEW),
                enabled: count(State::ENABLED),
                reserved: 0,
            },
        ));
        image.snapshot.pools.push(record);
    }
    Ok(())
}

/// Builds a pool's candidate table and member list, and finds them a place: the old one when both are what they were.
fn place_tables(
    pool: &config::Pool,
    states: &[State],
    slots: u32,
    old: Option<&PoolRecord>,
    regions: &mut Regions,
    record: &mut PoolRecord,
    new: &mut Vec<Region>,
) -> Option<()> {
    let members: Vec<_> = pool
        .backends
        .iter()
        .zip(&record.backends)
        .map(|(backend, given)| Member {
            number: given.number,
            weight: backend.weight,
            identity: identity(given.address),
        })
        .collect();
    let table = candidates::build(&members, slots);
    record.checksum = crc32fast::hash(bytemuck::cast_slice(&table));

    if let Some(old) = old.filter(|old| is_unchanged(old, record)) {
        record.table = old.table;
        record.member_list = old.member_list;
        return Some(());
    }
    // Tables from one end, lists from the other: equal lengths leave no gaps that nothing fits into.
    record.table = regions.lowest(slots)?;
    record.member_list = regions.highest(list_cells(&record.backends))?;
    new.push(Region { first: record.table, cells: table });
    let states: Vec<_> = record.backends.iter().zip(states).map(|(given, &state)| (given, state)).collect();
    new.push(Region { first: record.member_list, cells: member_list(states) });
    Some(())
}

/// The member list of a pool (see [`abi::Pool::member_list`]) as it is to be for these states.
pub(crate) fn member_list(mut members: Vec<(&BackendRecord, State)>) -> Vec<Cell> {
    members.sort_unstable_by_key(|(record, _)| identity(record.address));
    let members: Vec<_> = members.into_iter().map(|(record, state)| (record.number, state)).collect();
    let cell = |numbers: &[BackendNumber]| {
        let mut cell = Cell::default();
        cell.0[..numbers.len()].copy_from_slice(numbers);
        cell
    };
    select::member_list(&members).chunks(CELL).map(cell).collect()
}

/// Whether the old cells hold what `new` is to hold. The checksum covers weights, and a change of the algorithm.
fn is_unchanged(old: &PoolRecord, new: &PoolRecord) -> bool {
    let numbers = |pool: &PoolRecord| pool.backends.iter().map(|b| b.number).collect::<BTreeSet<_>>();
    old.checksum == new.checksum && numbers(old) == numbers(new)
}

fn plan_services(
    config: &Config,
    capacity: &Capacity,
    previous: Option<Previous<'_>>,
    image: &mut Image,
) -> Result<(), PlanError> {
    let before = previous.map(|p| p.snapshot);
    let mut numbers = Numbers::new(0, capacity.services, before.iter().flat_map(|s| &s.services).map(|s| s.number));
    let mut regions = Regions::new(capacity.owners, before.iter().flat_map(|s| s.owner_cells()));
    for service in &config.services {
        let old = before.and_then(|s| s.service(&service.name));
        let number = match old {
            Some(old) => old.number,
            None => numbers.next().ok_or_else(|| numbers.full(map::SERVICES, "services", config.services.len()))?,
        };
        let kept = old.filter(|_| before.is_some_and(|s| s.slots == config.slots));
        let owners = match kept {
            Some(old) => old.owners,
            None => regions.lowest(config.slots / LANES).ok_or_else(|| {
                let needs = regions.used() as usize + config.slots as usize / CELL;
                full(map::OWNERS, "cells", capacity.owners, needs)
            })?,
        };
        let record = ServiceRecord { name: service.name.clone(), number, owners, pools: service.pools.clone() };
        let failover = previous.zip(old).map_or(Failover::default(), |(previous, old)| {
            failover_after((previous.failover)(old.number), old, previous.snapshot, &record, &image.snapshot)
        });
        let mut pools = [0; MAX_POOLS];
        for (to, &at) in pools.iter_mut().zip(&service.pools) {
            *to = image.snapshot.pools[at].number;
        }
        image.services.push(NewService {
            number,
            service: abi::Service {
                failover: failover.to_raw(),
                owners,
                pools,
                pool_count: narrow(service.pools.len()),
                mode: service.mode as u8,
                when_exhausted: service.when_exhausted as u8,
                tracking: abi::Tracking::Tcp as u8,
                unsettled: 1,
                affinity_prefix: 0,
                reserved: [0; 15],
            },
            fresh_number: old.is_none(),
            fresh_owners: kept.is_none(),
        });
        image.snapshot.services.push(record);
    }
    Ok(())
}

/// The failover of a service whose list of pools may have changed: it goes on to the pool that it named or, if that has
/// left the list, to the next one that was behind it; to none when there is none.
fn failover_after(
    failover: Failover,
    old: &ServiceRecord,
    old_snapshot: &Snapshot,
    new: &ServiceRecord,
    snapshot: &Snapshot,
) -> Failover {
    if failover.first == 0 {
        return Failover::default();
    }
    let targets = old.pools.iter().skip(failover.first.into()).filter_map(|&at| old_snapshot.pools.get(at));
    let position = |name: &str| new.pools.iter().position(|&at| snapshot.pools.get(at).is_some_and(|p| p.name == name));
    match targets.into_iter().find_map(|pool| position(&pool.name)) {
        None | Some(0) => Failover::default(),
        Some(first) => Failover { first: narrow(first), ..failover },
    }
}

/// A backend whose next hop nobody has looked up yet.
fn new_backend(address: IpAddr, pool: u16, state: State) -> abi::Backend {
    let mut bytes = [0; 16];
    let family = match address {
        IpAddr::V4(v4) => {
            bytes[..4].copy_from_slice(&v4.octets());
            Family::V4
        }
        IpAddr::V6(v6) => {
            bytes = v6.octets();
            Family::V6
        }
    };
    abi::Backend { state: state.0, pool, family: family as u8, address: bytes, ..abi::Backend::default() }
}

/// What a backend is to the tables, on every edge: its address.
fn identity(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Hands out numbers that the previous generation did not use, lowest first.
struct Numbers {
    taken: BTreeSet<u32>,
    next: u32,
    end: u32,
}

impl Numbers {
    fn new(first: u32, end: u32, taken: impl Iterator<Item = u32>) -> Self {
        Self { taken: taken.collect(), next: first, end }
    }

    fn next(&mut self) -> Option<u32> {
        let number = (self.next..self.end).find(|number| !self.taken.contains(number))?;
        self.next = number + 1;
        Some(number)
    }

    /// The error for when there are no more; `count` is how many the configuration has.
    fn full(&self, map: &'static str, unit: &'static str, count: usize) -> PlanError {
        full(map, unit, self.end, self.taken.len() + count)
    }
}

fn full(map: &'static str, unit: &'static str, has: u32, needs: usize) -> PlanError {
    PlanError::Full { map, unit, has, needs: u32::try_from(needs).unwrap_or(u32::MAX) }
}

/// A count or number that the configuration's limits keep in range.
fn narrow<From, To: TryFrom<From>>(value: From) -> To {
    To::try_from(value).unwrap_or_else(|_| unreachable!("limits are checked with the configuration and the capacity"))
}
