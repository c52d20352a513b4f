//! Services that are alike share a table of slots while they are stable, and no longer.

use std::collections::BTreeSet;

use edge_common::abi::ServiceEntryV4;

use super::{
    flows::{START, finish_all, pass, set, stable, waits},
    *,
};
use crate::bpf::maps::position;

/// Three services with the same pools, and one with others.
fn alike() -> Config {
    let mut config = config();
    for (name, last) in [("shop", 2), ("mail", 3)] {
        let vip = Ipv4Addr::new(192, 0, 2, last).into();
        config.services.push(samples::service(name, vip, 80, Protocol::Tcp, vec![0, 1]));
    }
    config
}

const ALIKE: [&str; 3] = ["web", "shop", "mail"];

/// Three services that share a table.
fn sharing(pins: &PinDir) -> PinnedMaps {
    let mut pinned = stable(pins, &alike());
    pass(&mut pinned, START);
    assert_eq!(those_that_share(&pinned), BTreeSet::from(ALIKE));
    pinned
}

/// First cells that the index entries of a service name.
fn cells(pinned: &PinnedMaps, name: &str) -> BTreeSet<u32> {
    let number = service_number(pinned, name);
    let (bank, generation) = pinned.maps.published().expect("published");
    let entries = (0..=generation.index_mask_v4).filter_map(|at| pinned.maps.index_v4.read(position(bank, at)?));
    let its = entries.filter(|entry: &ServiceEntryV4| entry.key.used == 1 && entry.service_ref.service() == number);
    its.map(|entry| entry.service_ref.slots()).collect()
}

/// Services whose packets do not read their own slots.
fn those_that_share(pinned: &PinnedMaps) -> BTreeSet<&'static str> {
    let snapshot = pinned.snapshot().expect("readable").expect("published");
    let shares = |name: &&str| cells(pinned, name) != BTreeSet::from([snapshot.service(name).expect(name).cell]);
    ["web", "shop", "mail", "dns"].into_iter().filter(shares).collect()
}

/// The table's content.
fn table(pinned: &PinnedMaps) -> Vec<Slot> {
    let snapshot = pinned.snapshot().expect("readable").expect("published");
    let [common] = &snapshot.common[..] else { panic!("{:?}", snapshot.common) };
    let cells = (common.cell..).take((common.slots / SLOTS_PER_CELL) as usize);
    cells.flat_map(|cell| pinned.maps.slots.read(cell).expect("in range").0).collect()
}

#[test]
fn stable_services_with_the_same_pools_share_a_table_with_their_owners() {
    let bpffs = Bpffs::mount();
    let mut pinned = sharing(&bpffs.pins());
    let named: BTreeSet<_> = ALIKE.into_iter().flat_map(|name| cells(&pinned, name)).collect();
    assert_eq!(named.len(), 1);
    for name in ALIKE {
        assert_eq!(table(&pinned), slots(&pinned, name), "{name}");
    }
    assert!(!pinned.is_bank_damaged().expect("readable"));
    // A publication begins with the services' own slots.
    let image = plan(&pinned, &alike());
    pinned.publish(&image).expect("published");
    assert!(those_that_share(&pinned).is_empty());
    assert!(!pinned.is_bank_damaged().expect("readable"));
    for _ in 0..4 {
        pass(&mut pinned, START);
    }
    assert_eq!(those_that_share(&pinned), BTreeSet::from(ALIKE));
    assert!(!pinned.is_bank_damaged().expect("readable"), "what changes within a generation is no damage");
}

#[test]
fn a_change_makes_packets_read_the_slots_of_the_services_that_it_concerns() {
    let bpffs = Bpffs::mount();
    let mut pinned = sharing(&bpffs.pins());
    let before = table(&pinned);
    let shop = service_number(&pinned, "shop");
    pinned.set_failover(shop, Failover { first: 1, evacuate: false }).expect("known");
    assert_eq!(those_that_share(&pinned), BTreeSet::from(["web", "mail"]));
    assert!(slots(&pinned, "shop").iter().all(|slot| slot.look != 0));
    set(&mut pinned, "one/b0", Admin::Drained, Health::Up);
    assert!(those_that_share(&pinned).is_empty());
    let b0 = backend(&pinned, "one/b0");
    assert!(slots(&pinned, "web").iter().all(|slot| (slot.look != 0) == (slot.owner == b0)));
    assert_eq!(table(&pinned), before, "it stays as it was for packets on their way");
    // The services are stable again, but those with other owners read their own slots.
    set(&mut pinned, "one/b0", Admin::Enabled, Health::Up);
    let later = START + Duration::from_hours(1);
    for at in [START, later, later, later, later, later] {
        pass(&mut pinned, at);
    }
    assert!(!pinned.in_transition(shop), "it was handed over");
    let shared = those_that_share(&pinned);
    assert!(shared.is_superset(&BTreeSet::from(["web", "mail"])) && !shared.contains("shop"), "{shared:?}");
}

#[test]
fn a_death_does_so_too_and_a_successor_knows_who_shares() {
    let bpffs = Bpffs::mount();
    let mut pinned = sharing(&bpffs.pins());
    set(&mut pinned, "one/b0", Admin::Enabled, Health::Down);
    assert!(those_that_share(&pinned).is_empty());
    set(&mut pinned, "one/b0", Admin::Enabled, Health::Up);
    for _ in 0..5 {
        pass(&mut pinned, START + Duration::from_secs(1));
    }
    assert_eq!(those_that_share(&pinned), BTreeSet::from(ALIKE));
    drop(pinned);

    let mut pinned = reopened(&bpffs.pins());
    pinned.repair().expect("repaired");
    assert_eq!(those_that_share(&pinned), BTreeSet::from(ALIKE), "nothing has changed");
    set(&mut pinned, "one/b0", Admin::Drained, Health::Up);
    assert!(those_that_share(&pinned).is_empty());
}

/// These changes mark a part of the slots alone, in the services' own tables.
#[test]
fn a_change_of_a_share_ends_it_too() {
    let change_share = |pinned: &mut PinnedMaps| {
        let number = backend(pinned, "one/b0");
        pinned.set_share(number, 8).expect("a backend");
    };
    let change_withheld = |pinned: &mut PinnedMaps| {
        let pool = pinned.snapshot().expect("readable").expect("published").pools[0].number;
        pinned.set_withheld(pool, 8, "it returns");
    };
    for change in [change_share as fn(&mut PinnedMaps), change_withheld] {
        let bpffs = Bpffs::mount();
        let mut pinned = sharing(&bpffs.pins());
        change(&mut pinned);
        assert!(those_that_share(&pinned).is_empty());
    }
}

#[test]
fn a_pass_completes_what_a_killed_writer_has_begun_before_it_moves_a_slot() {
    let bpffs = Bpffs::mount();
    let mut pinned = sharing(&bpffs.pins());
    let before = table(&pinned);
    // It was killed right behind the store of a death.
    let (number, all) = (backend(&pinned, "one/b0"), ALIKE.map(|name| service_number(&pinned, name)));
    pinned.announce_change(&all);
    assert!(pinned.swap_state(number, pinned.state(number), state(Admin::Enabled, Health::Down)));
    drop(pinned);

    let mut pinned = reopened(&bpffs.pins());
    pinned.repair().expect("repaired");
    assert_eq!(those_that_share(&pinned), BTreeSet::from(ALIKE));
    let waits = waits(&pinned);
    pinned.begin_pass(&waits).expect("begun");
    assert!(those_that_share(&pinned).is_empty());
    for name in ALIKE {
        let owners: Vec<_> = slots(&pinned, name).into_iter().map(|slot| Slot::of(slot.owner)).collect();
        assert_eq!(owners, before, "{name}: no slot has moved");
        assert!(slots(&pinned, name).iter().all(|slot| slot.look != 0), "{name}");
    }
}

#[test]
fn a_writer_separates_services_that_another_one_has_made_share_since_it_looked() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut pinned = started(&pins, &alike());
    let mut other = reopened(&pins);
    // Its first look at the index: nothing is shared yet.
    other.separate(&[service_number(&pinned, "web")]);
    finish_all(&mut pinned, START);
    pass(&mut pinned, START);
    assert_eq!(those_that_share(&pinned), BTreeSet::from(ALIKE));
    set(&mut other, "one/b0", Admin::Drained, Health::Up);
    assert!(those_that_share(&pinned).is_empty());
    // The first one has not noticed, and does not share them anew.
    pinned.share_some().expect("published");
    assert!(those_that_share(&pinned).is_empty());
}

#[test]
fn a_table_gives_its_room_to_a_service_before_the_service_is_staged() {
    let bpffs = Bpffs::mount();
    let (pins, alike) = (bpffs.pins(), alike());
    let slots_of = |count: u32| count * samples::SLOTS / SLOTS_PER_CELL;
    let capacity = Capacity { slots: slots_of(5), ..Capacity::of(&alike) };
    let mut pinned = PinnedMaps::create(&pins, &capacity).expect("maps");
    let image = plan(&pinned, &alike);
    pinned.publish(&image).expect("published");
    for _ in 0..5 {
        pass(&mut pinned, START);
    }
    assert_eq!(those_that_share(&pinned), BTreeSet::from(ALIKE));
    let before = table(&pinned);

    let mut config = alike.clone();
    let vip = Ipv4Addr::new(192, 0, 2, 4).into();
    config.services.push(samples::service("more", vip, 80, Protocol::Tcp, vec![1]));
    let image = plan(&pinned, &config);
    assert!(image.snapshot.common.is_empty(), "there is no room");
    let staged = pinned.stage(&image).expect("staged");
    assert!(those_that_share(&pinned).is_empty());
    assert_ne!(table(&pinned), before, "the service's owners are there");
    let staged_owners = table(&pinned);
    // Nobody shares again before the generation is in force.
    for _ in 0..5 {
        pass(&mut pinned, START + Duration::from_secs(1));
    }
    assert!(those_that_share(&pinned).is_empty());
    assert_eq!(table(&pinned), staged_owners);
    pinned.make_active(&image, staged).expect("in force").expect("settled");
    assert_eq!(owners(&pinned, "more"), staged_owners.iter().map(|slot| slot.owner).collect::<Vec<_>>());
}
