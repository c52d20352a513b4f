//! What of a pool follows from the states of its backends: the order of its member list, and its counts.

use std::{mem::offset_of, sync::atomic::Ordering};

use edge_common::abi::{BackendNumber, Pool, State};

use super::{BpfError, PinnedMaps, maps::position};
use crate::plan::{self, BackendRecord, PoolRecord};

impl PinnedMaps {
    /// Brings a pool of the published generation in line with the states of its backends: the order of its member list,
    /// and its counts.
    pub(super) fn recount(&mut self, number: u16) -> Result<(), BpfError> {
        let Some((bank, _)) = self.maps.published() else { return Ok(()) };
        if let Some(pool) = self.known()?.pools.iter().find(|pool| pool.number == number) {
            self.count(bank, pool);
        }
        Ok(())
    }

    /// Counts a pool as if the state of one of its backends were another one already.
    pub(super) fn count_ahead(&mut self, number: u16, backend: BackendNumber, state: State) -> Result<(), BpfError> {
        let Some((bank, _)) = self.maps.published() else { return Ok(()) };
        let known = self.known()?;
        let Some(pool) = known.pools.iter().find(|pool| pool.number == number) else { return Ok(()) };
        let members = pool
            .backends
            .iter()
            .map(|member| (member, if member.number == backend { state } else { self.state(member.number) }));
        self.store_counts(bank, pool, &members.collect::<Vec<_>>());
        Ok(())
    }

    pub(super) fn count(&self, bank: u32, pool: &PoolRecord) {
        let members: Vec<_> = pool.backends.iter().map(|backend| (backend, self.state(backend.number))).collect();
        for (cell, numbers) in (pool.member_list..).zip(plan::member_list(members.clone())) {
            if let Some(word) = self.maps.candidates.atomic_u64(cell, 0) {
                word.store(bytemuck::cast(numbers), Ordering::Release);
            }
        }
        self.store_counts(bank, pool, &members);
    }

    fn store_counts(&self, bank: u32, pool: &PoolRecord, members: &[(&BackendRecord, State)]) {
        let counts = [
            (offset_of!(Pool, available), takers(members, State::NEW)),
            (offset_of!(Pool, enabled), takers(members, State::ENABLED)),
        ];
        for (offset, value) in counts {
            if let Some(word) = position(bank, pool.number.into()).and_then(|at| self.maps.pools.atomic_u32(at, offset))
            {
                word.store(value, Ordering::Release);
            }
        }
    }
}

/// How many of `members` have `bits`.
fn takers(members: &[(&BackendRecord, State)], bits: u32) -> u32 {
    members.iter().map(|(_, state)| u32::from(state.has_all(bits))).sum()
}
