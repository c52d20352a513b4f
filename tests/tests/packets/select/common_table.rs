//! A table of slots that stable services share: packets only read it, and change their service's own slots.

use edge_common::abi::{SLOTS_PER_CELL, SlotCell, banked};
use edge_tests::{
    both::Both,
    namespace::in_namespace,
    packet::{ACK, SYN, protocol},
    world::{DOWN, UP},
};

use super::{SLOTS, more_ports, ports, recorded, slot_of, states::new, tcp};

/// Two services whose packets read a table of the same owners, behind their own slots, with its first cell.
fn sharing() -> (Both, usize) {
    let mut world = super::world(&[3, 3]);
    world.services.iter_mut().for_each(|service| service.in_transition = false);
    let mut memory = world.memory();
    let cells = memory.slots.get_mut();
    let (first, own) = (cells.len(), cells[..(SLOTS / SLOTS_PER_CELL) as usize].to_vec());
    cells.extend(own);
    for entry in memory.service_index_v4.iter_mut().filter(|entry| entry.key.used == 1 && !entry.service_ref.is_vip()) {
        entry.service_ref = entry.service_ref.with_slots(u32::try_from(first).expect("a small world"));
    }
    (Both::with_memory(world, memory), first)
}

/// Changes a backend's state and nothing else.
fn set(both: &mut Both, backend: usize, state: u32) {
    let memory = &mut both.memory;
    // What packets have begun stays.
    for (bank, service) in memory.in_transition.take() {
        memory.services[banked(bank, service) as usize].in_transition = 1;
    }
    memory.backends[backend].state = state;
    both.kernel.copy(&both.memory);
}

fn running(both: &Both, ports: &[u16]) -> Vec<Option<u16>> {
    ports.iter().map(|port| super::reached(&both.run(&tcp(*port, ACK))).1).collect()
}

#[test]
fn a_dead_owner_in_it_leads_to_the_services_own_slots() {
    in_namespace(|| {
        let (mut both, first) = sharing();
        let table = |both: &Both| -> Vec<SlotCell> { both.memory.slots.borrow()[first..].to_vec() };
        let (ports, others, before) = (ports(&both.world), more_ports(&both.world, 1), table(&both));
        let owners = running(&both, &ports);
        assert!((0..SLOTS).all(|slot| Some(slot_of(&both.memory, 0, slot).owner) == owners[slot as usize]));
        set(&mut both, 2, DOWN);
        let during = new(&both, &ports);
        for (slot, port) in (0..).zip(&ports) {
            let was_its = owners[slot as usize] == Some(2);
            let own = slot_of(&both.memory, 0, slot);
            assert_eq!((own.look != 0, Some(own.owner)), (was_its, owners[slot as usize]), "{slot}");
            assert_eq!(recorded(&both.memory, protocol::TCP, *port).is_some(), was_its, "{slot}");
            assert_eq!(slot_of(&both.memory, 1, slot).look, 0, "{slot}: the other service has no flow there");
        }
        assert_eq!(running(&both, &ports), during);
        assert_eq!(table(&both), before);

        // The controller makes packets read the own slots before the backend lives again.
        for entry in &mut both.memory.service_index_v4 {
            entry.service_ref = match entry.service_ref.service() {
                number @ (0 | 1) if entry.key.used == 1 => {
                    entry.service_ref.with_slots(number * SLOTS / SLOTS_PER_CELL)
                }
                _ => entry.service_ref,
            };
        }
        set(&mut both, 2, UP);
        assert_eq!(running(&both, &ports), during, "recorded flows stay where they are");
        let later: Vec<_> = others.iter().map(|port| super::reached(&both.run(&tcp(*port, SYN))).1).collect();
        assert_eq!(later, owners);
        both.compare_state().unwrap_or_else(|error| panic!("{error}"));
    });
}
