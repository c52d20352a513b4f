//! The service index: each key at one of its two positions, found by moving others to theirs (cuckoo hashing).

use std::{collections::BTreeSet, net::IpAddr};

use edge_common::{
    abi::{ServiceEntryV4, ServiceEntryV6, ServiceKeyV4, ServiceKeyV6, VIP_ENTRY, map},
    ip::protocol,
};

use super::{Capacity, NewService, PlanError};
use crate::config::Config;

/// Moves after which a table counts as too small. A table a quarter full needs a handful.
const MOST_MOVES: usize = 500;

/// Positions for each key: three in four stay empty, so that a lookup for what is not ours ends at once.
const POSITIONS: usize = 4;

/// Both indexes of `config`, whose services were given numbers: their destinations, and an entry for each VIP itself.
pub(super) fn build(
    config: &Config,
    capacity: &Capacity,
    services: &[NewService],
) -> Result<(Vec<ServiceEntryV4>, Vec<ServiceEntryV6>), PlanError> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    let mut vips = BTreeSet::new();
    for (service, new) in config.services.iter().zip(services) {
        let protocol = service.protocol.number();
        let port = service.port.to_be_bytes();
        match service.vip {
            IpAddr::V4(vip) => v4.push((ServiceKeyV4::new(vip.octets(), port, protocol), new.number)),
            IpAddr::V6(vip) => v6.push((ServiceKeyV6::new(vip.octets(), port, protocol), new.number)),
        }
        vips.insert(service.vip);
    }
    for vip in vips {
        match vip {
            IpAddr::V4(vip) => v4.push((ServiceKeyV4::new(vip.octets(), [0; 2], protocol::ICMP), VIP_ENTRY)),
            IpAddr::V6(vip) => v6.push((ServiceKeyV6::new(vip.octets(), [0; 2], protocol::ICMPV6), VIP_ENTRY)),
        }
    }
    let smallest = |keys: usize| u32::try_from(keys.saturating_mul(POSITIONS)).unwrap_or(u32::MAX);
    let key = &config.hash_key;
    let table_v4 = place(v4.len(), smallest(v4.len()), capacity.index_v4, |n, mask| v4[n].0.positions(key, mask))
        .ok_or(PlanError::Index { map: map::SERVICE_INDEX_V4 })?;
    let table_v6 = place(v6.len(), smallest(v6.len()), capacity.index_v6, |n, mask| v6[n].0.positions(key, mask))
        .ok_or(PlanError::Index { map: map::SERVICE_INDEX_V6 })?;
    let entry_v4 = |n: usize| ServiceEntryV4 { key: v4[n].0, service: v4[n].1, reserved: 0 };
    let entry_v6 = |n: usize| ServiceEntryV6 { key: v6[n].0, service: v6[n].1, reserved: 0 };
    Ok((
        table_v4.into_iter().map(|n| n.map(entry_v4).unwrap_or_default()).collect(),
        table_v6.into_iter().map(|n| n.map(entry_v6).unwrap_or_default()).collect(),
    ))
}

/// Places the keys `0..count` in a table, whose size is a power of two from `smallest` to `largest`, and returns which
/// key stands at each position; `None` when even the largest has no place for all.
///
/// `positions` gives the two positions of a key for a mask. The result depends on nothing else.
pub(super) fn place(
    count: usize,
    smallest: u32,
    largest: u32,
    positions: impl Fn(usize, u32) -> [u32; 2],
) -> Option<Vec<Option<usize>>> {
    let mut size = smallest.max(1).next_power_of_two();
    while size <= largest {
        if let Some(table) = fill(count, size, |key| positions(key, size - 1)) {
            return Some(table);
        }
        size = size.checked_mul(2)?;
    }
    None
}

fn fill(count: usize, size: u32, positions: impl Fn(usize) -> [u32; 2]) -> Option<Vec<Option<usize>>> {
    let mut table: Vec<Option<usize>> = vec![None; size as usize];
    for key in 0..count {
        let [first, second] = positions(key);
        let mut moving = key;
        let mut to = if table[first as usize].is_none() { first } else { second };
        let mut moves = 0;
        while let Some(evicted) = table[to as usize].replace(moving) {
            moves += 1;
            if moves > MOST_MOVES {
                return None;
            }
            let [first, second] = positions(evicted);
            to = if to == first { second } else { first };
            moving = evicted;
        }
    }
    Some(table)
}
