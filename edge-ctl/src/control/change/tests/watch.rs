//! The watch over a generation, which is good after a soak, or to blame.

use std::time::Duration;

use edge_common::abi::State;

use super::super::{Attached, Doubts, History, Trial, Watch};
use crate::{
    config::{self, Config},
    control::{
        fixture::{FakeDataPlane, inventory},
        inventory::Inventory,
    },
};

const UP: State = State(State::NEW | State::ALIVE | State::ENABLED | State::UP);
const DOWN: State = State(State::ENABLED | State::DOWN);
const SOAK: Duration = Duration::from_mins(5);

fn on_trial(inventory: &Inventory, unavailable: &[&str]) -> History {
    let unavailable = unavailable.iter().map(|name| (*name).to_owned()).collect();
    let trial = Trial {
        generation: inventory.generation,
        back_to: 1,
        until_ms: u64::MAX,
        unavailable,
        weights: config::Weights::default(),
    };
    History { trial: Some(trial), ..History::default() }
}

/// The configuration of the fixture, and the fixture with a changed text; numbers stay.
fn changed(from: &str, to: &str) -> (Config, Inventory) {
    let before = inventory();
    let text = before.config.text.replace(from, to);
    assert_ne!(text, before.config.text);
    let config = config::parse(&text, "edge.toml").unwrap();
    (before.config.clone(), Inventory { config, ..before })
}

/// What a generation is to blame for once these backends are down.
fn blamed(before: &Config, now: &Inventory, unavailable: &[&str], down: &[u16]) -> Option<String> {
    let mut plane = FakeDataPlane::fresh(now);
    let mut watch = Watch::start(None, now, &plane, Some(before), &on_trial(now, unavailable), &Doubts::default(), 0);
    for backend in 1..=6 {
        plane.states.insert(backend, if down.contains(&backend) { DOWN } else { UP });
    }
    watch.look(now, &plane, &Doubts::default(), 1000);
    assert_eq!(watch.blame(), None, "one look is no look");
    watch.look(now, &plane, &Doubts::default(), 2000);
    watch.blame()
}

#[test]
fn a_probe_that_all_backends_fail_is_to_blame() {
    let (before, now) = changed("path = \"/healthz\"", "path = \"/helthz\"");
    let why = blamed(&before, &now, &[], &[1, 2, 3]).unwrap();
    assert!(why.starts_with("service web is served by pool provider-b"), "{why}");
    assert_eq!(blamed(&before, &now, &[], &[]), None);
    // The same backends were down before the change.
    assert_eq!(blamed(&before, &now, &["provider-a/a1", "provider-a/a2", "provider-a/shared"], &[1, 2, 3]), None);
}

#[test]
fn backends_that_serve_for_want_of_better_ones_are_no_availability() {
    let (before, now) = changed("path = \"/healthz\"", "path = \"/helthz\"");
    let mut plane = FakeDataPlane::fresh(&now);
    let mut watch = Watch::start(None, &now, &plane, Some(&before), &on_trial(&now, &[]), &Doubts::default(), 0);
    let panic = State(State::NEW | State::ALIVE | State::ENABLED | State::DOWN);
    plane.states.extend((1..=3).map(|backend| (backend, panic)));
    watch.look(&now, &plane, &Doubts::default(), 1000);
    watch.look(&now, &plane, &Doubts::default(), 2000);
    assert!(watch.blame().unwrap().starts_with("service web is served by pool provider-b"));
}

#[test]
fn what_would_have_happened_anyway_is_not() {
    let (before, now) = changed("weight = 50", "weight = 60");
    assert_eq!(blamed(&before, &now, &[], &[1, 2, 3]), None);
    assert_eq!(blamed(&before, &now, &[], &[1, 2, 3, 4, 5, 6]), None);
}

#[test]
fn new_addresses_that_do_not_answer_are_to_blame() {
    let (before, now) = changed("10.2.0.", "10.9.0.");
    let why = blamed(&before, &now, &[], &[4, 5, 6]).unwrap();
    assert!(why.starts_with("service dns is served by no backend"), "{why}");
    assert_eq!(blamed(&before, &now, &[], &[4, 5]), None, "one is as many as it needs");
}

#[test]
fn a_generation_is_good_after_a_soak_without_a_loss() {
    let now = inventory();
    let mut plane = FakeDataPlane::fresh(&now);
    plane.states.extend((1..=6).map(|backend| (backend, UP)));
    let before = Watch::start(None, &now, &plane, None, &History::default(), &Doubts::default(), 0);
    let mut watch = Watch::start(Some(before), &now, &plane, None, &History::default(), &Doubts::default(), 1000);
    let mut look = |plane: &FakeDataPlane, second: u64| {
        watch.look(&now, plane, &Doubts::default(), second * 1000);
        watch.is_good(SOAK, second * 1000)
    };
    assert!(!look(&plane, 300));
    // The loss of a backend that its pool can do without does not count; the next one does.
    plane.states.insert(1, DOWN);
    assert!(look(&plane, 301));
    plane.states.extend((2..=6).map(|backend| (backend, DOWN)));
    assert!(!look(&plane, 302));
    assert!(!look(&plane, 1000), "what is worse than before is not good");
    plane.states.extend((1..=6).map(|backend| (backend, UP)));
    assert!(!look(&plane, 1299));
    assert!(look(&plane, 1300));
}

#[test]
fn a_service_that_was_not_served_before_keeps_nothing_from_being_good() {
    let now = inventory();
    let mut plane = FakeDataPlane::fresh(&now);
    plane.states.extend((1..=6).map(|backend| (backend, DOWN)));
    let before = Watch::start(None, &now, &plane, None, &History::default(), &Doubts::default(), 0);
    let mut watch = Watch::start(Some(before), &now, &plane, None, &History::default(), &Doubts::default(), 1000);
    watch.look(&now, &plane, &Doubts::default(), 2000);
    assert!(watch.is_good(SOAK, 301_000));
}

/// A watch over the fixture on trial, in which these were the doubts just before; all backends are up.
fn on_trial_after(doubts: &Doubts) -> (Inventory, FakeDataPlane, Watch) {
    let (before, now) = changed("weight = 50", "weight = 60");
    let mut plane = FakeDataPlane::fresh(&now);
    plane.states.extend((1..=6).map(|backend| (backend, UP)));
    // Not even one look: a change may come in the daemon's first second.
    let last = Watch::start(None, &now, &plane, None, &History::default(), &Doubts::default(), 0);
    let watch = Watch::start(Some(last), &now, &plane, Some(&before), &on_trial(&now, &[]), doubts, 1000);
    (now, plane, watch)
}

fn frozen() -> Doubts {
    Doubts { frozen: Some("2 pools fell silent at once".to_owned()), ..Doubts::default() }
}

fn detached() -> Doubts {
    Doubts { attached: Attached::Lacking("the program is not attached to eth0".to_owned()), ..Doubts::default() }
}

fn pending() -> Doubts {
    Doubts { attached: Attached::Pending, ..Doubts::default() }
}

#[test]
fn no_generation_is_good_while_health_is_frozen_or_the_program_is_not_attached() {
    let now = inventory();
    let mut plane = FakeDataPlane::fresh(&now);
    plane.states.extend((1..=6).map(|backend| (backend, UP)));
    for doubts in [frozen(), detached(), pending()] {
        let mut watch = Watch::start(None, &now, &plane, None, &History::default(), &Doubts::default(), 0);
        for second in 1..1000 {
            watch.look(&now, &plane, &doubts, second * 1000);
            assert!(!watch.is_good(SOAK, second * 1000), "{doubts:?}");
        }
        let mut look = |second: u64| {
            watch.look(&now, &plane, &Doubts::default(), second * 1000);
            watch.is_good(SOAK, second * 1000)
        };
        assert!(!look(1298), "the soak begins anew: {doubts:?}");
        assert!(look(1299), "{doubts:?}");
    }
}

#[test]
fn no_generation_is_good_while_nothing_is_known_of_a_service() {
    let mut now = inventory();
    let unknown = FakeDataPlane::fresh(&now);
    let is_good = |now: &Inventory, plane: &FakeDataPlane| {
        let mut watch = Watch::start(None, now, plane, None, &History::default(), &Doubts::default(), 0);
        watch.look(now, plane, &Doubts::default(), 300_000);
        watch.is_good(SOAK, 300_000)
    };
    assert!(!is_good(&now, &unknown));
    let mut plane = FakeDataPlane::fresh(&now);
    plane.states.insert(1, UP);
    assert!(!is_good(&now, &plane), "one service has a state, and the other has none yet");
    plane.states.insert(4, DOWN);
    assert!(is_good(&now, &plane), "each service has a state");
    // What operators have taken out is their decision.
    plane.states.extend((4..=6).map(|backend| (backend, State(State::DISABLED))));
    assert!(is_good(&now, &plane));
    // Without probes all are unknown for ever.
    now.config.pools.iter_mut().for_each(|pool| pool.probe = None);
    assert!(is_good(&now, &unknown));
}

#[test]
fn a_freeze_or_a_lost_attachment_that_began_on_trial_is_blamed() {
    for (doubts, blame) in [
        (frozen(), "health is frozen, and was not before: 2 pools fell silent at once"),
        (detached(), "the program is not attached to eth0"),
    ] {
        let (now, plane, mut watch) = on_trial_after(&Doubts::default());
        watch.look(&now, &plane, &doubts, 2000);
        assert_eq!(watch.blame(), None, "one look is no look");
        watch.look(&now, &plane, &doubts, 3000);
        assert_eq!(watch.blame().as_deref(), Some(blame));
        // What was there before is not, until it was over once.
        let (now, plane, mut watch) = on_trial_after(&doubts);
        for second in 2..10 {
            watch.look(&now, &plane, &doubts, second * 1000);
            assert_eq!(watch.blame(), None);
        }
        watch.look(&now, &plane, &Doubts::default(), 10_000);
        for second in [11, 12] {
            watch.look(&now, &plane, &doubts, second * 1000);
        }
        assert_eq!(watch.blame().as_deref(), Some(blame));
        // Nothing is known of the time before a restart.
        let (before, now) = changed("weight = 50", "weight = 60");
        let mut watch = Watch::start(None, &now, &plane, Some(&before), &on_trial(&now, &[]), &Doubts::default(), 0);
        for second in 1..4 {
            watch.look(&now, &plane, &doubts, second * 1000);
        }
        assert_eq!(watch.blame(), None);
    }
    // A program that is still being loaded is no lost attachment.
    let (now, plane, mut watch) = on_trial_after(&Doubts::default());
    for second in 2..10 {
        watch.look(&now, &plane, &pending(), second * 1000);
    }
    assert_eq!(watch.blame(), None);
}
