//! Two writers of the same maps: the one that was there first sees what the other has changed.

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
    // The same bank is active again, and only the count tells.
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
fn counts_that_say_something_else_than_the_states_are_repaired() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut one = started(&pins, &config());
    assert_eq!(one.repair_counts().expect("readable"), Vec::<String>::new());
    let right = pool_counts(&one, "one");
    // As a writer leaves it that is killed behind its first store.
    let number = backend(&one, "one/b0");
    reopened(&pins).store_state(number, state(Admin::Disabled, Health::Unknown));
    assert_eq!(pool_counts(&one, "one"), right);
    assert_eq!(one.repair_counts().expect("readable"), ["one"]);
    assert_eq!(pool_counts(&one, "one"), (right.0 - 1, right.1 - 1));
    assert_eq!(one.repair_counts().expect("readable"), Vec::<String>::new());
}
