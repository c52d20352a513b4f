//! Tests of the controller: reports and operations in, states and events out.

mod deafness;
mod judging;
mod large;
mod leaving;
mod panic_mode;
mod random;
mod retired;
mod returning;
mod unreachable;

use edge_common::abi::Failover;

use super::*;
use crate::probe::{Report, Subject};
use crate::{
    bpf::{Finished, Transition},
    config,
    control::{
        fixture::{FakeDataPlane, inventory, two_addresses},
        status::{self, Clock, Sample, ServiceState},
    },
    health::Verdict,
    plan::RetiredRecord,
};

fn controller() -> Controller<FakeDataPlane> {
    let inventory = inventory();
    let plane = FakeDataPlane::fresh(&inventory);
    Controller::adopt(inventory, plane, Events::new()).unwrap()
}

/// A probe's verdict, without anything else.
fn report(subject: Subject, verdict: Verdict) -> Report {
    Report { subject, verdict, certificate_end: None, took: None, answers_at_address: false }
}

/// A probe that was refused.
fn failed(backend: BackendNumber) -> Report {
    report(Subject::Backend(backend), Verdict::Fail("connection refused".to_owned()))
}

fn fail(controller: &mut Controller<FakeDataPlane>, backend: BackendNumber, times: u32) {
    for _ in 0..times {
        controller.report(&[failed(backend)]).unwrap();
    }
}

fn pass(controller: &mut Controller<FakeDataPlane>, backend: BackendNumber, times: u32) {
    for _ in 0..times {
        controller.report(&[report(Subject::Backend(backend), Verdict::Pass)]).unwrap();
    }
}

fn kinds(controller: &Controller<FakeDataPlane>) -> Vec<EventKind> {
    controller.events.kept().iter().map(|event| event.kind).collect()
}

#[test]
fn a_backend_goes_down_after_fall_failures_with_a_reason() {
    let mut controller = controller();
    fail(&mut controller, 1, 2);
    assert!(controller.plane.state(1).has_all(State::NEW));
    fail(&mut controller, 1, 1);
    assert_eq!(controller.plane.state(1), State(State::ENABLED | State::DOWN));
    assert!(controller.plane.why(1).reason.contains("connection refused"));
    assert_eq!(kinds(&controller), [EventKind::BackendDown]);
}

#[test]
fn what_both_parts_of_a_service_do_for_one_cause_is_one_event_of_the_service() {
    let inventory = two_addresses();
    let plane = FakeDataPlane::fresh(&inventory);
    let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
    let cut = |backend| (backend, Some("no route to host".to_owned()));
    controller.reach(vec![cut(1), cut(2)]).unwrap();
    let left: Vec<_> = controller.events.kept().into_iter().filter(|event| event.kind == EventKind::PoolLeft).collect();
    let [left] = &left[..] else { panic!("{left:?}") };
    assert_eq!((&left.subject[..], &left.message[..]), ("web", "service web goes to pool b"));
    // If only one part moves, the event is of that part.
    controller.reach(vec![(2, None)]).unwrap();
    let returned = controller.events.kept().into_iter().next_back().expect("it is reported");
    assert_eq!((&returned.subject[..], &returned.message[..]), ("web@ipv6", "service web@ipv6 goes to pool a"));
}

#[test]
fn what_several_services_do_for_one_cause_is_one_event() {
    let mut inventory = inventory();
    let services = &mut inventory.config.services;
    services[1].pools = services[0].pools.clone();
    let names: Vec<_> = services.iter().map(|service| service.name.clone()).collect();
    let plane = FakeDataPlane::fresh(&inventory);
    let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
    fail(&mut controller, 1, 3);
    fail(&mut controller, 2, 3);
    pass(&mut controller, 1, 2);
    let moves: Vec<_> = controller.events.kept().into_iter().filter(|event| !event.services.is_empty()).collect();
    let [left, returned] = &moves[..] else { panic!("{moves:?}") };
    assert_eq!((left.kind, returned.kind), (EventKind::PoolLeft, EventKind::PoolReturned));
    assert!(left.services == names && returned.services == names, "{moves:?}");
    assert_eq!((left.subject.as_str(), returned.subject.as_str()), ("provider-a", "provider-a"));
    assert_eq!(left.message, "1 of 3 available: 2 services leave it, each goes to pool provider-b: web, dns");
}

#[test]
fn a_pool_below_min_healthy_is_left_and_returned_to() {
    let mut controller = controller();
    fail(&mut controller, 1, 3);
    fail(&mut controller, 2, 3);
    assert_eq!(kinds(&controller), [EventKind::BackendDown, EventKind::BackendDown, EventKind::PoolLeft]);
    assert_eq!(controller.events.kept()[2].message, "service web goes to pool provider-b");
    pass(&mut controller, 1, 2);
    assert_eq!(kinds(&controller)[3..], [EventKind::BackendUp, EventKind::PoolReturned]);
}

#[test]
fn what_was_down_before_a_restart_stays_down_until_its_probes_pass() {
    let inventory = inventory();
    let mut plane = FakeDataPlane::fresh(&inventory);
    plane.states.insert(1, State(State::ENABLED | State::DOWN));
    let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
    pass(&mut controller, 1, 1);
    assert!(controller.plane.state(1).has_all(State::DOWN));
    pass(&mut controller, 1, 1);
    assert!(controller.plane.state(1).has_all(State::UP | State::NEW | State::ALIVE));
}

fn unreachable(controller: &mut Controller<FakeDataPlane>, backends: &[BackendNumber]) {
    let why = |backend: &BackendNumber| (*backend, Some("its egress is down".to_owned()));
    controller.reach(backends.iter().map(why).collect()).unwrap();
}

#[test]
fn a_pool_that_nothing_can_be_sent_to_is_left_at_once_and_returned_to() {
    let mut controller = controller();
    pass(&mut controller, 1, 1);
    unreachable(&mut controller, &[1, 2, 3]);
    for backend in [1, 2, 3] {
        assert!(controller.plane.state(backend).has_all(State::DOWN));
    }
    assert_eq!(controller.plane.why(1).reason, "unreachable from this host: its egress is down");
    assert!(kinds(&controller).contains(&EventKind::PoolLeft));
    // Meanwhile, the result of a probe changes nothing, and neither does a look at the maps.
    pass(&mut controller, 1, 3);
    controller.reconcile().unwrap();
    assert!(controller.plane.state(1).has_all(State::DOWN));
    assert_eq!(controller.repaired, 0);
    controller.replace(inventory()).unwrap();
    controller.reconcile().unwrap();
    assert!(controller.plane.state(1).has_all(State::DOWN), "nor a reload");
    controller.reach(vec![(1, None), (2, None), (3, None)]).unwrap();
    assert!(controller.plane.state(1).has_all(State::UP | State::NEW));
    assert!(controller.plane.state(2).has_all(State::NEW), "unknown serves");
    assert!(kinds(&controller).contains(&EventKind::PoolReturned));
}

#[test]
fn a_probe_that_begins_at_an_unreachable_backend_leaves_it_unknown() {
    let mut without = inventory();
    without.config.pools[1].probe = None;
    let plane = FakeDataPlane::fresh(&without);
    let mut controller = Controller::adopt(without, plane, Events::new()).unwrap();
    unreachable(&mut controller, &[6]);
    assert!(controller.plane.state(6).has_all(State::DOWN));
    controller.replace(inventory()).unwrap();
    assert!(controller.plane.state(6).has_all(State::DOWN), "it is still unreachable");
    controller.reach(vec![(6, None)]).unwrap();
    assert_eq!(controller.plane.state(6), State(State::NEW | State::ALIVE | State::ENABLED), "unknown serves");
}

#[test]
fn a_service_that_no_pool_serves_may_lose_pools_of_its_list() {
    let mut controller = controller();
    let failover = Operation::Failover {
        service: "web".to_owned(),
        to: "provider-b".to_owned(),
        evacuate: false,
        terms: operations::Terms::default(),
    };
    controller.operate(&failover).unwrap();
    for backend in 1..=6 {
        fail(&mut controller, backend, 3);
    }
    assert_eq!(controller.serving[0], Serving::Open(1));
    let mut shorter = inventory();
    shorter.config.services[0].pools = vec![0];
    controller.plane.failovers.clear();
    let events = controller.events.kept().len();
    controller.replace(shorter).unwrap();
    assert_eq!(controller.serving[0], Serving::Open(0));
    let news: Vec<_> = controller.events.kept().into_iter().skip(events).map(|event| event.kind).collect();
    assert_eq!(news, [EventKind::PoolReturned]);
    // A new order of the pools alone is no event.
    let events = controller.events.kept().len();
    let mut turned = inventory();
    turned.config.services[0].pools = vec![1, 0];
    controller.plane.failovers.insert(1, Failover { first: 1, evacuate: false });
    controller.replace(turned).unwrap();
    assert_eq!(controller.serving[0], Serving::Open(1));
    assert_eq!(controller.events.kept().len(), events);
}

#[test]
fn a_host_that_is_cut_off_reports_it_and_leaves_everything_as_it_was() {
    let mut controller = controller();
    let before: Vec<_> = (1..=6).map(|backend| controller.plane.state(backend)).collect();
    unreachable(&mut controller, &[1, 2, 3, 4, 5, 6]);
    controller.reconcile().unwrap();
    assert_eq!((1..=6).map(|backend| controller.plane.state(backend)).collect::<Vec<_>>(), before);
    assert_eq!(kinds(&controller)[0], EventKind::Frozen);
    assert!(kinds(&controller)[1..].iter().all(|kind| *kind == EventKind::Unreachable), "{:?}", kinds(&controller));
    // `status` reports it as well, for the backends and for the service that has no others.
    let shown = |controller: &Controller<FakeDataPlane>| {
        let now = Sample::take(&controller.inventory, &controller.plane, Clock::now());
        let mut status = status::build(&controller.inventory, &controller.plane, None, &now, None);
        controller.explain(&mut status);
        (status.services[0].state, status.services[0].reason.clone(), status.pools[0].backends[0].reason.clone())
    };
    let (state, service, backend) = shown(&controller);
    assert_eq!(state, ServiceState::Unreachable);
    assert_eq!(service, "provider-a serves, and none of its backends is reachable: its egress is down");
    assert_eq!(backend, "unreachable from this host: its egress is down; no service has another one");
    // One pool is reachable again, the other is not.
    controller.reach(vec![(4, None), (5, None), (6, None)]).unwrap();
    assert!(controller.plane.state(1).has_all(State::DOWN));
    assert!(controller.plane.state(4).has_all(State::NEW));
    assert_eq!(shown(&controller).0, ServiceState::Fallback);
}

#[test]
fn a_drain_outlives_probes_and_restarts() {
    let mut controller = controller();
    let drain = Operation::Drain { backend: "provider-a/a1".to_owned(), reason: Some("disk swap".to_owned()) };
    assert!(controller.operate(&drain).unwrap().changed);
    assert!(!controller.operate(&drain).unwrap().changed);
    pass(&mut controller, 1, 3);
    assert_eq!(controller.plane.state(1), State(State::ALIVE | State::ENABLED | State::DRAINED | State::UP));
    let Controller { inventory, plane, .. } = controller;
    let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
    fail(&mut controller, 1, 3);
    assert_eq!(controller.plane.state(1), State(State::ENABLED | State::DRAINED | State::DOWN));
    let enable = Operation::Enable { backend: "a1".to_owned(), reason: None };
    let outcome = controller.operate(&enable).unwrap();
    assert_eq!(outcome.message, "provider-a/a1 is enabled, but down: it serves once its probes pass");
}

#[test]
fn a_disabled_backend_comes_back_with_the_health_it_has_by_then() {
    let mut controller = controller();
    controller.operate(&Operation::Disable { backend: "a1".to_owned(), reason: None }).unwrap();
    assert_eq!(controller.plane.state(1), State(State::DISABLED));
    fail(&mut controller, 1, 3);
    assert_eq!(controller.plane.state(1), State(State::DISABLED));
    controller.operate(&Operation::Enable { backend: "a1".to_owned(), reason: None }).unwrap();
    assert_eq!(controller.plane.state(1), State(State::ENABLED | State::DOWN));
}

#[test]
fn draining_the_last_backend_is_done_with_a_warning() {
    let mut controller = controller();
    fail(&mut controller, 2, 3);
    let outcome = controller.operate(&Operation::Drain { backend: "a1".to_owned(), reason: None }).unwrap();
    assert_eq!(
        outcome.warnings,
        ["its pool has too few backends left that take new flows: service web goes to pool provider-b"]
    );
}

#[test]
fn failing_over_to_an_empty_pool_is_done_with_a_warning() {
    let mut controller = controller();
    for backend in [4, 5, 6] {
        fail(&mut controller, backend, 3);
    }
    let failover = Operation::Failover {
        service: "web".to_owned(),
        to: "provider-b".to_owned(),
        evacuate: false,
        terms: operations::Terms::default(),
    };
    let outcome = controller.operate(&failover).unwrap();
    assert!(outcome.changed);
    assert!(outcome.warnings[0].starts_with("pool provider-b has too few backends"), "{:?}", outcome.warnings);
    assert_eq!(controller.plane.failover(1), Failover { first: 1, evacuate: false });
}

#[test]
fn a_pool_whose_probe_was_taken_away_is_unknown_again() {
    let mut controller = controller();
    fail(&mut controller, 4, 3);
    let mut inventory = inventory();
    inventory.config.pools[1].probe = None;
    controller.replace(inventory).unwrap();
    assert_eq!(controller.plane.state(4), State(State::NEW | State::ALIVE | State::ENABLED));
}

#[test]
fn flows_are_waited_for_as_their_service_is_configured() {
    let mut inventory = inventory();
    let seconds = Duration::from_secs;
    assert_eq!(inventory.pass_interval(), seconds(1));
    inventory.config.services[0].ports[0].flow_idle_timeout = seconds(2);
    let waits = |inventory: &Inventory| inventory.waits().into_iter().map(|(_, waits)| waits).collect::<Vec<_>>();
    let found = waits(&inventory);
    assert_eq!((found[0].flow_idle_timeout, found[0].expiry), (seconds(2), seconds(31)));
    assert_eq!(found[1].flow_idle_timeout, Duration::ZERO, "nothing is recorded of it");
    assert_eq!(inventory.pass_interval(), Duration::from_millis(500));
    inventory.config.services[1].ports[0].tracking = edge_common::abi::Tracking::Learn;
    inventory.config.services[1].ports[0].learn = seconds(1);
    assert_eq!(waits(&inventory)[1].flow_idle_timeout, seconds(1));
    assert_eq!(inventory.pass_interval(), Duration::from_millis(250));
}

#[test]
fn what_another_program_has_written_is_repaired_and_what_an_operator_wants_is_kept() {
    let mut controller = controller();
    pass(&mut controller, 1, 1);
    fail(&mut controller, 2, 3);
    controller.reconcile().unwrap();
    assert_eq!((controller.repaired, kinds(&controller).len()), (0, 2), "nothing differs");

    // Without this daemon, a backend that is up was taken away, one that is down was put back, and a third was drained.
    controller.plane.states.insert(1, State(State::ENABLED | State::DOWN));
    controller.plane.states.insert(2, State(State::NEW | State::ALIVE | State::ENABLED | State::UP));
    controller.plane.states.insert(3, State(State::ALIVE | State::ENABLED | State::DRAINED));
    controller.plane.miscounted.push("provider-b".to_owned());
    controller.reconcile().unwrap();
    assert!(controller.plane.state(1).has_all(State::UP | State::NEW));
    assert_eq!(controller.plane.state(2), State(State::ENABLED | State::DOWN));
    assert_eq!(controller.plane.state(3), State(State::ALIVE | State::ENABLED | State::DRAINED));
    assert_eq!(controller.repaired, 3);
    let repaired: Vec<_> =
        controller.events.kept().into_iter().filter(|event| event.kind == EventKind::Repaired).collect();
    let subjects: Vec<_> = repaired.iter().map(|event| event.subject.as_str()).collect();
    assert_eq!(subjects, ["provider-a/a1", "provider-a/a2", "provider-b"]);
    assert_eq!(repaired[0].message, "it was down in the maps, and is up by its probes");
    controller.reconcile().unwrap();
    assert_eq!(controller.repaired, 3);
}

#[test]
fn a_death_costs_no_more_reads_the_more_services_there_are() {
    let reads = |services: usize| {
        let mut inventory = inventory();
        let web = inventory.config.services[0].clone();
        let service = |number| Service { name: format!("web-{number}"), ..web.clone() };
        inventory.config.services = (0..services).map(service).collect();
        inventory.services = (1..).take(services).collect();
        let plane = FakeDataPlane::fresh(&inventory);
        let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
        fail(&mut controller, 1, 2);
        controller.plane.reads.set(0);
        fail(&mut controller, 1, 1);
        assert!(controller.plane.state(1).has_all(State::DOWN));
        controller.plane.reads.get()
    };
    assert_eq!(reads(1000), reads(1));
}

#[test]
fn what_probes_find_does_not_take_the_place_of_an_operators_reason() {
    let mut controller = controller();
    let drain = Operation::Drain { backend: "provider-a/a1".to_owned(), reason: Some("disk swap".to_owned()) };
    controller.operate(&drain).unwrap();
    fail(&mut controller, 1, 3);
    assert_eq!(plan::health(controller.plane.state(1)), Health::Down);
    assert_eq!(controller.plane.why(1).reason, "drained by an operator: disk swap");
    let enable = Operation::Enable { backend: "provider-a/a1".to_owned(), reason: None };
    controller.operate(&enable).unwrap();
    pass(&mut controller, 1, 2);
    assert_eq!(controller.plane.why(1).reason, "2 probes in a row passed");
}
