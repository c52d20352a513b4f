//! Publication: an image is written into the inactive bank, then one store activates that bank.

use std::{mem::offset_of, sync::atomic::Ordering, time::Duration};

use aya::maps::{MapError, PerCpuValues};

use edge_common::abi::{self, Backend, BackendNumber, Generation, Service, Slot, SlotCell, State, map};

use super::{
    BpfError, PinnedMaps,
    error::out_of,
    flows::FlowTable,
    maps::{Counters, Maps, position},
    nat::NatTable,
    picks::Picks,
    slots::cells,
    sys,
    view::{Copies, Picker},
};
use crate::plan::{self, Edition, Image, NewOwners, Previous, Returned, ServiceRecord, Snapshot};

/// An image that was written into the inactive bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Staged {
    pub(super) bank: u32,
}

/// Whether everything that outlives generations was brought in line with a generation that is in force. An error is a
/// fault to report, and no failed publication.
pub(crate) type Settled = Result<(), BpfError>;

impl PinnedMaps {
    /// Calls `look` with the published generation and its present state; with `None` before the first publication.
    ///
    /// # Errors
    /// If the published generation cannot be read.
    pub(crate) fn with_previous<T>(&self, look: impl FnOnce(Option<Previous<'_>>) -> T) -> Result<T, BpfError> {
        // Read first: any later change makes the plan stale.
        let edition = self.edition();
        let snapshot = self.snapshot()?;
        let state = |number| self.state(number);
        let failover = |number| self.failover(number);
        let used = match &snapshot {
            Some(snapshot) if !snapshot.retired.is_empty() => self.numbers_in_use(snapshot)?,
            _ => Vec::new(),
        };
        let in_use = |number| used.get(usize::from(number)).copied().unwrap_or_default();
        let previous = snapshot.as_ref();
        Ok(look(previous.map(|snapshot| Previous {
            snapshot,
            edition,
            state: &state,
            failover: &failover,
            in_use: &in_use,
        })))
    }

    /// Whether an owner or a record names the backend, by number.
    fn numbers_in_use(&self, snapshot: &Snapshot) -> Result<Vec<bool>, BpfError> {
        let mut used = vec![false; self.maps.backends.len() as usize];
        let mut names = |number: BackendNumber| {
            if let Some(entry) = used.get_mut(usize::from(number)) {
                *entry = true;
            }
        };
        let cells = |service: &ServiceRecord| service.cell..service.cell.saturating_add(cells(service.slots));
        for cell in snapshot.services.iter().flat_map(cells) {
            self.maps.slots.read(cell).unwrap_or_default().0.into_iter().for_each(|slot| names(slot.owner));
        }
        FlowTable::new(&self.maps, Duration::ZERO)?.all().for_each(|(_, found)| names(found.served.backend));
        let translated = NatTable::new(&self.maps, Duration::ZERO)?;
        translated.iter().flat_map(NatTable::all).for_each(|(_, found)| names(found.served.backend));
        Ok(used)
    }

    /// Stages `image` and makes it active.
    ///
    /// # Errors
    /// As [`stage`](Self::stage) and [`make_active`](Self::make_active), and if the maps are not settled after it.
    pub(crate) fn publish(&mut self, image: &Image) -> Result<(), BpfError> {
        let staged = self.stage(image)?;
        self.make_active(image, staged)?
    }

    /// Writes all of `image` into the inactive bank, which no packet reads.
    ///
    /// # Errors
    /// If another writer has published, or changed what the plan rests on, since `image` was planned; a new plan can be
    /// staged then.
    pub(crate) fn stage(&mut self, image: &Image) -> Result<Staged, BpfError> {
        let published = self.maps.published();
        let before = published.map_or(0, |(_, generation)| generation.number);
        // The first generation after a reboot continues the old numbering.
        if published.is_some() && image.generation.number != before + 1 {
            return Err(BpfError::Stale { planned: image.generation.number, published: before });
        }
        let bank = published.map_or(0, |(bank, _)| bank ^ 1);
        // A writer that was suspended between two steps must not write into a bank that another one has published.
        self.still(image)?;
        self.yield_tables(image)?;
        self.write_new_numbers(image)?;
        self.still(image)?;
        self.write_bank(image, bank)?;
        self.still(image)?;
        self.write_snapshot(image, bank)?;
        self.write_fresh_owners(image, bank);
        // A rehearsal looks at slots of all services. If the image is not activated, they are stable again after a pass.
        let changing = self.announce(image);
        self.note_transitions(&changing, &format!("generation {}", image.generation.number));
        Ok(Staged { bank })
    }

    /// Publishes a staged `image`, with one store.
    ///
    /// Returns when no packet uses the previous generation any more. All services of the new generation are in
    /// transition; their slots are handed over as after any other change.
    ///
    /// # Errors
    /// If the image is not in force: no packet is affected. An error after the store is in the result.
    pub(crate) fn make_active(&mut self, image: &Image, Staged { bank }: Staged) -> Result<Settled, BpfError> {
        self.still(image)?;
        // Since staging, a reconcile pass may have found the services stable.
        let mut changing = self.announce(image);
        changing.extend(image.services.iter().filter(|new| new.fresh_number).map(|new| new.number));
        // And states may have changed.
        for pool in &image.snapshot.pools {
            self.count(bank, pool);
        }
        self.look_at_staged(image, bank);
        self.write_timeouts(&image.flow_timeouts, false)?;
        let numbers: Vec<_> = image.services.iter().map(|new| new.number).collect();
        self.note_redirection(bank, &numbers);
        if let Some(nat) = &image.nat {
            self.write_nat(nat, false)?;
        }
        let word = self.maps.edition().ok_or(out_of(map::PUBLISHED, 0))?;
        let Edition(after) = image.after;
        let next = next_edition_of(after, bank);
        word.compare_exchange(after, next, Ordering::AcqRel, Ordering::Acquire).map_err(|_| self.stale(image))?;
        // In force from here on.
        self.know_published();
        self.handover.published();
        let timeouts = self.write_timeouts(&image.flow_timeouts, true);
        let nat = image.nat.as_ref().map_or(Ok(()), |nat| {
            self.capacity.nat_ports = Some(nat.ports);
            self.write_nat(nat, true)
        });
        sys::wait_for_packets();
        self.note_transitions(&changing, &format!("generation {}", image.generation.number));
        Ok(timeouts.and(nat).and(self.repair()))
    }

    /// Flags the services in transition that are in force already, and returns those that were stable.
    fn announce(&mut self, image: &Image) -> Vec<u32> {
        let known: Vec<_> = image.services.iter().filter(|new| !new.fresh_number).map(|new| new.number).collect();
        let were_stable = self.announce_change(&known);
        self.separate(&known);
        were_stable
    }

    /// The active bank and the count of changes that make a plan stale.
    pub(crate) fn edition(&self) -> Edition {
        Edition(self.maps.edition().map_or(0, |word| word.load(Ordering::Acquire)))
    }

    /// Checks that nothing has changed since `image` was planned.
    pub(super) fn still(&self, image: &Image) -> Result<(), BpfError> {
        if self.edition() == image.after { Ok(()) } else { Err(self.stale(image)) }
    }

    fn stale(&self, image: &Image) -> BpfError {
        BpfError::Stale { planned: image.generation.number, published: self.generation() }
    }

    /// Number of the published generation; 0 before the first publication.
    pub(crate) fn generation(&self) -> u64 {
        self.maps.published().map_or(0, |(_, generation)| generation.number)
    }

    /// Makes the state that outlives generations consistent with the published one: retired backends take no new flows,
    /// unused backend numbers are dead, and the counts of pools match the states of their backends.
    ///
    /// [`publish`](Self::publish) ends with this. A daemon that adopts pinned maps starts with it, since the previous
    /// writer may have been killed at any point. Consistent maps are not changed.
    pub(crate) fn repair(&mut self) -> Result<(), BpfError> {
        let Some((bank, _)) = self.maps.published() else { return Ok(()) };
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
                self.swap_state(backend.number, state, plan::returned(state));
            }
        }
        for known in &snapshot.retired {
            take(known.number);
            self.write_pool(known.number, snapshot.pool(&known.pool).map_or(u16::MAX, |pool| pool.number));
            let state = self.state(known.number);
            if !state.has_all(State::RETIRED) {
                self.swap_state(known.number, state, plan::removed(state));
                self.write_note(known.number, &format!("removed in generation {}", snapshot.generation));
            }
        }
        for (number, _) in (0..=BackendNumber::MAX).zip(free).filter(|(_, free)| *free) {
            self.store_state(number, State(0));
        }
        for pool in &snapshot.pools {
            self.count(bank, pool);
        }
        Ok(())
    }

    fn write_pool(&self, number: BackendNumber, pool: u16) {
        if let Some(field) = self.maps.backends.atomic_u16(number.into(), offset_of!(Backend, pool)) {
            field.store(pool, Ordering::Release);
        }
    }

    /// Writes data that no published table refers to: backends and candidate tables.
    pub(super) fn write_new_numbers(&mut self, image: &Image) -> Result<(), BpfError> {
        for region in &image.candidates {
            self.maps.candidates.write_run(region.first, &region.cells).ok_or(out_of(map::CANDIDATES, region.first))?;
        }
        for (number, backend) in &image.backends {
            let index = u32::from(*number);
            self.maps.backends.write(index, *backend).ok_or(out_of(map::BACKENDS, index))?;
            reset(&mut self.maps.backend_stats, index, map::BACKEND_STATS)?;
            self.write_note(*number, "new in the configuration");
        }
        // No published table lists them, so they receive no packets yet.
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

    pub(super) fn write_bank(&self, image: &Image, bank: u32) -> Result<(), BpfError> {
        let at = |map, number| position(bank, number).ok_or(out_of(map, number));
        // Stations belong to the interfaces, not to the configuration.
        let generation = Generation { stations: self.stations(), ..self.with_former_sources(&image.generation) };
        let written = self.maps.published.write_part(0, Maps::generation(bank), generation);
        written.ok_or(out_of(map::PUBLISHED, bank))?;
        for (n, entry) in (0..).zip(&image.index_v4) {
            let (name, entry) = (map::SERVICE_INDEX_V4, self.with_host(*entry));
            self.maps.index_v4.write(at(name, n)?, entry).ok_or(out_of(name, n))?;
        }
        for (n, entry) in (0..).zip(&image.index_v6) {
            let (name, entry) = (map::SERVICE_INDEX_V6, self.with_host(*entry));
            self.maps.index_v6.write(at(name, n)?, entry).ok_or(out_of(name, n))?;
        }
        for new in &image.services {
            let service = Service { in_transition: 1, ..new.service };
            let name = map::SERVICES;
            self.maps.services.write(at(name, new.number)?, service).ok_or(out_of(name, new.number))?;
        }
        for (number, pool) in &image.pools {
            // A return by shares that is under way continues.
            let pool = abi::Pool { withheld: self.withheld(*number), ..*pool };
            let number = u32::from(*number);
            self.maps.pools.write(at(map::POOLS, number)?, pool).ok_or(out_of(map::POOLS, number))?;
        }
        // Counted again, since states may have changed after planning.
        for pool in &image.snapshot.pools {
            self.count(bank, pool);
        }
        Ok(())
    }

    pub(super) fn write_fresh_owners(&self, image: &Image, bank: u32) {
        let copies = Copies::take(&self.maps, bank, &image.generation);
        let mut picks = Picks::default();
        for new in &image.services {
            let at = new.service.slots;
            match new.owners {
                NewOwners::Kept => {}
                NewOwners::CopiedFrom(first) => {
                    for (from, to) in (first..).zip(at..).take(cells(new.service.slot_mask + 1) as usize) {
                        // The target cell is read by no packet: its content is another service's.
                        let SlotCell(slots) = self.maps.slots.read(from).unwrap_or_default();
                        let looked_at = SlotCell(slots.map(|slot| Slot { look: 1, ..slot }));
                        let _past_the_end = self.maps.slots.write(to, looked_at);
                    }
                }
                NewOwners::Picked => {
                    picks.start(&new.service, 0);
                    picks.go_on(&Picker::new(&self.maps, &copies), u32::MAX);
                    for (to, picked) in (at..).zip(picks.cells()) {
                        let _past_the_end = self.maps.slots.write(to, picked);
                    }
                }
            }
        }
    }
}

/// The next edition, with the same bank.
pub(super) const fn next_edition(edition: u64) -> u64 {
    edition.wrapping_add(1 << u32::BITS)
}

/// The next edition, with this bank. Bank and count are one word, whose value is unique to each edition.
pub(super) fn next_edition_of(edition: u64, bank: u32) -> u64 {
    next_edition(edition) & !u64::from(u32::MAX) | u64::from(bank)
}

/// Resets the counters of a number that had another user before.
fn reset<const N: usize>(counters: &mut Counters<N>, index: u32, name: &'static str) -> Result<(), BpfError> {
    let failed = |source| BpfError::Counter { map: name, source };
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| failed(MapError::IoError(error)))?;
    let zero = PerCpuValues::try_from(vec![[0u64; N]; cpus]).map_err(|error| failed(MapError::IoError(error)))?;
    counters.set(index, zero, 0).map_err(failed)
}
