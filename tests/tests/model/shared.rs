//! Tables of slots that services with the same pools share while they are stable. Entries of the service index name such
//! a table or a service's own slots; a table is only written while no entry names it.

use edge_common::{
    abi::{SLOTS_PER_CELL, ServiceRef, Slot, SlotCell, slot_address},
    host::Memory,
    maps::Maps as _,
};

use crate::{
    edge::{Edge, place},
    scene::{SLOTS, Scene},
};

const CELLS: u32 = SLOTS / SLOTS_PER_CELL;

/// Makes room for the tables behind the services' own slots.
pub(crate) fn add_tables(memory: &mut Memory) {
    assert_eq!(memory.slots.get_mut().len(), first_table());
    memory.slots.get_mut().resize(first_table() + Scene::KINDS * CELLS as usize, SlotCell::default());
}

/// The first cell behind the services' own slots.
pub(crate) const fn first_table() -> usize {
    Scene::SERVICES * CELLS as usize
}

impl Edge {
    /// Makes packets of these services read their own slots.
    pub(crate) fn separate(&mut self, services: &[usize]) {
        let shared: Vec<_> = services.iter().copied().filter(|service| self.shares(*service)).collect();
        if !shared.is_empty() {
            self.write(|memory| shared.iter().for_each(|service| name(memory, *service, None)));
        }
    }

    /// Makes packets of a stable service read the table of services with its pools, if the table has the same owners or
    /// no service reads it. Returns whether they do.
    pub(crate) fn share(&mut self, service: usize) -> bool {
        let own: Vec<_> = (0..SLOTS).map(|slot| self.slot(service, slot)).collect();
        let first = table(service);
        let is_in_use = (0..Scene::SERVICES).any(|other| table(other) == first && self.shares(other));
        let in_table = |slot| self.memory().slot(slot_address(first, slot)).expect("it is there");
        let fits = |(slot, own): (u32, &Slot)| {
            *own == Slot::of(own.owner) && own.owner != 0 && (!is_in_use || *own == in_table(slot))
        };
        let shares = (0..).zip(&own).all(fits);
        if shares {
            self.write(|memory| {
                if !is_in_use {
                    for (slot, own) in (0..).zip(own) {
                        memory.write_slot(slot_address(first, slot), |slot| *slot = own);
                    }
                }
                name(memory, service, Some(first));
            });
        }
        shares
    }

    /// Whether packets of a service read a table.
    pub(crate) fn shares(&self, service: usize) -> bool {
        let own = self.service(service).slots;
        let memory = self.memory();
        let v4 = memory.service_index_v4.iter().map(|entry| (entry.key.used, entry.service_ref));
        let v6 = memory.service_index_v6.iter().map(|entry| (entry.key.used, entry.service_ref));
        v4.chain(v6).any(|(used, found)| used == 1 && is_of(found, service) && found.slots() != own)
    }
}

/// First cell of the table of a service's kind.
fn table(service: usize) -> u32 {
    u32::try_from(first_table() + Scene::kind(service) * CELLS as usize).expect("a few tables")
}

/// Makes the entries of a service name the table at `first`, or the service's own slots.
fn name(memory: &mut Memory, service: usize, first: Option<u32>) {
    let first = first.unwrap_or(memory.services[place(service)].slots);
    let v4 = memory.service_index_v4.iter_mut().map(|entry| (entry.key.used, &mut entry.service_ref));
    let v6 = memory.service_index_v6.iter_mut().map(|entry| (entry.key.used, &mut entry.service_ref));
    for (_, found) in v4.chain(v6).filter(|(used, found)| *used == 1 && is_of(**found, service)) {
        *found = found.with_slots(first);
    }
}

fn is_of(service_ref: ServiceRef, service: usize) -> bool {
    !service_ref.is_vip() && service_ref.service() as usize == service
}
