//! Publication: an image into the half that nobody reads, then one store.

use std::{mem::offset_of, sync::atomic::Ordering};

use aya::maps::{MapData, MapError, PerCpuArray, PerCpuValues};

use edge_common::abi::{
    Backend, BackendNumber, CELL, Cell, Generation, Pool, Published, SNAPSHOT_PAGE, Service, SnapshotHead,
    SnapshotPage, State, map,
};

use super::{
    Kernel, KernelError,
    maps::position,
    picks::Picks,
    sys,
    view::{Copies, Picker},
};
use crate::config::Config;
use crate::model::{self, BackendRecord, Image, NewService, PlanError, PoolRecord, Previous, Returned, Snapshot};

/// Tries to read a snapshot that is being replaced.
const ATTEMPTS: usize = 10;

impl Kernel {
    /// The published configuration; `None` before the first. Needs no lock.
    ///
    /// # Errors
    /// When what is there is not what its generation says.
    pub(crate) fn snapshot(&self) -> Result<Option<Snapshot>, KernelError> {
        let mut damage = KernelError::Unpublished;
        for _ in 0..ATTEMPTS {
            let Some((half, generation)) = self.maps.published() else { return Ok(None) };
            match self.read_snapshot(half, generation.number) {
                Ok(snapshot) => return Ok(Some(snapshot)),
                // It was replaced while it was read, twice even; or it is damaged, as the next attempt will see.
                Err(error) => damage = error,
            }
        }
        Err(damage)
    }

    fn read_snapshot(&self, half: u32, generation: u64) -> Result<Snapshot, KernelError> {
        let damaged = |what: &str| KernelError::Snapshot { what: what.to_owned() };
        let page = |n: u32| {
            position(half, n).and_then(|at| self.maps.snapshot.read(at)).ok_or_else(|| damaged("longer than its map"))
        };
        let first = page(0)?;
        let head: SnapshotHead = bytemuck::pod_read_unaligned(&first.0[..size_of::<SnapshotHead>()]);
        if head.generation != generation {
            return Err(damaged("it belongs to another generation"));
        }
        let end = size_of::<SnapshotHead>() + head.length as usize;
        let mut bytes = first.0.to_vec();
        let mut next = 1;
        while bytes.len() < end {
            bytes.extend_from_slice(&page(next)?.0);
            next += 1;
        }
        let json = &bytes[size_of::<SnapshotHead>()..end];
        if crc32fast::hash(json) != head.checksum {
            return Err(damaged("its checksum is wrong"));
        }
        serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))
    }

    /// Plans the publication of `config` after what is published.
    ///
    /// # Errors
    /// When it does not fit, or what is published can't be read.
    pub(crate) fn plan(&self, config: &Config) -> Result<Result<Image, PlanError>, KernelError> {
        let snapshot = self.snapshot()?;
        let state = |number| self.state(number);
        let failover = |number| self.failover(number);
        let used = match &snapshot {
            Some(snapshot) if !snapshot.retired.is_empty() => self.numbers_in_use(snapshot)?,
            _ => Vec::new(),
        };
        let in_use = |number| used.get(usize::from(number)).copied().unwrap_or_default();
        let previous = snapshot.as_ref();
        let previous =
            previous.map(|snapshot| Previous { snapshot, state: &state, failover: &failover, in_use: &in_use });
        Ok(model::plan(config, &self.capacity, previous))
    }

    /// By number: whether an owner or a record names the backend.
    fn numbers_in_use(&self, snapshot: &Snapshot) -> Result<Vec<bool>, KernelError> {
        let mut used = vec![false; self.maps.backends.len() as usize];
        let mut names = |number: BackendNumber| {
            if let Some(entry) = used.get_mut(usize::from(number)) {
                *entry = true;
            }
        };
        for cell in snapshot.services.iter().flat_map(|service| (service.owners..).take(snapshot.slots as usize / CELL))
        {
            self.maps.owners.read(cell).unwrap_or_default().0.into_iter().for_each(&mut names);
        }
        self.flows()?.into_iter().for_each(|(_, record)| names(record.backend));
        Ok(used)
    }

    /// Publishes `image`: the half that is not active is written whole, and then becomes active with one store.
    ///
    /// Returns when no packet sees the previous generation any more. No service of the new generation is settled; owners
    /// follow as after any other change.
    ///
    /// # Errors
    /// Up to the store, when nothing has changed for any packet; the same image or another can be published then.
    pub(crate) fn publish(&mut self, image: &Image) -> Result<(), KernelError> {
        let published = self.maps.published();
        let before = published.map_or(0, |(_, generation)| generation.number);
        if image.generation.number != before + 1 {
            return Err(KernelError::Stale { planned: image.generation.number, published: before });
        }
        let half = published.map_or(0, |(half, _)| half ^ 1);
        self.write_new_numbers(image)?;
        self.write_half(image, half)?;
        self.write_snapshot(image, half)?;
        self.write_fresh_owners(image, half);
        let settled = |new: &&NewService| new.fresh_number || !self.is_unsettled(new.number);
        let unsettled: Vec<_> = image.services.iter().filter(settled).map(|new| new.number).collect();
        let active = self.maps.published.word(0, offset_of!(Published, active));
        active.ok_or(out_of(map::PUBLISHED, 0))?.store(half, Ordering::Release);
        self.following.published();
        sys::wait_for_packets();
        self.note_transitions(&unsettled, &format!("generation {}", image.generation.number));
        self.settle()
    }

    /// Brings what outlives generations in line with the published one: backends that have left the configuration take no
    /// new flows, those that nothing names any more are dead, pools' counts are those of their backends' states.
    ///
    /// [`publish`](Self::publish) ends with this. Whoever adopts pinned maps does it first, since the one before may have
    /// been killed in the middle. It changes nothing where nothing is amiss.
    pub(crate) fn settle(&mut self) -> Result<(), KernelError> {
        let Some((half, _)) = self.maps.published() else { return Ok(()) };
        let snapshot = self.known()?;
        let mut free = vec![true; self.maps.backends.len() as usize];
        let mut take = |number: BackendNumber| {
            if let Some(entry) = free.get_mut(usize::from(number)) {
                *entry = false;
            }
        };
        for (pool, backend) in snapshot.backends() {
            take(backend.number);
            self.write_pool(backend.number, pool.number);
            let state = self.state(backend.number);
            if state.has_all(State::RETIRED) {
                self.store_state(backend.number, model::returned(state));
            }
        }
        for known in &snapshot.retired {
            take(known.number);
            self.write_pool(known.number, snapshot.pool(&known.pool).map_or(u16::MAX, |pool| pool.number));
            let state = self.state(known.number);
            if !state.has_all(State::RETIRED) {
                self.store_state(known.number, model::removed(state));
                self.write_note(known.number, &format!("removed in generation {}", snapshot.generation));
            }
        }
        for (number, _) in (0..=BackendNumber::MAX).zip(free).filter(|(_, free)| *free) {
            self.store_state(number, State(0));
        }
        for pool in &snapshot.pools {
            self.count(half, pool);
        }
        Ok(())
    }

    fn write_pool(&self, number: BackendNumber, pool: u16) {
        if let Some(half) = self.maps.backends.half(number.into(), offset_of!(Backend, pool)) {
            half.store(pool, Ordering::Release);
        }
    }

    /// Brings a pool of the published generation in line with the states of its backends: the order of its member list,
    /// and its counts.
    pub(super) fn recount(&mut self, number: u16) -> Result<(), KernelError> {
        let Some((half, _)) = self.maps.published() else { return Ok(()) };
        if let Some(pool) = self.known()?.pools.iter().find(|pool| pool.number == number) {
            self.count(half, pool);
        }
        Ok(())
    }

    /// Counts a pool as if the state of one of its backends were another one already.
    pub(super) fn count_ahead(&mut self, number: u16, backend: BackendNumber, state: State) -> Result<(), KernelError> {
        let Some((half, _)) = self.maps.published() else { return Ok(()) };
        let known = self.known()?;
        let Some(pool) = known.pools.iter().find(|pool| pool.number == number) else { return Ok(()) };
        let members = pool
            .backends
            .iter()
            .map(|member| (member, if member.number == backend { state } else { self.state(member.number) }));
        self.store_counts(half, pool, &members.collect::<Vec<_>>());
        Ok(())
    }

    fn count(&self, half: u32, pool: &PoolRecord) {
        let members: Vec<_> = pool.backends.iter().map(|backend| (backend, self.state(backend.number))).collect();
        for (cell, numbers) in (pool.member_list..).zip(model::member_list(members.clone())) {
            if let Some(word) = self.maps.candidates.double(cell, 0) {
                word.store(bytemuck::cast(numbers), Ordering::Release);
            }
        }
        self.store_counts(half, pool, &members);
    }

    fn store_counts(&self, half: u32, pool: &PoolRecord, members: &[(&BackendRecord, State)]) {
        let counts = [
            (offset_of!(Pool, available), takers(members, State::NEW)),
            (offset_of!(Pool, enabled), takers(members, State::ENABLED)),
        ];
        for (offset, value) in counts {
            if let Some(word) = position(half, pool.number.into()).and_then(|at| self.maps.pools.word(at, offset)) {
                word.store(value, Ordering::Release);
            }
        }
    }

    /// What nothing that is published refers to: backends, tables.
    pub(super) fn write_new_numbers(&mut self, image: &Image) -> Result<(), KernelError> {
        for region in &image.candidates {
            self.maps.candidates.write_run(region.first, &region.cells).ok_or(out_of(map::CANDIDATES, region.first))?;
        }
        for (number, backend) in &image.backends {
            let index = u32::from(*number);
            self.maps.backends.write(index, *backend).ok_or(out_of(map::BACKENDS, index))?;
            reset(&mut self.maps.backend_stats, index, map::BACKEND_STATS)?;
            self.write_note(*number, "new in the configuration");
        }
        // No table that is published has them, so that nothing goes to them yet.
        for &Returned { number, pool, state } in &image.returned {
            self.write_pool(number, pool);
            self.store_state(number, state);
            self.write_note(number, "in the configuration again");
        }
        for service in image.services.iter().filter(|service| service.fresh_number) {
            reset(&mut self.maps.service_stats, service.number, map::SERVICE_STATS)?;
            reset(&mut self.maps.flow_stats, service.number, map::FLOW_STATS)?;
        }
        Ok(())
    }

    pub(super) fn write_half(&self, image: &Image, half: u32) -> Result<(), KernelError> {
        let at = |map, number| position(half, number).ok_or(out_of(map, number));
        let generation = offset_of!(Published, generations) + half as usize * size_of::<Generation>();
        self.maps.published.write_part(0, generation, image.generation).ok_or(out_of(map::PUBLISHED, half))?;
        for (n, entry) in (0..).zip(&image.index_v4) {
            let name = map::SERVICE_INDEX_V4;
            self.maps.index_v4.write(at(name, n)?, *entry).ok_or(out_of(name, n))?;
        }
        for (n, entry) in (0..).zip(&image.index_v6) {
            let name = map::SERVICE_INDEX_V6;
            self.maps.index_v6.write(at(name, n)?, *entry).ok_or(out_of(name, n))?;
        }
        for new in &image.services {
            let service = Service { in_transition: 1, ..new.service };
            let name = map::SERVICES;
            self.maps.services.write(at(name, new.number)?, service).ok_or(out_of(name, new.number))?;
        }
        for (number, pool) in &image.pools {
            let number = u32::from(*number);
            self.maps.pools.write(at(map::POOLS, number)?, *pool).ok_or(out_of(map::POOLS, number))?;
        }
        // Counted again, since states may have changed after the image was planned.
        for pool in &image.snapshot.pools {
            self.count(half, pool);
        }
        Ok(())
    }

    pub(super) fn write_snapshot(&self, image: &Image, half: u32) -> Result<(), KernelError> {
        let head = SnapshotHead {
            generation: image.generation.number,
            length: u32::try_from(image.json.len()).map_err(|_| out_of(map::SNAPSHOT, u32::MAX))?,
            checksum: crc32fast::hash(&image.json),
        };
        let bytes = [bytemuck::bytes_of(&head), &image.json].concat();
        for (n, chunk) in (0..).zip(bytes.chunks(SNAPSHOT_PAGE)) {
            let mut page = SnapshotPage([0; SNAPSHOT_PAGE]);
            page.0[..chunk.len()].copy_from_slice(chunk);
            position(half, n).and_then(|at| self.maps.snapshot.write(at, page)).ok_or(out_of(map::SNAPSHOT, n))?;
        }
        Ok(())
    }

    pub(super) fn write_fresh_owners(&self, image: &Image, half: u32) {
        debug_assert_eq!(image.snapshot.slots as usize % CELL, 0);
        let copies = Copies::take(&self.maps, half, image.generation);
        let mut picks = Picks::default();
        for new in image.services.iter().filter(|new| new.fresh_owners) {
            picks.start(&new.service, 0);
            picks.go_on(&Picker::new(&self.maps, &copies), u32::MAX);
            for (cell, picked) in (new.service.owners..).zip(picks.cells()) {
                // What is there was another service's.
                let _past_the_end = self.maps.owners.write(cell, picked);
                let _past_the_end = self.maps.missed.write(cell, Cell::default());
            }
        }
    }
}

/// How many of `members` have `bits`.
fn takers(members: &[(&BackendRecord, State)], bits: u32) -> u32 {
    members.iter().map(|(_, state)| u32::from(state.has_all(bits))).sum()
}

const fn out_of(map: &'static str, index: u32) -> KernelError {
    KernelError::OutOfRange { map, index }
}

/// Sets the counters of a number that was somebody else's to zero.
fn reset<const N: usize>(
    counters: &mut PerCpuArray<MapData, [u64; N]>,
    index: u32,
    name: &'static str,
) -> Result<(), KernelError> {
    let failed = |source| KernelError::Counter { map: name, source };
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| failed(MapError::IoError(error)))?;
    let zero = PerCpuValues::try_from(vec![[0u64; N]; cpus]).map_err(|error| failed(MapError::IoError(error)))?;
    counters.set(index, zero, 0).map_err(failed)
}
