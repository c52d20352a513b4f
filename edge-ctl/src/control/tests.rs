//! A backend with two addresses, as operators and `status` see it.

use edge_common::abi::{Failover, State};

use super::{
    data_plane::DataPlane,
    events::{EventKind, Events},
    fixture::{FakeDataPlane, two_addresses as inventory},
    inventory::Inventory,
    kept::Kept,
    operations::{Operation, Terms, operate},
    status::{self, Clock, Sample, ServiceState},
};
use crate::{
    health::{Condition, Health},
    plan,
};

fn done(inventory: &Inventory, plane: &mut FakeDataPlane, events: &Events, operation: &Operation) -> String {
    let condition = |_| Condition::from(Health::Up);
    let outcome = operate(inventory, plane, condition, events, operation).expect("it is possible");
    [vec![outcome.message], outcome.warnings].concat().join("\n")
}

fn shown(inventory: &Inventory, plane: &FakeDataPlane) -> status::Status {
    let now = Sample::take(inventory, plane, Clock { unix_ms: 0, boot_ms: 1_000_000 });
    status::build(inventory, plane, None, &now, None)
}

#[test]
fn one_name_is_drained_and_enabled_with_both_addresses() {
    let (inventory, events) = (inventory(), Events::new());
    let mut plane = FakeDataPlane::fresh(&inventory);
    let drain = Operation::Drain { backend: "a1".to_owned(), reason: None };
    insta::assert_snapshot!(done(&inventory, &mut plane, &events, &drain), @r"
    a/a1 is drained: it gets no new flows, and keeps its established ones
    its pool has too few backends left that take new flows: service web goes to pool b
    ");
    assert_eq!([1, 2, 3, 4].map(|number| plane.state(number).has_all(State::DRAINED)), [true, true, false, false]);
    assert_eq!(events.kept().len(), 1);
    let kept = Kept::of(&inventory, &plane, &super::change::History::default());
    assert_eq!(kept.backends.iter().map(|word| &word.name[..]).collect::<Vec<_>>(), ["a/a1"]);

    // One address of the backend, named by the pool's part.
    let enable = Operation::Enable { backend: "a@ipv6/a1".to_owned(), reason: None };
    insta::assert_snapshot!(done(&inventory, &mut plane, &events, &enable), @"a@ipv6/a1 is enabled, and up");
    assert_eq!([1, 2].map(|number| plane.state(number).has_all(State::DRAINED)), [true, false]);
    let kept = Kept::of(&inventory, &plane, &super::change::History::default());
    assert_eq!(kept.backends.iter().map(|word| &word.name[..]).collect::<Vec<_>>(), ["a@ipv4/a1"]);
    // All addresses of the backend.
    let enable = Operation::Enable { backend: "a/a1".to_owned(), reason: None };
    insta::assert_snapshot!(done(&inventory, &mut plane, &events, &enable), @"a/a1 is enabled, and up");
    insta::assert_snapshot!(done(&inventory, &mut plane, &events, &enable), @"a/a1 is enabled already");
}

#[test]
fn one_failover_is_that_of_all_clients() {
    let (inventory, events) = (inventory(), Events::new());
    let mut plane = FakeDataPlane::fresh(&inventory);
    let to_b = |service: &str| Operation::Failover {
        service: service.to_owned(),
        to: "b".to_owned(),
        evacuate: false,
        terms: Terms::default(),
    };
    insta::assert_snapshot!(done(&inventory, &mut plane, &events, &to_b("web")), @"service web is failed over to pool b; the established flows of a stay there");
    let over = Failover { first: 1, evacuate: false };
    assert_eq!([1, 2].map(|number| plane.failover(number)), [over; 2]);
    assert_eq!(events.kept().iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::Failover]);
    let status = shown(&inventory, &plane);
    assert_eq!((status.services.len(), status.services[0].state), (1, ServiceState::Failover));
    insta::assert_snapshot!(status.services[0].reason, @"failed over to b by an operator");

    let back = Operation::Failback { service: "web".to_owned() };
    insta::assert_snapshot!(done(&inventory, &mut plane, &events, &back), @"the failover of service web is taken back: it goes to pool a");
    assert_eq!([1, 2].map(|number| plane.failover(number)), [Failover::default(); 2]);
    // Only for clients of IPv6, if their route to a is broken.
    insta::assert_snapshot!(done(&inventory, &mut plane, &events, &to_b("web@ipv6")), @"service web@ipv6 is failed over to pool b; the established flows of a stay there");
    assert_eq!([1, 2].map(|number| plane.failover(number)), [Failover::default(), over]);
}

#[test]
fn a_service_is_as_well_as_the_worse_of_its_parts() {
    let inventory = inventory();
    let mut plane = FakeDataPlane::fresh(&inventory);
    plane.set_state(2, plan::state(plan::Admin::Enabled, Health::Down), "").unwrap();
    let status = shown(&inventory, &plane);
    let [web] = &status.services[..] else { panic!("one service") };
    assert_eq!((&web.name[..], web.state, web.parts.len()), ("web", ServiceState::Fallback, 2));
    insta::assert_snapshot!(web.reason, @"web@ipv6: a@ipv6 has 0 of 1 available, needs 1");
    assert_eq!(web.parts.iter().map(|part| part.state).collect::<Vec<_>>(), [ServiceState::Ok, ServiceState::Fallback]);
    assert_eq!(web.vips, ["192.0.2.10", "2001:db8::10"]);
}
