//! Pools that were left and backends that were down return after a wait, and gradually.

use edge_common::abi::WhenExhausted;

use super::{
    judging::{one_pool, up},
    *,
};
use crate::config::Judging;

/// A controller whose first pool waits 100 s and returns over 10 s. The slow start of its backends takes 32 s.
fn waiting() -> Controller<FakeDataPlane> {
    let mut inventory = inventory();
    let seconds = Duration::from_secs;
    let judging = Judging { failback_after: seconds(100), failback_over: seconds(10), ..Judging::default() };
    inventory.config.pools[0].judging = Judging { slow_start: seconds(32), ..judging };
    let plane = FakeDataPlane::fresh(&inventory);
    let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
    for backend in 1..=6 {
        pass(&mut controller, backend, 1);
    }
    controller
}

fn pass_time(controller: &mut Controller<FakeDataPlane>, seconds: u64) {
    for _ in 0..seconds * 4 {
        controller.now += Duration::from_millis(250);
        controller.reconsider().unwrap();
    }
}

fn withheld(controller: &Controller<FakeDataPlane>) -> u32 {
    controller.plane.withheld(0)
}

fn leave(controller: &mut Controller<FakeDataPlane>) {
    for backend in [1, 2] {
        fail(controller, backend, 3);
    }
}

fn come_back(controller: &mut Controller<FakeDataPlane>) {
    for backend in [1, 2] {
        pass(controller, backend, 2);
    }
}

fn moves(controller: &Controller<FakeDataPlane>) -> Vec<EventKind> {
    let moves = [EventKind::PoolLeft, EventKind::PoolReturning, EventKind::PoolReturned];
    kinds(controller).into_iter().filter(|kind| moves.contains(kind)).collect()
}

#[test]
fn a_pool_that_was_left_is_returned_to_after_a_time_and_by_and_by() {
    let mut controller = waiting();
    assert_eq!(withheld(&controller), 0);
    leave(&mut controller);
    assert_eq!((withheld(&controller), moves(&controller)), (256, vec![EventKind::PoolLeft]));
    pass_time(&mut controller, 200);
    come_back(&mut controller);
    pass_time(&mut controller, 99);
    assert_eq!((withheld(&controller), moves(&controller).len()), (256, 1), "not before it was steady");
    let mut shares = Vec::new();
    for _ in 0..12 {
        pass_time(&mut controller, 1);
        shares.push(withheld(&controller));
    }
    assert!(shares.is_sorted_by(|before, after| before >= after), "{shares:?}");
    assert!(shares.iter().filter(|share| (1..256).contains(*share)).count() >= 9, "{shares:?}");
    assert_eq!(shares.last(), Some(&0));
    assert_eq!(moves(&controller), [EventKind::PoolLeft, EventKind::PoolReturning, EventKind::PoolReturned]);
    assert!(!controller.judgement.is_restless(), "and then there is nothing left to do");
}

#[test]
fn a_pool_that_is_lost_again_begins_anew() {
    let mut controller = waiting();
    for _ in 0..5 {
        leave(&mut controller);
        pass_time(&mut controller, 40);
        come_back(&mut controller);
        pass_time(&mut controller, 60);
    }
    assert_eq!((withheld(&controller), moves(&controller)), (256, vec![EventKind::PoolLeft]));
}

#[test]
fn an_operator_need_not_wait_and_is_not_waited_for() {
    let mut controller = waiting();
    leave(&mut controller);
    let failback = Operation::Failback { service: "web".to_owned() };
    assert!(!controller.operate(&failback).unwrap().changed, "there is nothing to go back to");
    come_back(&mut controller);
    pass_time(&mut controller, 1);
    assert!(controller.operate(&failback).unwrap().changed);
    assert_eq!(withheld(&controller), 0);
    pass_time(&mut controller, 1);
    assert_eq!(withheld(&controller), 0);
    assert_eq!(moves(&controller), [EventKind::PoolLeft, EventKind::PoolReturned]);
    // Backends that an operator drains and enables again are back at once.
    for verb in [
        |backend, reason| Operation::Drain { backend, reason },
        |backend, reason| Operation::Enable { backend, reason },
    ] {
        for backend in ["a1", "a2"] {
            controller.operate(&verb(backend.to_owned(), None)).unwrap();
        }
        pass_time(&mut controller, 1);
        assert_eq!(withheld(&controller), 0);
    }
}

#[test]
fn a_restart_waits_anew() {
    let mut controller = waiting();
    leave(&mut controller);
    come_back(&mut controller);
    pass_time(&mut controller, 90);
    let Controller { inventory, plane, now, .. } = controller;
    let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
    controller.now = now;
    pass_time(&mut controller, 90);
    assert_eq!(withheld(&controller), 256);
    pass_time(&mut controller, 30);
    assert_eq!(withheld(&controller), 0);
}

#[test]
fn a_reload_waits_on() {
    let mut controller = waiting();
    leave(&mut controller);
    come_back(&mut controller);
    pass_time(&mut controller, 90);
    let inventory = controller.inventory.clone();
    controller.replace(inventory).unwrap();
    pass_time(&mut controller, 15);
    assert!((1..256).contains(&withheld(&controller)));
}

#[test]
fn a_backend_that_was_down_gets_its_share_by_and_by() {
    let mut controller = waiting();
    fail(&mut controller, 1, 3);
    pass(&mut controller, 1, 2);
    let share = |controller: &Controller<FakeDataPlane>| controller.plane.state(1).withheld();
    let why = controller.plane.why(1);
    let mut shares = vec![share(&controller)];
    for _ in 0..33 {
        pass_time(&mut controller, 1);
        shares.push(share(&controller));
        controller.reconcile().unwrap();
    }
    assert!(shares[0] > 240 && shares.is_sorted_by(|before, after| before >= after), "{shares:?}");
    assert!((110..140).contains(&shares[16]) && shares[33] == 0, "{shares:?}");
    assert_eq!(controller.repaired, 0);
    assert_eq!(controller.plane.why(1), why, "since when it is up stays known");
    // A death ends the slow start, and leaves nothing of it.
    fail(&mut controller, 2, 3);
    pass(&mut controller, 2, 2);
    fail(&mut controller, 2, 3);
    assert_eq!(controller.plane.state(2), State(State::ENABLED | State::DOWN));
    pass_time(&mut controller, 5);
    assert_eq!(controller.plane.state(2), State(State::ENABLED | State::DOWN));
}

#[test]
fn a_backend_that_flaps_is_held_back_and_the_last_one_is_not() {
    let flap = |controller: &mut Controller<FakeDataPlane>| {
        for _ in 0..20 {
            fail(controller, 1, 3);
            controller.now += Duration::from_secs(1);
            pass(controller, 1, 2);
            controller.now += Duration::from_secs(1);
        }
        let health = [EventKind::BackendUp, EventKind::BackendDown];
        kinds(controller).into_iter().filter(|kind| health.contains(kind)).count()
    };
    let mut controller = up();
    let before = kinds(&controller).len();
    assert_eq!(flap(&mut controller) - before, 3, "down, up, down");
    let mut controller = one_pool(WhenExhausted::Open);
    for backend in [1, 2, 3] {
        fail(&mut controller, backend, 3);
    }
    let before = kinds(&controller).len();
    assert!(flap(&mut controller) > before + 20);
    // The others are up, and operators have taken them out.
    let mut controller = one_pool(WhenExhausted::Reject);
    let drain = |backend: &str| Operation::Drain { backend: backend.to_owned(), reason: None };
    let disable = |backend: &str| Operation::Disable { backend: backend.to_owned(), reason: None };
    for operation in [drain("a2"), disable("shared")] {
        controller.operate(&operation).unwrap();
    }
    let before = kinds(&controller).len();
    assert!(flap(&mut controller) > before + 20);
}
