//! Judgement of reports that backends are unreachable: of some of them, or of all at once by the edge's own next router.

use super::{
    deafness::{apart, reference, rounds, states, two_and_one},
    judging::{silence, up},
    *,
};

fn unreachable() -> Verdict {
    Verdict::Unreachable("host unreachable".to_owned())
}

/// Plays rounds in which these backends are unreachable and all others pass.
fn rounds_without(controller: &mut Controller<FakeDataPlane>, backends: &[BackendNumber], times: usize) {
    rounds(controller, times, |number| Some(if backends.contains(&number) { unreachable() } else { Verdict::Pass }));
}

#[test]
fn the_unreachable_are_out_unless_all_are() {
    for (lost, expected, frozen, what) in [
        (&[1][..], "xUUUUU", false, "one alone"),
        (&[1, 2], "xxUUUU", false, "more than the cap: others of the pool answer"),
        (&[1, 4], "xUUxUU", false, "one in each pool"),
        (&[1, 2, 3], "xxxUUU", false, "a whole pool, while another answers"),
        (&[1, 2, 3, 4, 5, 6], "UUUUUU", true, "all at once: the router next to this host"),
    ] {
        let mut controller = up();
        rounds_without(&mut controller, lost, 2);
        assert_eq!(states(&controller), "UUUUUU", "too early: {what}");
        for times in [1, 3, 100] {
            rounds_without(&mut controller, lost, times);
            assert_eq!((states(&controller).as_str(), controller.frozen().is_some()), (expected, frozen), "{what}");
        }
        rounds_without(&mut controller, &[], 12);
        assert_eq!((states(&controller).as_str(), controller.frozen()), ("UUUUUU", None), "{what}");
    }
}

#[test]
fn the_reason_is_that_it_is_unreachable() {
    let mut controller = up();
    rounds_without(&mut controller, &[1, 2], 3);
    let probed = "3 probes in a row failed: host unreachable";
    let moved = format!("{probed}; its flows move, too: it is unreachable, and others of its pool are not");
    let reasons = [1, 2].map(|backend| controller.plane.why(backend).reason);
    assert!(reasons.iter().all(|reason| reason.starts_with(probed)), "{reasons:?}");
    assert!(reasons.contains(&moved), "{reasons:?}");
}

#[test]
fn a_router_that_reports_only_now_and_then_is_a_wave_as_well() {
    // Routers limit the rate of their reports: each probe gets one or nothing.
    let mut controller = up();
    for turn in 0..6u16 {
        let verdict = |backend: u16| if (backend + turn).is_multiple_of(2) { silence() } else { unreachable() };
        rounds(&mut controller, 1, |backend| Some(verdict(backend)));
    }
    assert_eq!((states(&controller).as_str(), controller.frozen().is_some()), ("UUUUUU", true));
}

#[test]
fn a_pool_that_is_unreachable_before_the_others_were_probed_keeps_its_flows() {
    let mut controller = up();
    rounds(&mut controller, 4, |backend| (backend < 4).then(unreachable));
    assert_eq!(states(&controller), "kkkUUU");
    rounds(&mut controller, 2, |backend| (backend > 3).then(unreachable));
    assert_eq!((states(&controller).as_str(), controller.frozen().is_some()), ("UUUUUU", true));
}

#[test]
fn a_freeze_gives_back_what_reports_of_the_same_wave_took() {
    let mut controller = up();
    // One is probed sooner than all others.
    rounds(&mut controller, 3, |backend| (backend == 1).then(unreachable));
    assert_eq!(states(&controller), "xUUUUU");
    rounds_without(&mut controller, &[1, 2, 3, 4, 5, 6], 3);
    assert_eq!((states(&controller).as_str(), controller.frozen().is_some()), ("UUUUUU", true));
    assert!(controller.plane.state(1).has_all(State::UP), "states are as they were");
    // One that was out for long before the wave stays out.
    let mut controller = up();
    rounds_without(&mut controller, &[1], 20);
    rounds_without(&mut controller, &[1, 2, 3, 4, 5, 6], 6);
    assert_eq!((states(&controller).as_str(), controller.frozen().is_some()), ("xUUUUU", true));
}

#[test]
fn an_unreachable_backend_neither_explains_silence_nor_counts_as_heard() {
    // Both pools of provider A, and then provider B as well: its reports are no answers.
    let mut controller = two_and_one();
    rounds_without(&mut controller, &[1, 2, 3, 4, 5, 6], 20);
    assert_eq!((states(&controller).as_str(), controller.frozen().is_some()), ("UUUUUU", true));
    let mut controller = two_and_one();
    rounds_without(&mut controller, &[1, 2, 3, 4], 20);
    assert_eq!((states(&controller).as_str(), controller.frozen()), ("xxxxUU", None));
    // A reference target that is unreachable does not answer.
    let mut controller = apart();
    for _ in 0..5 {
        rounds_without(&mut controller, &[1, 2], 1);
        reference(&mut controller, unreachable());
        controller.reconsider().unwrap();
    }
    assert!(controller.frozen().is_some());
}

#[test]
fn wrong_answers_harden_what_was_unreachable() {
    let mut controller = up();
    rounds_without(&mut controller, &[1], 3);
    rounds(&mut controller, 3, |backend| {
        Some(if backend == 1 { Verdict::Fail("connection refused".to_owned()) } else { Verdict::Pass })
    });
    assert_eq!(states(&controller), "xUUUUU");
    assert!(controller.judgement.probed[&1].machine().is_down_hard());
}

#[test]
fn a_forced_backend_without_a_probe_is_as_forced_after_a_restart() {
    let text = inventory().config.text.replace("probe = { type = \"tcp\", port = 80, rise = 2, fall = 3 }\n", "");
    let unprobed = || Inventory { config: config::parse(&text, "edge.toml").unwrap(), ..inventory() };
    let plane = FakeDataPlane::fresh(&unprobed());
    let mut controller = Controller::adopt(unprobed(), plane, Events::new()).unwrap();
    controller.reach(vec![(4, Some("its link is down".to_owned()))]).unwrap();
    let forced =
        Operation::Health { backend: "b1".to_owned(), health: Some(Health::Up), reason: Some("it is up".to_owned()) };
    controller.operate(&forced).unwrap();
    assert!(controller.plane.state(4).has_all(State::DOWN), "nothing can be sent to it");
    // The link may be up again by then, and is reported only if it is not.
    let controller = Controller::adopt(unprobed(), controller.plane, Events::new()).unwrap();
    assert!(controller.plane.state(4).has_all(State::NEW | State::UP | State::FORCED_UP));
    assert!(controller.plane.why(4).reason.contains("it is up"), "{:?}", controller.plane.why(4));
}
