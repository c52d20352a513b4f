//! Tables of slots that stable services share.
//!
//! A service's own slots decide. While all of them are stable, its packets may read another table with the same owners:
//! they leave as if they had read the own one, and of many services that are alike they read few lines. The entries of the
//! service index name the table. It stays as it is while an entry names it: a packet that finds no stable owner in it
//! goes on with the service's own slots, and only these change. The entries name the own slots again before a change that
//! may make owners and picks differ, and at once after a death, whose slots have no living owner in either table. No
//! backend comes back to life before that, and before every packet that has read such an entry has left.
//!
//! A writer may be killed, or stopped, between any two stores. So a service in transition never keeps a table for longer
//! than until the next pass, which moves no slot of such a service before; a writer reads the entries themselves before
//! a change; and a writer that has just made a service share looks for a change that has begun meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{Ordering, fence},
};

use edge_common::abi::{ServiceRef, Slot};

use super::{
    BpfError, PinnedMaps,
    mapped::Mapped,
    maps::{Maps, position},
    slots::{Slots, cells},
    sys,
    vips::Entry,
};
use crate::plan::{CommonRecord, Image, NewOwners};

/// Slots that one call of [`PinnedMaps::share_some`] compares, some milliseconds' worth.
const STEP: u32 = 1 << 17;

/// The entries of one generation's index, and which of them name shared tables.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// The generation; 0 before the first look.
    generation: u64,
    /// Positions in the IPv4 and IPv6 index by service.
    doors: BTreeMap<u32, [Vec<u32>; 2]>,
    /// Services whose entries name a shared table.
    users: BTreeSet<u32>,
    /// Services that may share, but were not compared yet.
    waiting: Vec<u32>,
    /// Whether every packet has left that has read an entry before it was made to name its service's own slots.
    settled: bool,
    /// Whether a staged generation uses the room of a table, so that no service may share before it is in force.
    ended: bool,
}

impl PinnedMaps {
    /// Makes packets of these services read the services' own slots.
    pub(super) fn separate(&mut self, services: &[u32]) {
        if services.is_empty() {
            return;
        }
        self.know_doors();
        // The flags were raised before: another writer that makes a service share from now on sees them.
        fence(Ordering::SeqCst);
        for &number in services {
            let Some(service) = self.maps.service(self.maps.bank(), number) else { continue };
            let was_known = self.sharing.users.remove(&number);
            if self.point(number, service.slots) || was_known {
                self.sharing.settled = false;
            }
        }
    }

    /// Completes the changes of writers that were killed: `services` are those in transition, and share no longer.
    pub(super) fn separate_changing(&mut self, services: &[u32]) {
        self.know_doors();
        let shares = |number: &u32| self.sharing.users.contains(number);
        let left: Vec<_> = services.iter().copied().filter(shares).collect();
        if !left.is_empty() {
            self.look_at(&left);
            self.separate(&left);
            // The pass may hand their slots over.
            self.settle();
        }
    }

    /// Waits until no packet can be about to read a table that its service's entries do not name any more.
    pub(super) fn settle(&mut self) {
        if !self.sharing.settled {
            sys::wait_for_packets();
            self.sharing.settled = true;
        }
    }

    /// Ends all sharing in this generation if `image` needs the room of a table, before anything is written there.
    ///
    /// # Errors
    /// If the published snapshot cannot be read.
    pub(super) fn yield_tables(&mut self, image: &Image) -> Result<(), BpfError> {
        if self.maps.published().is_none() {
            return Ok(());
        }
        let known = self.known()?;
        let overlaps = |first: u32, slots: u32| {
            let meets = |cell: u32, length: u32| first < cell + length && cell < first + cells(slots);
            known.common.iter().any(|common| meets(common.cell, cells(common.slots)))
        };
        let mut fresh = image.services.iter().filter(|new| new.owners != NewOwners::Kept);
        if fresh.any(|new| overlaps(new.service.slots, new.service.slot_mask + 1)) {
            let all: Vec<_> = known.services.iter().map(|record| record.number).collect();
            self.separate(&all);
            self.settle();
            self.sharing.ended = true;
        }
        Ok(())
    }

    /// Notes that a service has become stable, and may share a table.
    pub(super) fn may_share(&mut self, service: u32) {
        self.sharing.waiting.push(service);
    }

    /// Makes packets of further stable services read a table that they share, for a few milliseconds.
    pub(super) fn share_some(&mut self) -> Result<(), BpfError> {
        self.know_doors();
        if self.sharing.ended || self.sharing.waiting.is_empty() {
            return Ok(());
        }
        let known = self.known()?;
        let tables: BTreeMap<_, _> = known
            .common
            .iter()
            .flat_map(|common| common.services.iter().map(move |number| (*number, common)))
            .collect();
        let mut work = 0;
        while work < STEP
            && let Some(number) = self.sharing.waiting.pop()
        {
            if !self.in_transition(number)
                && let Some(common) = tables.get(&number)
            {
                work += self.share(number, common);
            }
        }
        Ok(())
    }

    /// Makes packets of a stable service read the table of the services that are like it, if that has the same owners.
    /// Returns the number of slots.
    fn share(&mut self, number: u32, common: &CommonRecord) -> u32 {
        let Some(service) = self.maps.service(self.maps.bank(), number) else { return 0 };
        let is_in_use = common.services.iter().any(|other| self.sharing.users.contains(other));
        if !is_in_use {
            // The table is about to be written.
            self.settle();
        }
        let (own, table) = (Slots::of(&self.maps, &service), Slots::at(&self.maps, common.cell, common.slots));
        let fits = |slot| {
            let own = own.get(slot);
            own == Slot::of(own.owner) && own.owner != 0 && (!is_in_use || own == table.get(slot))
        };
        if (0..common.slots).all(fits) {
            if !is_in_use {
                (0..common.slots).for_each(|slot| table.set(slot, own.owner(slot)));
            }
            self.point(number, common.cell);
            self.sharing.users.insert(number);
            fence(Ordering::SeqCst);
            // A writer that may go without the lock has perhaps begun a change, and found nothing to separate.
            if self.in_transition(number) {
                self.separate(&[number]);
            }
        }
        common.slots
    }

    /// The entry as it was published, if it names the table that its service may share: `common` has its first cell.
    pub(super) fn with_own_slots<E: Entry>(&self, mut entry: E, bank: u32, common: &BTreeMap<u32, u32>) -> E {
        let service_ref = entry.service_ref();
        let number = service_ref.service();
        if common.get(&number) == Some(&service_ref.slots())
            && let Some(service) = self.maps.service(bank, number)
        {
            *service_ref = service_ref.with_slots(service.slots);
        }
        entry
    }

    /// Makes the entries of a service name other slots, each by one atomic operation. Returns whether any named others
    /// before.
    fn point(&self, number: u32, cell: u32) -> bool {
        let Some([v4, v6]) = self.sharing.doors.get(&number) else { return false };
        let v4 = v4.iter().filter(|at| point(&self.maps.index_v4, **at, cell)).count();
        let v6 = v6.iter().filter(|at| point(&self.maps.index_v6, **at, cell)).count();
        v4 + v6 > 0
    }

    /// Looks at the index of a generation that was published since.
    fn know_doors(&mut self) {
        let Some((bank, generation)) = self.maps.published() else { return };
        if self.sharing.generation == generation.number {
            return;
        }
        let mut found = Sharing { generation: generation.number, ..Sharing::default() };
        found.look(&self.maps, &self.maps.index_v4, bank, generation.index_mask_v4, 0);
        found.look(&self.maps, &self.maps.index_v6, bank, generation.index_mask_v6, 1);
        found.waiting = found.doors.keys().filter(|number| !found.users.contains(*number)).copied().collect();
        self.sharing = found;
    }
}

impl Sharing {
    fn look<E: Entry>(&mut self, maps: &Maps, index: &Mapped<E>, bank: u32, mask: u32, family: usize) {
        for at in (0..=mask).filter_map(|number| position(bank, number)) {
            let Some(mut entry) = index.read(at).filter(E::is_used) else { continue };
            let service_ref = *entry.service_ref();
            if service_ref.is_vip() || service_ref.is_translated() || service_ref.is_by_connection() {
                continue;
            }
            let number = service_ref.service();
            self.doors.entry(number).or_default()[family].push(at);
            if maps.service(bank, number).is_some_and(|service| service.slots != service_ref.slots()) {
                self.users.insert(number);
            }
        }
    }
}

fn point<E: Entry>(index: &Mapped<E>, at: u32, cell: u32) -> bool {
    let Some(word) = index.atomic_u32(at, E::SLOTS_AT) else { return false };
    let pointed = |word| Some(ServiceRef::slots_word(word, cell)).filter(|new| *new != word);
    word.fetch_update(Ordering::AcqRel, Ordering::Acquire, pointed).is_ok()
}
