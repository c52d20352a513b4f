//! Tests of panic, in which all backends of a pool serve, up or not.

use edge_common::abi::WhenExhausted;

use super::{
    judging::{one_pool, silent, states, up},
    *,
};

#[test]
fn too_few_that_are_up_panic_where_there_is_no_other_pool() {
    let mut controller = one_pool(WhenExhausted::Open);
    silent(&mut controller, &[], 3);
    fail(&mut controller, 1, 3);
    assert!(states(&controller).starts_with("xUU"), "two of three are enough");
    fail(&mut controller, 2, 3);
    assert!(states(&controller).starts_with("UUU"), "one of three is not");
    assert!(controller.plane.state(1).has_all(State::DOWN), "and is still known to be down");
    let reason = controller.plane.why(2).reason;
    assert!(reason.contains("failed"), "it is the one that its probes have now, and not the one before: {reason}");
    controller.operate(&Operation::Disable { backend: "a1".to_owned(), reason: None }).unwrap();
    assert!(states(&controller).starts_with("xUU"), "but for who is disabled");
    controller.operate(&Operation::Enable { backend: "a1".to_owned(), reason: None }).unwrap();
    controller.reconcile().unwrap();
    assert_eq!(controller.repaired, 0);
    pass(&mut controller, 1, 2);
    pass(&mut controller, 2, 1);
    assert!(states(&controller).starts_with("UUU"), "not at the first moment");
    controller.now += Duration::from_secs(5);
    controller.reconsider().unwrap();
    assert!(states(&controller).starts_with("UxU"));
    let seen: Vec<_> = kinds(&controller).into_iter().filter(|kind| *kind != EventKind::BackendUp).collect();
    assert!(seen.contains(&EventKind::Panic) && seen.contains(&EventKind::PanicOver), "{seen:?}");
    // With a policy that serves nothing rather than dead backends, failed probes count.
    let mut controller = one_pool(WhenExhausted::Reject);
    for backend in [1, 2, 3] {
        fail(&mut controller, backend, 3);
    }
    assert!(states(&controller).starts_with("xxx"));
    // There is no panic either if there is another pool.
    let mut controller = up();
    fail(&mut controller, 1, 3);
    fail(&mut controller, 2, 3);
    assert_eq!(states(&controller), "xxUUUU");
}

#[test]
fn a_pool_below_the_number_that_a_service_needs_does_not_use_its_dead_backends() {
    let mut controller = one_pool(WhenExhausted::Open);
    controller.inventory.config.pools[0].min_healthy = 3;
    silent(&mut controller, &[], 3);
    fail(&mut controller, 1, 3);
    assert!(states(&controller).starts_with("xUU"), "two of three can carry the load of three");
}

#[test]
fn no_panic_is_over_while_this_host_hears_nothing() {
    let mut inventory = inventory();
    inventory.config.services[0].pools = vec![0];
    let plane = FakeDataPlane::fresh(&inventory);
    let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
    for backend in [1, 2, 3] {
        fail(&mut controller, backend, 3);
    }
    for backend in [1, 2, 4, 5, 6] {
        pass(&mut controller, backend, 2);
    }
    assert!(states(&controller).starts_with("UUU"), "it is not over at the first moment");
    silent(&mut controller, &[1, 2, 3, 4, 5, 6], 3);
    assert!(controller.frozen().is_some());
    controller.now += Duration::from_secs(6);
    controller.reconsider().unwrap();
    assert!(states(&controller).starts_with("UUU"), "those that were up may not be");
    for _ in 0..2 {
        controller.now += Duration::from_secs(6);
        silent(&mut controller, &[3], 2);
    }
    assert!(controller.frozen().is_none());
    assert!(states(&controller).starts_with("UUx"), "{}", states(&controller));
}

#[test]
fn a_backend_that_an_operator_has_set_down_takes_no_part() {
    let mut controller = one_pool(WhenExhausted::Open);
    silent(&mut controller, &[], 3);
    let force = |controller: &mut Controller<FakeDataPlane>, backend: &str, health| {
        let operation = Operation::Health { backend: backend.to_owned(), health, reason: None };
        controller.operate(&operation).unwrap();
    };
    for backend in ["a1", "a2", "provider-a/shared"] {
        force(&mut controller, backend, Some(Health::Down));
    }
    assert!(states(&controller).starts_with("xxx") && !kinds(&controller).contains(&EventKind::Panic));
    for backend in ["a1", "a2"] {
        force(&mut controller, backend, None);
    }
    assert!(states(&controller).starts_with("UUx"), "{}", states(&controller));
    fail(&mut controller, 1, 3);
    assert!(states(&controller).starts_with("xUx"), "half of those that are to serve");
    fail(&mut controller, 2, 3);
    assert!(states(&controller).starts_with("UUx"), "all that are to serve, and no others");
    controller.reconcile().unwrap();
    assert_eq!(controller.repaired, 0);
}
