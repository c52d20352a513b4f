//! Assigns numbers, owners and failovers to services.

use edge_common::abi::{self, Failover, MAX_POOLS, SLOTS_PER_CELL, map};

use super::{
    Image, NewOwners, NewService, PlanError, Previous, common,
    numbers::{Numbers, full, narrow},
};
use crate::{
    config::{Config, is_same},
    plan::{Capacity, ServiceRecord, Snapshot, regions::Regions, servers::Servers},
};

pub(super) fn plan(
    config: &Config,
    capacity: &Capacity,
    previous: Option<Previous<'_>>,
    image: &mut Image,
) -> Result<(), PlanError> {
    let before = previous.map(|p| p.snapshot);
    let mut numbers = Numbers::new(0, capacity.services, before.iter().flat_map(|s| &s.services).map(|s| s.number));
    let mut servers = Servers::new(capacity, before, image);
    let taken = before.iter().flat_map(|s| s.slot_cells().chain(s.table_cells()));
    let mut regions = Regions::new(capacity.slots, taken);
    let mut tables: Vec<_> = before.iter().flat_map(|s| s.table_cells()).collect();
    for service in &config.services {
        let origin = before.and_then(|s| s.service_before(&service.name));
        let old = origin.filter(|(_, goes_on)| *goes_on).map(|(old, _)| old);
        let number = match old {
            Some(old) => old.number,
            None => numbers.next().ok_or_else(|| numbers.full(map::SERVICES, "services", config.services.len()))?,
        };
        let kept = old.filter(|old| old.slots == service.slots);
        let cell = match kept {
            Some(old) => old.cell,
            None => regions
                .lowest(service.slots / SLOTS_PER_CELL)
                .or_else(|| {
                    // The tables that services share give way: staging ends the sharing first.
                    regions.release(&std::mem::take(&mut tables));
                    regions.lowest(service.slots / SLOTS_PER_CELL)
                })
                .ok_or_else(|| {
                    let needs = (regions.used() + service.slots / SLOTS_PER_CELL) as usize;
                    full(map::SLOTS, "cells", capacity.slots, needs)
                })?,
        };
        let servers = servers.place(service, old.map(|old| &old.servers), image)?;
        let (cid_offset, cid_length) = service.quic_cid.map_or((0, 0), |cid| (cid.offset, cid.length));
        let record = ServiceRecord {
            name: service.name.clone(),
            number,
            cell,
            slots: service.slots,
            pools: service.pools.clone(),
            servers,
        };
        let origin = origin.map(|(origin, _)| origin);
        let failover = previous.zip(origin).map_or(Failover::default(), |(previous, old)| {
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
                slots: cell,
                pools,
                pool_count: narrow(service.pools.len()),
                when_exhausted: service.when_exhausted as u8,
                cid_offset,
                cid_length,
                in_transition: 1,
                slot_mask: service.slots - 1,
                servers: servers.cell,
                server_mask: servers.cells.saturating_sub(1),
                redirected: 0,
                backend_port: service.backend_port.unwrap_or_default().to_be_bytes(),
                sticks: service.sticks.into(),
                tells_client: service.tells_client.into(),
                reserved: [0; 4],
            },
            fresh_number: old.is_none(),
            owners: match (kept, origin.filter(|origin| origin.slots == service.slots)) {
                (Some(_), _) => NewOwners::Kept,
                (None, Some(origin)) => NewOwners::CopiedFrom(origin.cell),
                (None, None) => NewOwners::Picked,
            },
        });
        image.snapshot.services.push(record);
    }
    let known = before.filter(|_| !tables.is_empty());
    image.snapshot.common = common::place(config, known, &mut regions, &image.snapshot);
    Ok(())
}

/// The failover of a service whose list of pools may have changed. It stays at its pool or, if that is no longer listed,
/// moves to the next pool that followed it; none if there is no such pool.
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
    let position = |name: &str| {
        new.pools.iter().position(|&at| snapshot.pools.get(at).is_some_and(|pool| is_same(name, &pool.name)))
    };
    match targets.into_iter().find_map(|pool| position(&pool.name)) {
        None | Some(0) => Failover::default(),
        Some(first) => Failover { first: narrow(first), ..failover },
    }
}
