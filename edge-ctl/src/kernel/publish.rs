//! Publication: an image into the half that nobody reads, then one store.

use std::{collections::BTreeSet, mem::offset_of, sync::atomic::Ordering};

use aya::maps::{MapData, MapError, PerCpuArray, PerCpuValues};

use edge_common::abi::{
    Backend, BackendNumber, CELL, Generation, Pool, Published, SNAPSHOT_PAGE, SnapshotHead, SnapshotPage, State, map,
};

use super::{
    Kernel, KernelError,
    maps::{RawTraffic, position},
    sys,
    view::Picker,
};
use crate::config::Config;
use crate::model::{self, BackendRecord, Image, PlanError, PoolRecord, Previous, Snapshot};

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
        let previous = snapshot.as_ref().map(|snapshot| Previous { snapshot, state: &state, failover: &failover });
        Ok(model::plan(config, &self.capacity, previous))
    }

    /// Publishes `image`: the half that is not active is written whole, and then becomes active with one store.
    ///
    /// Returns when no packet sees the previous generation any more. After this, what a new generation changes for
    /// UDP services is up to [`follow_owners`](Self::follow_owners).
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
        let active = self.maps.published.word(0, offset_of!(Published, active));
        active.ok_or(out_of(map::PUBLISHED, 0))?.store(half, Ordering::Release);
        sys::wait_for_packets();
        self.settle()
    }

    /// Brings what outlives generations in line with the published one: backends that are gone are dead, slots that were
    /// theirs have another owner, pools' counts are those of their backends' states.
    ///
    /// [`publish`](Self::publish) ends with this. Whoever adopts pinned maps does it first, since the one before may have
    /// been killed in the middle. It changes nothing where nothing is amiss.
    pub(crate) fn settle(&mut self) -> Result<(), KernelError> {
        let Some((half, generation)) = self.maps.published() else { return Ok(()) };
        let Some(snapshot) = self.snapshot()? else { return Ok(()) };
        let live: BTreeSet<BackendNumber> = snapshot.backends().map(|(_, backend)| backend.number).collect();
        for number in (0..self.maps.backends.len()).filter(|&n| !u16::try_from(n).is_ok_and(|n| live.contains(&n))) {
            if let Some(state) = self.maps.backends.word(number, offset_of!(Backend, state)) {
                state.store(0, Ordering::Release);
            }
        }
        for pool in &snapshot.pools {
            self.count(half, pool);
        }
        let picker = Picker::new(&self.maps, half, generation);
        for record in &snapshot.services {
            let Some(service) = self.maps.service(half, record.number) else { continue };
            let mut serves = vec![false; self.maps.backends.len() as usize];
            for backend in record.pools.iter().filter_map(|&at| snapshot.pools.get(at)).flat_map(|pool| &pool.backends)
            {
                if let Some(entry) = serves.get_mut(usize::from(backend.number)) {
                    *entry = true;
                }
            }
            picker.change_owners(&service, |slot, owner| {
                let stays = serves.get(usize::from(owner)).copied().unwrap_or_default();
                // Number 0, which no pool has, makes the packet path pick for itself.
                (!stays).then(|| picker.pick(&service, slot).unwrap_or_default())
            });
        }
        Ok(())
    }

    /// Makes the owner of each slot of `services` whoever takes its new flows now.
    ///
    /// For UDP services after any change of states, pools or failover: nothing in a UDP packet says that it starts a
    /// flow, so the packet path can't. For TCP the packet path does it at a slot's next SYN.
    pub(crate) fn follow_owners(&mut self, services: &[u32]) -> Result<(), KernelError> {
        let (half, generation) = self.maps.published().ok_or(KernelError::Unpublished)?;
        let mut picker = Picker::new(&self.maps, half, generation);
        for &number in services {
            let service = self.maps.service(half, number).ok_or(KernelError::NoSuchService(number))?;
            picker.follow(&service, None);
        }
        Ok(())
    }

    /// Brings a pool of the published generation in line with the states of its backends: the order of its member list,
    /// and its counts.
    pub(super) fn recount(&mut self, number: u16) -> Result<(), KernelError> {
        let Some((half, generation)) = self.maps.published() else { return Ok(()) };
        if self.pools.0 != generation.number {
            let snapshot = self.snapshot()?.ok_or(KernelError::Unpublished)?;
            self.pools = (snapshot.generation, snapshot.pools);
        }
        if let Some(pool) = self.pools.1.iter().find(|pool| pool.number == number) {
            self.count(half, pool);
        }
        Ok(())
    }

    fn count(&self, half: u32, pool: &PoolRecord) {
        let members: Vec<_> = pool.backends.iter().map(|backend| (backend, self.state(backend.number))).collect();
        let counts = [
            (offset_of!(Pool, available), takers(&members, State::NEW)),
            (offset_of!(Pool, enabled), takers(&members, State::ENABLED)),
        ];
        for (cell, numbers) in (pool.member_list..).zip(model::member_list(members)) {
            if let Some(word) = self.maps.candidates.double(cell, 0) {
                word.store(bytemuck::cast(numbers), Ordering::Release);
            }
        }
        for (offset, value) in counts {
            if let Some(word) = position(half, pool.number.into()).and_then(|at| self.maps.pools.word(at, offset)) {
                word.store(value, Ordering::Release);
            }
        }
    }

    /// What nothing that is published refers to: new backends, new tables.
    fn write_new_numbers(&mut self, image: &Image) -> Result<(), KernelError> {
        for region in &image.candidates {
            self.maps.candidates.write_run(region.first, &region.cells).ok_or(out_of(map::CANDIDATES, region.first))?;
        }
        for (number, backend) in &image.backends {
            let index = u32::from(*number);
            self.maps.backends.write(index, *backend).ok_or(out_of(map::BACKENDS, index))?;
            reset(&mut self.maps.backend_stats, index, map::BACKEND_STATS)?;
            self.write_note(*number, "new in the configuration");
        }
        for service in image.services.iter().filter(|service| service.fresh_number) {
            reset(&mut self.maps.service_stats, service.number, map::SERVICE_STATS)?;
        }
        Ok(())
    }

    fn write_half(&self, image: &Image, half: u32) -> Result<(), KernelError> {
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
            self.maps
                .services
                .write(at(map::SERVICES, new.number)?, new.service)
                .ok_or(out_of(map::SERVICES, new.number))?;
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

    fn write_snapshot(&self, image: &Image, half: u32) -> Result<(), KernelError> {
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

    fn write_fresh_owners(&self, image: &Image, half: u32) {
        debug_assert_eq!(image.snapshot.slots as usize % CELL, 0);
        let mut picker = Picker::new(&self.maps, half, image.generation);
        for new in image.services.iter().filter(|new| new.fresh_owners) {
            // What is there was another service's.
            picker.follow(&new.service, Some(0));
        }
    }
}

/// How many of `members` have `bits`.
fn takers(members: &[(&BackendRecord, State)], bits: u32) -> u32 {
    members.iter().map(|(_, state)| u32::from(state.has(bits))).sum()
}

const fn out_of(map: &'static str, index: u32) -> KernelError {
    KernelError::OutOfRange { map, index }
}

/// Sets the counters of a number that was somebody else's to zero.
fn reset(counters: &mut PerCpuArray<MapData, RawTraffic>, index: u32, name: &'static str) -> Result<(), KernelError> {
    let failed = |source| KernelError::Counter { map: name, source };
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| failed(MapError::IoError(error)))?;
    let zero = PerCpuValues::try_from(vec![[0u64; 3]; cpus]).map_err(|error| failed(MapError::IoError(error)))?;
    counters.set(index, zero, 0).map_err(failed)
}
