//! The fields of a pool that follow from the states of its backends: the order of its member list, and its counts.

use std::{
    collections::BTreeMap,
    mem::offset_of,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use edge_common::abi::{BackendNumber, Pool, State};

use super::{BpfError, PinnedMaps, maps::position, view::Copies};
use crate::plan::{self, PoolRecord};

/// A pool's members, sorted once per generation: each state change uses them, and a pool may have thousands of backends.
#[derive(Clone, Debug)]
pub(super) struct Members {
    /// First cell of the pool's member list.
    list: u32,
    /// The pool's backends in the order of the list.
    order: Arc<[BackendNumber]>,
}

/// The pools of one generation that were needed so far.
#[derive(Debug, Default)]
pub(super) struct AllMembers {
    generation: u64,
    pools: BTreeMap<u16, Members>,
}

impl Members {
    fn of(pool: &PoolRecord) -> Self {
        Self { list: pool.member_list, order: plan::member_order(&pool.backends).into() }
    }
}

impl PinnedMaps {
    /// Updates the member list and the counts of a pool of the published generation to the states of its backends.
    pub(super) fn recount(&mut self, number: u16) -> Result<(), BpfError> {
        let Some((bank, _)) = self.maps.published() else { return Ok(()) };
        if let Some(members) = self.members(number)? {
            self.count_members(bank, number, &members);
        }
        Ok(())
    }

    /// Stores a pool's counts as if one of its backends were in `state` already.
    pub(super) fn count_ahead(&mut self, number: u16, backend: BackendNumber, state: State) -> Result<(), BpfError> {
        let Some((bank, _)) = self.maps.published() else { return Ok(()) };
        let Some(members) = self.members(number)? else { return Ok(()) };
        let states = members.order.iter().map(|&member| if member == backend { state } else { self.state(member) });
        self.store_counts(bank, number, states);
        Ok(())
    }

    /// Changes a backend's state in `copies`, and with it the member list and the counts of its pool.
    pub(super) fn foresee_members(
        &mut self,
        copies: &mut Copies,
        (pool, backend): (u16, BackendNumber),
        state: State,
    ) -> Result<(), BpfError> {
        copies.set_state(backend, state);
        let Some(Members { list, order }) = self.members(pool)? else { return Ok(()) };
        let members: Vec<_> = order.iter().map(|&member| (member, copies.state(member))).collect();
        let counts = plan::counts(members.iter().map(|(_, state)| *state));
        copies.set_members(pool, counts, list, plan::member_list(&members));
        Ok(())
    }

    /// Number of places, in the order in which slots return, that are withheld from a pool.
    pub(crate) fn withheld(&self, number: u16) -> u32 {
        self.withheld_word(self.maps.bank(), number).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Changes the number of withheld places, from the next new flow on.
    pub(crate) fn set_withheld(&mut self, number: u16, withheld: u32, reason: &str) {
        let concerned = self.services_of(number);
        let changing = self.announce_change(&concerned);
        // A generation that another writer publishes meanwhile has the old value: then it is stored once more.
        loop {
            let bank = self.maps.bank();
            self.look_at_places(&concerned, &between(self.withheld(number), withheld));
            let Some(word) = self.withheld_word(bank, number) else { break };
            word.store(withheld, Ordering::Release);
            if self.maps.bank() == bank {
                break;
            }
        }
        self.raise_flags(&concerned);
        if !changing.is_empty() {
            self.note_transitions(&changing, reason);
        }
    }

    /// Changes how many places are withheld from a backend, and nothing else in its state.
    pub(crate) fn set_share(&mut self, number: BackendNumber, withheld: u8) -> Result<(), BpfError> {
        let missing = BpfError::NoSuchBackend(number);
        let pool = self.maps.backends.read(number.into()).filter(|_| number != 0).ok_or(missing)?.pool;
        let concerned = self.services_of(pool);
        let changing = self.announce_change(&concerned);
        loop {
            let before = self.state(number);
            self.look_at_places(&concerned, &between(before.withheld(), withheld.into()));
            let share = u32::from(withheld) << State::WITHHELD_SHIFT;
            let after = State(before.0 & ((1 << State::WITHHELD_SHIFT) - 1) | share);
            if self.swap_state(number, before, after) {
                break;
            }
        }
        self.raise_flags(&concerned);
        if !changing.is_empty() {
            let name = self.known()?.name_of(number).unwrap_or_default();
            self.note_transitions(&changing, &format!("{name}: it takes a larger share of its flows"));
        }
        Ok(())
    }

    fn withheld_word(&self, bank: u32, number: u16) -> Option<&AtomicU32> {
        self.maps.pools.atomic_u32(position(bank, number.into())?, offset_of!(Pool, withheld))
    }

    pub(super) fn count(&self, bank: u32, pool: &PoolRecord) {
        self.count_members(bank, pool.number, &Members::of(pool));
    }

    /// The members of a pool of the published generation.
    pub(super) fn members(&mut self, number: u16) -> Result<Option<Members>, BpfError> {
        let known = self.known()?;
        if self.members.generation != known.generation {
            self.members = AllMembers { generation: known.generation, pools: BTreeMap::new() };
        }
        if let Some(members) = self.members.pools.get(&number) {
            return Ok(Some(members.clone()));
        }
        let Some(pool) = known.pools.iter().find(|pool| pool.number == number) else { return Ok(None) };
        let members = Members::of(pool);
        self.members.pools.insert(number, members.clone());
        Ok(Some(members))
    }

    pub(super) fn count_members(&self, bank: u32, number: u16, Members { list, order }: &Members) {
        let members: Vec<_> = order.iter().map(|&member| (member, self.state(member))).collect();
        for (cell, numbers) in (*list..).zip(plan::member_list(&members)) {
            if let Some(word) = self.maps.candidates.atomic_u64(cell, 0) {
                word.store(bytemuck::cast(numbers), Ordering::Release);
            }
        }
        self.store_counts(bank, number, members.into_iter().map(|(_, state)| state));
    }

    fn store_counts(&self, bank: u32, number: u16, states: impl Iterator<Item = State>) {
        let (available, enabled) = plan::counts(states);
        for (offset, value) in [(offset_of!(Pool, available), available), (offset_of!(Pool, enabled), enabled)] {
            if let Some(word) = position(bank, number.into()).and_then(|at| self.maps.pools.atomic_u32(at, offset)) {
                word.store(value, Ordering::Release);
            }
        }
    }
}

/// The places that only one of two shares has.
fn between(one: u32, other: u32) -> Range<u32> {
    one.min(other)..one.max(other)
}
