//! Carries state from old maps into new ones, in which all numbers differ: states with their reasons, next hops,
//! failovers, owners and flow records. Counters start anew.

use std::collections::BTreeMap;

use edge_common::abi::{Backend, BackendNumber, Failover, Slot, SlotCell};

use super::{
    BpfError, PinnedMaps,
    clock::monotonic_time,
    flows::FlowTable,
    nat_carry::{self, Carried},
    slots::cells,
};
use crate::{
    config::{configured, is_same},
    plan::{PoolRecord, Snapshot},
};

/// The old maps. An attached program goes on with them until its successor is in place.
pub(crate) struct Before {
    maps: PinnedMaps,
    old: Snapshot,
    new: Snapshot,
    /// New number of each old backend number; 0 for backends that the new maps do not have.
    numbers: Vec<BackendNumber>,
    /// Whether both generations have the same hash key.
    same_hash: bool,
}

impl Before {
    /// `maps` are the old maps; `to` are the new ones, in which another generation is published.
    pub(crate) fn new(maps: PinnedMaps, to: &PinnedMaps) -> Result<Self, BpfError> {
        let old = maps.snapshot()?.ok_or(BpfError::Unpublished)?;
        let new = to.snapshot()?.ok_or(BpfError::Unpublished)?;
        let mut numbers = vec![0; maps.maps.backends.len() as usize];
        let known = |pool: &str, name: &str, address| (configured(pool).0.to_owned(), name.to_owned(), address);
        // Several if the pool has parts. A retired backend may be configured again.
        let mut was: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (pool, backend) in old.backends() {
            let key = known(&pool.name, &backend.name, backend.address);
            was.entry(key).or_default().push((&pool.name, backend.number));
        }
        for retired in &old.retired {
            let key = known(&retired.pool, &retired.name, retired.address);
            was.entry(key).or_default().push((&retired.pool, retired.number));
        }
        let backends = new.backends().map(|(pool, known)| (&pool.name, &known.name, known.address, known.number));
        // These left with the new configuration, or before it, and have flows.
        let retired = new.retired.iter().map(|known| (&known.pool, &known.name, known.address, known.number));
        for (pool, name, address, now) in backends.chain(retired) {
            for (old_pool, number) in was.get(&known(pool, name, address)).into_iter().flatten() {
                let entry = numbers.get_mut(usize::from(*number));
                if let Some(entry) = entry.filter(|entry| **entry == 0 || *old_pool == pool) {
                    *entry = now;
                }
            }
        }
        let hash_key = |maps: &PinnedMaps| maps.maps.published().map(|(_, generation)| generation.hash_key);
        let same_hash = hash_key(&maps) == hash_key(to);
        Ok(Self { maps, old, new, numbers, same_hash })
    }

    /// Carries everything over, before any packet reads `to`.
    pub(crate) fn carry(&self, to: &mut PinnedMaps) -> Result<Carried, BpfError> {
        for (old, new) in (0..).zip(self.numbers.iter().copied()).filter(|(_, new)| *new != 0) {
            let (Some(was), Some(is)) = (self.maps.maps.backends.read(old), to.maps.backends.read(new.into())) else {
                continue;
            };
            let _in_range = to.maps.backends.write(new.into(), Backend { pool: is.pool, ..was });
            let note = self.maps.maps.notes.read(old);
            let _in_range = note.and_then(|note| to.maps.notes.write(new.into(), note));
        }
        for service in &self.new.services {
            let Some((was, _)) = self.old.service_before(&service.name) else { continue };
            let failover = self.maps.failover(was.number);
            let target = self.old.pool_of(was.number, failover.first.into()).filter(|_| failover.first != 0);
            let pools = service.pools.iter().filter_map(|at| self.new.pools.get(*at));
            let first = target.and_then(|target| pools.into_iter().position(|pool| is_same(&pool.name, &target.name)));
            if let Some(first) = first.and_then(|first| u8::try_from(first).ok()) {
                to.set_failover(service.number, Failover { first, ..failover })?;
            }
        }
        for pool in &self.new.pools {
            let is_it = |old: &&PoolRecord| is_same(&old.name, &pool.name);
            if let Some(was) = self.old.pool(&pool.name).or_else(|| self.old.pools.iter().find(is_it)) {
                to.set_withheld(pool.number, self.maps.withheld(was.number), "");
            }
        }
        to.repair()?;
        if self.same_hash {
            self.carry_owners(to);
        }
        nat_carry::inherit(&self.maps, to)?;
        self.carry_flows(to)
    }

    /// Carries over the flows that were recorded since.
    pub(crate) fn carry_newer_flows(&self, to: &PinnedMaps) -> Result<Carried, BpfError> {
        self.carry_flows(to)
    }

    fn carry_owners(&self, to: &PinnedMaps) {
        for service in &self.new.services {
            let was = self.old.service_before(&service.name).map(|(was, _)| was);
            let Some(was) = was.filter(|was| was.slots == service.slots) else { continue };
            for cell in 0..cells(service.slots) {
                let (from, at) = (was.cell.wrapping_add(cell), service.cell.wrapping_add(cell));
                let (Some(SlotCell(was)), Some(SlotCell(mut is))) =
                    (self.maps.maps.slots.read(from), to.maps.slots.read(at))
                else {
                    continue;
                };
                for (is, was) in is.iter_mut().zip(was) {
                    *is = Slot { owner: self.now(was.owner).unwrap_or(is.owner), look: 1, ..was };
                }
                let _in_range = to.maps.slots.write(at, SlotCell(is));
            }
        }
    }

    /// Carries over the flows that have no record in `to` yet.
    fn carry_flows(&self, to: &PinnedMaps) -> Result<Carried, BpfError> {
        let services = |number: u16| {
            let was = self.old.services.iter().find(|known| known.number == u32::from(number))?;
            let is = self.new.services.iter().find(|known| is_same(&known.name, &was.name))?;
            u16::try_from(is.number).ok()
        };
        let now = |number| self.now(number);
        let mut carried = nat_carry::carry(&self.maps.maps, &to.maps, monotonic_time(), now, services)?;
        let key = to.maps.published().map(|(_, generation)| generation.hash_key).filter(|_| self.same_hash);
        let Some(key) = key else { return Ok(carried) };
        let now = monotonic_time();
        let (from, to) = (FlowTable::new(&self.maps.maps, now)?, FlowTable::new(&to.maps, now)?);
        for (flow, found) in from.all().filter(|(_, found)| !from.is_expired(found)) {
            let named = self.now(found.served.backend).zip(found.life.class());
            carried.flows +=
                usize::from(named.is_some_and(|(backend, class)| to.carry(&key, &flow, class, &found, backend)));
        }
        Ok(carried)
    }

    /// The new number of a backend.
    fn now(&self, number: BackendNumber) -> Option<BackendNumber> {
        self.numbers.get(usize::from(number)).copied().filter(|now| *now != 0)
    }
}
