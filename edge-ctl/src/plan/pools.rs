//! Assigns numbers, tables and member lists to pools and backends.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use edge_common::{
    abi::{self, BackendNumber, CELL, Cell, Family, State, map},
    tables::{
        self,
        candidates::{self, Member},
    },
};

use super::{
    Image, PlanError, Previous, Region, Returned,
    capacity::table_sizes,
    numbers::{Numbers, full, narrow},
};
use crate::{
    config::{self, Config},
    health::Health,
    plan::{
        BackendRecord, Capacity, PoolRecord, RetiredRecord, condition, regions::Regions, snapshot::list_cells, state,
        word as given,
    },
};

pub(super) fn plan(
    config: &Config,
    capacity: &Capacity,
    previous: Option<Previous<'_>>,
    kept: &[&RetiredRecord],
    image: &mut Image,
) -> Result<(), PlanError> {
    let before = previous.map(|p| p.snapshot);
    let mut pool_numbers =
        Numbers::new(0, capacity.pools, before.iter().flat_map(|s| &s.pools).map(|p| p.number.into()));
    let configured = before.iter().flat_map(|s| s.backends()).map(|(_, b)| b.number.into());
    let mut backend_numbers =
        Numbers::new(1, capacity.backends, configured.chain(kept.iter().map(|known| known.number.into())));
    let mut regions = Regions::new(capacity.candidates, before.iter().flat_map(|s| s.candidate_cells()));

    let sizes = table_sizes(config);
    for pool in &config.pools {
        let old = before.and_then(|s| s.pool_before(config, pool));
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
            sizes: sizes[image.snapshot.pools.len()],
            member_list: 0,
            checksum: 0,
            backends: Vec::with_capacity(pool.backends.len()),
        };
        let mut states = Vec::with_capacity(pool.backends.len());
        for backend in &pool.backends {
            let namesake = old.and_then(|old| old.backends.iter().find(|b| b.name == backend.name));
            // The operator's decision follows the name; results of probes follow the address.
            let same_name = || before.and_then(|s| s.namesake(&pool.name, &backend.name));
            let word = namesake.or_else(same_name).zip(previous).map(|(old, p)| given((p.state)(old.number)));
            let back = before.and_then(|s| s.retired(&pool.name, backend));
            let (number, state) = match (namesake, back, previous) {
                (Some(old), _, Some(previous)) if old.is(backend) => (old.number, (previous.state)(old.number)),
                (_, Some(back), Some(previous)) => {
                    let known = (previous.state)(back.number);
                    let state = state(word.unwrap_or(given(known)), condition(known));
                    image.returned.push(Returned { number: back.number, pool: record.number, state });
                    (back.number, state)
                }
                _ => {
                    let state = state(word.unwrap_or_default(), Health::Unknown);
                    let count: usize = config.pools.iter().map(|p| p.backends.len()).sum();
                    let free = backend_numbers.next();
                    let full = || backend_numbers.full(map::BACKENDS, "backends", count).with_retired(kept.len());
                    let new = narrow(free.ok_or_else(full)?);
                    image.backends.push((new, new_backend(backend.address, backend.port, record.number, state)));
                    (new, state)
                }
            };
            states.push(state);
            let (name, address) = (backend.name.clone(), backend.address);
            let (port, server) = (backend.port, backend.server_number);
            record.backends.push(BackendRecord { name, number, address, port, server });
        }
        let placed = place_tables(pool, &states, old, &mut regions, &mut record, &mut image.candidates);
        placed.ok_or_else(|| {
            let needs = regions.used() as usize + record.sizes as usize + list_cells(&record.backends) as usize;
            full(map::CANDIDATES, "cells", capacity.candidates, needs)
        })?;
        let count = |bits| narrow(states.iter().filter(|state| state.has_all(bits)).count());
        image.pools.push((
            record.number,
            abi::Pool {
                table: record.table,
                sizes: record.sizes,
                member_list: record.member_list,
                members: narrow(record.backends.len()),
                min_healthy: pool.min_healthy,
                available: count(State::NEW),
                enabled: count(State::ENABLED),
                withheld: 0,
                reserved: 0,
            },
        ));
        image.snapshot.pools.push(record);
    }
    Ok(())
}

/// Builds a pool's candidate tables and member list, and places them: in the old cells if both are unchanged.
fn place_tables(
    pool: &config::Pool,
    states: &[State],
    old: Option<&PoolRecord>,
    regions: &mut Regions,
    record: &mut PoolRecord,
    new: &mut Vec<Region>,
) -> Option<()> {
    let table = candidate_tables(pool, record);
    record.checksum = crc32fast::hash(bytemuck::cast_slice(&table));

    if let Some(old) = old.filter(|old| is_unchanged(old, record)) {
        record.table = old.table;
        record.member_list = old.member_list;
        return Some(());
    }
    // Tables from one end, lists from the other: runs of equal length leave no unusable gaps.
    record.table = regions.lowest(record.sizes)?;
    record.member_list = regions.highest(list_cells(&record.backends))?;
    new.push(Region { first: record.table, cells: table });
    let states: BTreeMap<_, _> = record.backends.iter().map(|given| given.number).zip(states.iter().copied()).collect();
    let members: Vec<_> = member_order(&record.backends).into_iter().map(|number| (number, states[&number])).collect();
    new.push(Region { first: record.member_list, cells: member_list(&members) });
    Some(())
}

/// The candidate tables of a pool whose backends have the numbers in `record`, the largest table first.
pub(crate) fn candidate_tables(pool: &config::Pool, record: &PoolRecord) -> Vec<Cell> {
    let members: Vec<_> = pool
        .backends
        .iter()
        .zip(&record.backends)
        .map(|(backend, given)| Member { number: given.number, weight: backend.weight, identity: identity(given) })
        .collect();
    let sizes = (0..u32::BITS).rev().map(|bit| 1 << bit).filter(|size| record.sizes & size != 0);
    sizes.flat_map(|size| candidates::build(&members, size)).collect()
}

/// Numbers of a pool's backends in the order in which its member list has backends of equal state.
pub(crate) fn member_order(backends: &[BackendRecord]) -> Vec<BackendNumber> {
    let mut backends: Vec<_> = backends.iter().map(|record| (identity(record), record.number)).collect();
    backends.sort_unstable_by_key(|(identity, _)| *identity);
    backends.into_iter().map(|(_, number)| number).collect()
}

/// The two counts of a pool whose backends have these states: backends that take new flows ([`abi::Pool::available`]),
/// and backends that serve if the pool is the last resort ([`abi::Pool::enabled`]).
pub(crate) fn counts(states: impl Iterator<Item = State>) -> (u32, u32) {
    states.fold((0, 0), |(available, enabled), state| {
        (available + u32::from(state.has_all(State::NEW)), enabled + u32::from(state.has_all(State::ENABLED)))
    })
}

/// The member list of a pool (see [`abi::Pool::member_list`]) whose ordered members have these states.
pub(crate) fn member_list(members: &[(BackendNumber, State)]) -> Vec<Cell> {
    let cell = |numbers: &[BackendNumber]| {
        let mut cell = Cell::default();
        cell.0[..numbers.len()].copy_from_slice(numbers);
        cell
    };
    tables::member_list(members).chunks(CELL).map(cell).collect()
}

/// Whether the old cells hold the content of `new`. The checksum covers weights, and a change of the algorithm.
fn is_unchanged(old: &PoolRecord, new: &PoolRecord) -> bool {
    let numbers = |pool: &PoolRecord| pool.backends.iter().map(|b| b.number).collect::<BTreeSet<_>>();
    old.checksum == new.checksum && old.sizes == new.sizes && numbers(old) == numbers(new)
}

/// A backend whose next hop is not known yet.
pub(super) fn new_backend(address: IpAddr, port: Option<u16>, pool: u16, state: State) -> abi::Backend {
    let (family, address) = Family::split(address);
    let port = port.unwrap_or_default().to_be_bytes();
    abi::Backend { state: state.0, pool, family: family as u8, address, port, ..abi::Backend::default() }
}

/// The identity of a backend in candidate tables, the same on every edge: its address, mixed with its port if it has
/// one.
fn identity(BackendRecord { address, port, .. }: &BackendRecord) -> [u8; 16] {
    let mut bytes = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let [high, low] = port.unwrap_or_default().to_be_bytes();
    (bytes[0], bytes[1]) = (bytes[0] ^ high, bytes[1] ^ low);
    bytes
}
