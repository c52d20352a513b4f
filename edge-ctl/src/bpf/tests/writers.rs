//! Two writers of the same maps: the first one notices what the other has changed.

use std::cell::Cell;

use super::{
    flows::{finish_all, set, stable},
    *,
};
use crate::plan::{admin, changed};

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
    other.maps.services.write(place, edge_common::abi::Service { pool_count: 1, ..service }).expect("in range");
    assert!(one.is_bank_damaged().expect("readable"));
    let image = plan(&one, &config());
    one.publish(&image).expect("published");
    assert!(!one.is_bank_damaged().expect("readable"));
    let (bank, _) = one.maps.published().expect("published");
    assert_eq!(one.maps.service(bank, web).expect("in range").pool_count, 2);

    // The head of the flow table is covered, too.
    let head = other.maps.flow_head.read(0).expect("a head");
    other.maps.flow_head.write(0, edge_common::abi::FlowHead { mask: 0, ..head }).expect("in range");
    assert!(one.is_bank_damaged().expect("readable"));
    let image = plan(&one, &config());
    one.publish(&image).expect("published");
    assert_eq!(one.maps.flow_head.read(0), Some(head));
    assert!(!one.is_bank_damaged().expect("readable"));
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
