//! Two writers of the same maps: the first one notices what the other has changed.

use std::cell::Cell;

use edge_common::abi;

use super::{
    flows::{finish_all, set, stable},
    next_hop::NEXT_HOPS,
    *,
};
use crate::{
    bpf::audit::Found,
    plan::{admin, changed},
};

const START: Duration = Duration::from_secs(5000);

#[test]
fn a_plan_from_before_another_writers_publication_is_not_published() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut slept = started(&pins, &config());
    let image = plan(&slept, &config());
    let mut other = reopened(&pins);
    let theirs = plan(&other, &config());
    other.publish(&theirs).expect("it is the next");
    let later = plan(&other, &config());
    other.publish(&later).expect("it is the next");
    let before = slept.snapshot().expect("readable");
    // The same bank is active again; only the count of editions differs.
    assert!(matches!(slept.publish(&image), Err(BpfError::Stale { planned: 2, published: 3 })));
    assert!(matches!(slept.still(&image), Err(BpfError::Stale { .. })));
    assert_eq!(slept.snapshot().expect("readable"), before);
    let again = plan(&slept, &config());
    slept.publish(&again).expect("planned anew");
    assert_eq!(other.generation(), 4);
}

#[test]
fn a_failover_makes_plans_stale_that_do_not_have_it() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut slept = started(&pins, &config());
    let image = plan(&slept, &config());
    let web = service_number(&slept, "web");
    reopened(&pins).set_failover(web, Failover { first: 1, evacuate: false }).expect("known");
    assert!(matches!(slept.publish(&image), Err(BpfError::Stale { .. })));
    let again = plan(&slept, &config());
    slept.publish(&again).expect("planned anew");
    assert_eq!(slept.failover(web).first, 1);
}

#[test]
fn a_change_that_another_writer_was_faster_than_is_made_of_what_it_left() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut one = started(&pins, &config());
    let number = backend(&one, "one/b1");
    let other = std::cell::RefCell::new(reopened(&pins));
    let calls = Cell::new(0);
    let down = |before| {
        calls.set(calls.get() + 1);
        if calls.get() == 1 {
            set(&mut other.borrow_mut(), "one/b1", Admin::Drained, Health::Up);
        }
        changed(before, admin(before), Health::Down)
    };
    one.change_state(number, down, "no answer").expect("known");
    assert_eq!(calls.get(), 2);
    assert_eq!(one.state(number), state(Admin::Drained, Health::Down), "neither is lost");
}

#[test]
fn a_service_that_another_writer_has_changed_is_not_taken_for_stable() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut one = stable(&pins, &config());
    let web = service_number(&one, "web");
    set(&mut one, "one/b1", Admin::Drained, Health::Up);
    one.begin_pass(&[]).expect("readable");
    set(&mut reopened(&pins), "one/b2", Admin::Drained, Health::Up);
    assert!(!one.end_transition(web), "it has not looked since");
    assert!(one.in_transition(web));
    one.heed_others(web);
    assert!(one.end_transition(web));
    set(&mut one, "one/b1", Admin::Enabled, Health::Up);
    set(&mut one, "one/b2", Admin::Enabled, Health::Up);
    finish_all(&mut one, START);
}

#[test]
fn counts_that_differ_from_the_states_are_repaired() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut one = started(&pins, &config());
    assert_eq!(one.repair_counts().expect("readable"), Vec::<String>::new());
    let right = pool_counts(&one, "one");
    // The state that a writer leaves if it is killed after its first store.
    let number = backend(&one, "one/b0");
    reopened(&pins).store_state(number, state(Admin::Disabled, Health::Unknown));
    assert_eq!(pool_counts(&one, "one"), right);
    assert_eq!(one.repair_counts().expect("readable"), ["one"]);
    assert_eq!(pool_counts(&one, "one"), (right.0 - 1, right.1 - 1));
    assert_eq!(one.repair_counts().expect("readable"), Vec::<String>::new());
}

#[test]
fn a_bank_that_another_program_has_written_into_is_noticed_and_published_anew() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut one = started(&pins, &config());
    assert!(!one.is_bank_damaged().expect("readable"));
    // Changes within a generation are no damage.
    let web = service_number(&one, "web");
    set(&mut one, "one/b1", Admin::Drained, Health::Up);
    one.set_failover(web, Failover { first: 1, evacuate: false }).expect("known");
    assert!(!one.is_bank_damaged().expect("readable"));

    let other = reopened(&pins);
    let (bank, _) = other.maps.published().expect("published");
    let place = maps::position(bank, web).expect("in range");
    let service = other.maps.services.read(place).expect("in range");
    other.maps.services.write(place, abi::Service { pool_count: 1, ..service }).expect("in range");
    assert!(one.is_bank_damaged().expect("readable"));
    let image = plan(&one, &config());
    one.publish(&image).expect("published");
    assert!(!one.is_bank_damaged().expect("readable"));
    let (bank, _) = one.maps.published().expect("published");
    assert_eq!(one.maps.service(bank, web).expect("in range").pool_count, 2);

    // The head of the flow table is covered, too.
    let head = other.maps.flow_head.read(0).expect("a head");
    other.maps.flow_head.write(0, abi::FlowHead { mask: 0, ..head }).expect("in range");
    assert!(one.is_bank_damaged().expect("readable"));
    let image = plan(&one, &config());
    one.publish(&image).expect("published");
    assert_eq!(one.maps.flow_head.read(0), Some(head));
    assert!(!one.is_bank_damaged().expect("readable"));
}

/// One damage by another program, and whether it is repaired.
struct Damage {
    of: &'static str,
    done: fn(&PinnedMaps),
    is_repaired: fn(&PinnedMaps) -> bool,
}

const B0: u32 = 1;
const HOP: NextHopEntry = NEXT_HOPS[0];

fn zero<T: bytemuck::Pod + Default>(map: &Mapped<T>) {
    (0..map.len()).for_each(|index| map.write(index, T::default()).expect("in range"));
}

fn b0(maps: &PinnedMaps) -> Backend {
    maps.maps.backends.read(B0).expect("in range")
}

const DAMAGES: [Damage; 7] = [
    Damage {
        of: "one",
        done: |maps| (0..16).for_each(|cell| maps.maps.candidates.write(cell, abi::Cell::default()).expect("in range")),
        is_repaired: |maps| maps.maps.candidates.read(0).is_some_and(|cell| cell.0[0] != 0),
    },
    Damage {
        of: "one/b0",
        done: |maps| maps.maps.backends.write(B0, Backend { address: [9; 16], ..b0(maps) }).expect("in range"),
        is_repaired: |maps| b0(maps).address_v4() == [10, 1, 22, 1],
    },
    Damage {
        of: "one/b0",
        done: |maps| {
            maps.maps.backends.write(B0, Backend { source_mac: Mac::default(), ..b0(maps) }).expect("in range");
        },
        is_repaired: |maps| b0(maps).source_mac == Mac::new(HOP.source_mac) && b0(maps).next_hop == Mac::new(HOP.mac),
    },
    Damage {
        of: "one/b0",
        done: |maps| maps.maps.backends.write(B0, Backend { pool: 7, port: [1, 1], ..b0(maps) }).expect("in range"),
        is_repaired: |maps| (b0(maps).pool, b0(maps).port) == (0, [0, 0]),
    },
    Damage {
        of: "stations",
        done: |maps| {
            let first = Maps::generation(maps.maps.bank()) + std::mem::offset_of!(abi::Generation, stations);
            maps.maps.published.write_part(0, first, 0u64).expect("in range");
        },
        is_repaired: |maps| maps.stations()[0] == station(),
    },
    Damage {
        of: "snapshot",
        done: |maps| {
            (0..maps.maps.snapshot.len()).for_each(|page| {
                maps.maps.snapshot.write(page, abi::SnapshotPage([0; abi::SNAPSHOT_PAGE])).expect("in range");
            });
        },
        is_repaired: |maps| maps.snapshot().is_ok_and(|snapshot| snapshot.is_some()),
    },
    Damage {
        of: "generation",
        done: |maps| zero(&maps.maps.pools),
        // The remedy is a publication.
        is_repaired: |_| true,
    },
];

fn station() -> abi::Station {
    abi::Station::new(2, Mac::new([2, 0, 0, 0, 0, 1]))
}

#[test]
fn what_another_program_changes_in_any_map_is_stored_again() {
    for Damage { of, done, is_repaired } in DAMAGES {
        let bpffs = Bpffs::mount();
        let mut one = started(&bpffs.pins(), &config());
        one.set_stations(&[station()]);
        one.set_next_hop(backend(&one, "one/b0"), Some(HOP)).expect("known");
        let web = service_number(&one, "web");
        finish_all(&mut one, START);
        assert_eq!(one.audit(&config()).expect("readable"), Found::default());
        // What the daemon itself changes within a generation is no damage.
        set(&mut one, "one/b1", Admin::Drained, Health::Up);
        one.set_failover(web, Failover { first: 1, evacuate: false }).expect("known");
        one.set_next_hop(backend(&one, "one/b1"), Some(HOP)).expect("known");
        one.set_next_hop(backend(&one, "one/b1"), None).expect("known");
        assert_eq!(one.audit(&config()).expect("readable"), Found::default());
        done(&reopened(&bpffs.pins()));
        let found = one.audit(&config()).expect("readable");
        let subjects: Vec<_> = found.repaired.iter().map(|(subject, _)| subject.as_str()).collect();
        match of {
            "generation" => assert!(found.is_bank_damaged),
            _ => assert_eq!(subjects, [of]),
        }
        assert!(is_repaired(&one), "{of}");
        if of != "generation" {
            assert_eq!(one.audit(&config()).expect("readable"), Found::default(), "{of}");
        }
    }
}

#[test]
fn a_repair_of_candidates_looks_at_the_owners_again() {
    let bpffs = Bpffs::mount();
    let mut one = stable(&bpffs.pins(), &config());
    let web = service_number(&one, "web");
    one.audit(&config()).expect("readable");
    assert!(!one.in_transition(web));
    one.maps.candidates.write(0, abi::Cell::default()).expect("in range");
    one.audit(&config()).expect("readable");
    assert!(one.in_transition(web), "a pass may have picked others meanwhile");
}

#[test]
fn numbers_that_are_given_again_have_no_next_hop_of_before() {
    let bpffs = Bpffs::mount();
    let mut one = started(&bpffs.pins(), &config());
    let b0 = backend(&one, "one/b0");
    one.set_next_hop(b0, Some(HOP)).expect("known");
    one.audited.hops.get_mut(&b0).expect("kept").address = [7; 16];
    assert_eq!(one.audit(&config()).expect("readable"), Found::default());
    assert!(one.audited.hops.is_empty());
}

#[test]
fn a_history_that_is_lost_or_foreign_is_noticed_once() {
    let bpffs = Bpffs::mount();
    let mut one = started(&bpffs.pins(), &config());
    let looks = |one: &mut PinnedMaps| [one.look_at_history(), one.look_at_history()];
    one.write_history(b"first", None).expect("it fits");
    one.write_history(b"second", one.histories().first()).expect("it fits");
    assert_eq!(looks(&mut one), [Records::Same; 2]);
    let erased = abi::SnapshotPage([0; abi::SNAPSHOT_PAGE]);
    let newest = one.maps.history.read(1).expect("in range");
    one.maps.history.write(1, erased).expect("in range");
    assert_eq!(looks(&mut one), [Records::Damaged, Records::Same]);
    one.write_history(b"second", one.histories().first()).expect("it fits");
    assert_eq!((one.maps.history.read(1), looks(&mut one)), (Some(newest), [Records::Same; 2]));
    for page in 0..one.maps.history.len() {
        one.maps.history.write(page, erased).expect("in range");
    }
    assert_eq!(looks(&mut one), [Records::Damaged, Records::Same]);
    one.write_history(b"again", None).expect("it fits");
    assert_eq!(looks(&mut one), [Records::Same; 2]);
    let other = reopened(&bpffs.pins());
    other.write_history(b"theirs", other.histories().first()).expect("it fits");
    assert_eq!(looks(&mut one), [Records::Foreign, Records::Same]);
}

#[test]
fn pins_that_somebody_has_removed_are_made_again_of_the_same_maps() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut one = started(&pins, &config());
    set(&mut one, "one/b1", Admin::Drained, Health::Up);
    let number = backend(&one, "one/b1");
    // As the program does, which uses maps that the controller does not open.
    let _held: Vec<_> = one.names().map(|name| MapData::from_pin(pins.map(name)).expect("pinned")).collect();
    for all in [false, true] {
        assert!(one.are_pinned().expect("they can be looked up"));
        if all {
            pins.remove_maps().expect("removed");
        } else {
            fs::remove_file(pins.map(map::BACKENDS)).expect("pinned before");
            fs::remove_file(pins.map(map::SNAPSHOT)).expect("pinned before");
        }
        assert!(!one.are_pinned().expect("they can be looked up"));
        one.pin_again().expect("the maps live");
        assert_eq!(reopened(&pins).state(number), state(Admin::Drained, Health::Up));
    }
}
