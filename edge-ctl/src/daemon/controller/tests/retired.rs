//! Backends that were removed from the configuration, and still have flows.

use super::*;

/// A controller after the removal of `shared` from provider-a.
pub(super) fn with_retired() -> Controller<FakeDataPlane> {
    let mut inventory = inventory();
    inventory.config.pools[0].backends.pop();
    inventory.backends[0].pop();
    let address = "10.1.0.13".parse().unwrap();
    let (pool, name) = ("provider-a".to_owned(), "shared".to_owned());
    inventory.retired.push(RetiredRecord { pool, name, number: 3, address, port: None, server: None });
    let mut plane = FakeDataPlane::fresh(&inventory);
    plane.states.insert(3, State(State::ALIVE | State::ENABLED | State::RETIRED));
    Controller::adopt(inventory, plane, Events::new()).unwrap()
}

#[test]
fn a_retired_backend_is_probed_as_before_and_takes_no_new_flows_again() {
    let mut controller = with_retired();
    fail(&mut controller, 3, 3);
    assert_eq!(controller.plane.state(3), State(State::ENABLED | State::DOWN | State::RETIRED));
    pass(&mut controller, 3, 2);
    assert_eq!(controller.plane.state(3), State(State::ALIVE | State::ENABLED | State::UP | State::RETIRED));
    let reported: Vec<_> = controller.events.kept().into_iter().map(|event| (event.kind, event.subject)).collect();
    let name = || "provider-a/shared".to_owned();
    assert_eq!(reported, [(EventKind::BackendDown, name()), (EventKind::BackendUp, name())]);
}

#[test]
fn an_operators_word_reaches_a_retired_backend() {
    let mut controller = with_retired();
    let backend = || "provider-a/shared".to_owned();
    let outcome = controller.operate(&Operation::Disable { backend: backend(), reason: None }).unwrap();
    assert!(outcome.changed);
    assert_eq!(controller.plane.state(3), State(State::DISABLED | State::RETIRED));
    let enable = Operation::Enable { backend: "provider-a/shared@10.1.0.13".to_owned(), reason: None };
    let outcome = controller.operate(&enable).unwrap();
    assert_eq!(outcome.message, "provider-a/shared is enabled; it is retired: it keeps its flows and gets no new ones");
    assert_eq!(controller.plane.state(3), State(State::ALIVE | State::ENABLED | State::RETIRED));
    // The bare name means the backend in the configuration.
    controller.operate(&Operation::Drain { backend: "shared".to_owned(), reason: None }).unwrap();
    assert!(controller.plane.state(6).has_all(State::DRAINED));
}

#[test]
fn transitions_are_reported_when_they_start_and_when_they_finish() {
    let mut controller = with_retired();
    let why = "provider-a/a1: connection refused".to_owned();
    let transition = Transition { why, differing: Some(300), ..Transition::default() };
    controller.plane.transitions.insert(1, transition);
    let finished = |service, started| Finished { service, since_ms: 0, moved: 300, started };
    controller.plane.steps.extend([
        Progress::GoOn,
        Progress::Done { started: vec![1], finished: vec![finished(2, false)] },
        Progress::Done { started: Vec::new(), finished: vec![finished(1, true)] },
    ]);
    controller.begin_pass().unwrap();
    assert_eq!(controller.plane.passes[0].iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
    while controller.go_on(Duration::ZERO).unwrap() != Progress::Idle {}
    let reported: Vec<_> =
        controller.events.kept().into_iter().map(|event| (event.kind, event.subject, event.message)).collect();
    let web = || "web".to_owned();
    assert_eq!(
        reported,
        [
            (EventKind::TransitionStarted, web(), "provider-a/a1: connection refused".to_owned()),
            (EventKind::TransitionFinished, web(), "300 slots were handed over, and no flow needs a record".to_owned()),
        ]
    );
}

#[test]
fn a_retired_backend_is_forgotten_once_nothing_names_it() {
    let mut controller = with_retired();
    let done = || Progress::Done { started: Vec::new(), finished: Vec::new() };
    for (held, left) in [(None, 1), (Some(Held { slots: 0, records: 1 }), 1), (Some(Held::default()), 0)] {
        controller.plane.held.extend(held.map(|held| (3, held)));
        controller.plane.steps.push_back(done());
        controller.go_on(Duration::ZERO).unwrap();
        assert_eq!(controller.inventory.retired.len(), left);
    }
}
