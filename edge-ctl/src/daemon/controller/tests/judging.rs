//! Judgement of silence: the states that follow, and what must hold for random rows of evidence.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::{retired::with_retired, *};
use edge_common::abi::WhenExhausted;

const POOLS: [[BackendNumber; 3]; 2] = [[1, 2, 3], [4, 5, 6]];

pub(super) fn silence() -> Verdict {
    Verdict::Silent("no answer within 500ms".to_owned())
}

/// One probe result for each of these backends, a second after the last round.
fn round(controller: &mut Controller<FakeDataPlane>, verdicts: &[(BackendNumber, Verdict)]) {
    controller.now += Duration::from_secs(1);
    let report = |(backend, verdict): &(BackendNumber, Verdict)| report(Subject::Backend(*backend), verdict.clone());
    for verdict in verdicts {
        controller.now += Duration::from_millis(10);
        controller.report(&[report(verdict)]).unwrap();
    }
    controller.reconcile().unwrap();
}

/// Plays `rounds` rounds in which `backends` are silent and all others pass.
pub(super) fn silent(controller: &mut Controller<FakeDataPlane>, backends: &[BackendNumber], rounds: usize) {
    for _ in 0..rounds {
        let verdict = |number| if backends.contains(&number) { silence() } else { Verdict::Pass };
        round(controller, &(1..=6).map(|number| (number, verdict(number))).collect::<Vec<_>>());
    }
}

/// One letter per backend: `U` takes new flows, `k` keeps its established flows, `x` gets no packets.
pub(super) fn states(controller: &Controller<FakeDataPlane>) -> String {
    let letter = |state: State| match (state.has_all(State::NEW), state.has_all(State::ALIVE)) {
        (true, _) => 'U',
        (false, true) => 'k',
        (false, false) => 'x',
    };
    (1..=6).map(|number| letter(controller.plane.state(number))).collect()
}

pub(super) fn up() -> Controller<FakeDataPlane> {
    let mut controller = controller();
    silent(&mut controller, &[], 8);
    controller
}

/// A controller whose two services have the first pool alone.
pub(super) fn one_pool(policy: WhenExhausted) -> Controller<FakeDataPlane> {
    let mut inventory = inventory();
    for service in &mut inventory.config.services {
        service.pools = vec![0];
        service.when_exhausted = policy;
    }
    inventory.config.pools.truncate(1);
    inventory.backends.truncate(1);
    let plane = FakeDataPlane::fresh(&inventory);
    Controller::adopt(inventory, plane, Events::new()).unwrap()
}

#[test]
fn silence_is_judged_by_the_other_silent_backends() {
    // The silent backends, and the states that follow from their third silent probe on.
    for (silents, expected, what) in [
        (&[1][..], "xUUUUU", "one alone: its flows go"),
        (&[1, 2], "kkUUUU", "more than the cap: flows stay"),
        (&[1, 4], "xUUxUU", "one in each pool: each is alone in its own"),
        (&[1, 2, 4, 5], "UUUUUU", "most of both pools: this host"),
        (&[1, 2, 3], "xxxUUU", "a whole pool, while another answers: its provider"),
        (&[1, 2, 3, 4], "xxxxUU", "a whole pool, and one alone in the other"),
        (&[1, 2, 3, 4, 5, 6], "UUUUUU", "all: this host"),
    ] {
        let mut controller = up();
        silent(&mut controller, silents, 2);
        assert_eq!(states(&controller), "UUUUUU", "too early: {what}");
        silent(&mut controller, silents, 3);
        assert_eq!(states(&controller), expected, "{what}");
    }
}

#[test]
fn the_cause_may_become_clear_later() {
    let mut controller = up();
    silent(&mut controller, &[1, 2], 3);
    assert_eq!(states(&controller), "kkUUUU");
    silent(&mut controller, &[1], 3);
    assert_eq!(states(&controller), "kUUUUU", "the other one was silent a moment ago");
    silent(&mut controller, &[1], 4);
    assert_eq!(states(&controller), "xUUUUU");
    assert!(controller.plane.why(1).reason.contains("its flows move, too"), "{}", controller.plane.why(1).reason);
    silent(&mut controller, &[], 2);
    assert_eq!(states(&controller), "UUUUUU");
}

#[test]
fn a_backend_that_answers_again_and_is_held_back_keeps_its_flows() {
    let mut controller = up();
    for _ in 0..2 {
        fail(&mut controller, 1, 3);
        pass(&mut controller, 1, 2);
    }
    controller.now += Duration::from_secs(10);
    pass(&mut controller, 1, 1);
    silent(&mut controller, &[], 7);
    silent(&mut controller, &[1, 2], 3);
    silent(&mut controller, &[], 2);
    assert_eq!(states(&controller), "kUUUUU", "held back for its earlier deaths");
    silent(&mut controller, &[], 6);
    assert_eq!(states(&controller), "kUUUUU", "no backend is silent any more, so none is out");
    silent(&mut controller, &[], 20);
    assert_eq!(states(&controller), "UUUUUU");
}

#[test]
fn what_was_doubtful_is_no_death_that_damping_counts() {
    let mut controller = up();
    for _ in 0..5 {
        silent(&mut controller, &[1, 2], 3);
        assert_eq!(states(&controller), "kkUUUU");
        silent(&mut controller, &[], 2);
        assert_eq!(states(&controller), "UUUUUU");
    }
}

#[test]
fn noise_in_all_pools_is_no_evidence_against_one_backend() {
    let mut inventory = inventory();
    // Six pools like the second one: eighteen more backends, with every third probe lost.
    for copy in 0..6u16 {
        let mut pool = inventory.config.pools[1].clone();
        pool.name = format!("noisy-{copy}");
        inventory.config.pools.push(pool);
        inventory.pools.push(2 + copy);
        inventory.backends.push((0..3).map(|number| 7 + 3 * copy + number).collect());
    }
    for lossy in [true, false] {
        let plane = FakeDataPlane::fresh(&inventory);
        let mut controller = Controller::adopt(inventory.clone(), plane, Events::new()).unwrap();
        for turn in 0..12 {
            let lost = |number: u16| lossy && number > 6 && (number + turn).is_multiple_of(3);
            let verdict = |number| if turn > 3 && (number == 1 || lost(number)) { silence() } else { Verdict::Pass };
            round(&mut controller, &(1..=24).map(|number| (number, verdict(number))).collect::<Vec<_>>());
        }
        assert_eq!(&states(&controller)[..3], if lossy { "kUU" } else { "xUU" });
    }
}

#[test]
fn services_that_are_reached_in_another_way_are_no_reference() {
    // The backends of two more pools, which have a service of their own, answer all the time.
    let mut inventory = inventory();
    for (copy, name) in [(0, "other-a"), (1, "other-b")] {
        let mut pool = inventory.config.pools[copy].clone();
        pool.name = name.to_owned();
        inventory.config.pools.push(pool);
    }
    inventory.pools.extend([2, 3]);
    inventory.backends.extend([vec![7, 8, 9], vec![10, 11, 12]]);
    let mut service = inventory.config.services[0].clone();
    (service.name, service.pools) = ("other".to_owned(), vec![2, 3]);
    inventory.config.services.push(service);
    inventory.services.push(3);
    let plane = FakeDataPlane::fresh(&inventory);
    let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
    for turn in 0..20 {
        let verdict = |number| if turn > 7 && number <= 6 { silence() } else { Verdict::Pass };
        round(&mut controller, &(1..=12).map(|number| (number, verdict(number))).collect::<Vec<_>>());
    }
    assert!(!states(&controller).contains('x'), "{}", states(&controller));
    assert!(states(&controller).starts_with("UUU"), "and new flows are served: {}", states(&controller));
}

#[test]
fn hard_evidence_needs_no_company() {
    let mut controller = up();
    for backend in [1, 2] {
        fail(&mut controller, backend, 3);
    }
    assert_eq!(states(&controller), "xxUUUU");
    // Hard evidence also ends the doubt about silence.
    let mut controller = up();
    silent(&mut controller, &[1, 2], 3);
    fail(&mut controller, 1, 3);
    assert_eq!(states(&controller), "xkUUUU");
}

#[test]
fn a_freeze_gives_back_what_the_wave_took_and_ends_when_half_is_heard() {
    let mut controller = up();
    fail(&mut controller, 6, 3);
    silent(&mut controller, &[1, 2, 3, 4, 5, 6], 5);
    let before = "UUUUUx";
    assert_eq!(states(&controller), before, "who was down before stays down");
    assert!(controller.frozen().is_some());
    let kinds_so_far = kinds(&controller);
    assert_eq!(kinds_so_far.iter().filter(|kind| **kind == EventKind::Frozen).count(), 1);
    assert!(!kinds_so_far.contains(&EventKind::PoolLeft), "{kinds_so_far:?}");
    silent(&mut controller, &[1, 2, 3, 4, 5, 6], 100);
    assert_eq!(states(&controller), before);
    // One answering backend does not end the freeze.
    silent(&mut controller, &[2, 3, 4, 5, 6], 10);
    assert_eq!(states(&controller), before);
    assert!(controller.frozen().is_some());
    silent(&mut controller, &[3, 4, 5, 6], 2);
    assert!(controller.frozen().is_none());
    assert_eq!(states(&controller), before, "each is counted anew");
    silent(&mut controller, &[3, 4, 5, 6], 4);
    assert_eq!(kinds(&controller).iter().filter(|kind| **kind == EventKind::Thawed).count(), 1);
}

#[test]
fn what_was_taken_just_before_is_given_back() {
    // The pools are probed at different times: the first is silent for long enough before the second.
    let mut controller = up();
    for _ in 0..3 {
        round(&mut controller, &[(1, silence()), (2, silence()), (3, silence())]);
    }
    assert_eq!(states(&controller), "kkkUUU", "the other pool was not probed since");
    for _ in 0..2 {
        round(&mut controller, &[(4, silence()), (5, silence()), (6, silence())]);
    }
    assert_eq!(states(&controller), "UUUUUU");
    assert!(controller.plane.state(1).has_all(State::UP), "states are as they were");
}

#[test]
fn a_backend_that_is_probed_more_often_is_not_the_only_silent_one() {
    let mut controller = up();
    silent(&mut controller, &[], 3);
    for _ in 0..2 {
        round(&mut controller, &[(1, silence()), (2, silence()), (3, silence())]);
    }
    round(&mut controller, &[4, 5, 6, 1, 2, 3].map(|backend| (backend, silence())));
    assert!(controller.frozen().is_some());
    assert_eq!(states(&controller), "UUUUUU");
    assert!(!kinds(&controller).contains(&EventKind::PoolLeft));
}

#[test]
fn references_distinguish_a_pool_that_is_cut_off_from_a_host_that_is() {
    for (reference, frozen) in [(Some(silence()), true), (Some(Verdict::Pass), false), (None, false)] {
        let mut controller = one_pool(WhenExhausted::Open);
        silent(&mut controller, &[], 3);
        for _ in 0..4 {
            let reference = reference.clone().map(|verdict| report(Subject::Reference(0), verdict));
            controller.report(reference.as_slice()).unwrap();
            silent(&mut controller, &[1, 2, 3], 1);
        }
        assert_eq!(controller.frozen().is_some(), frozen);
        assert!(states(&controller).starts_with("UUU"), "in doubt all serve");
        assert_eq!(kinds(&controller).contains(&EventKind::Panic), !frozen);
    }
}

#[test]
fn a_single_pool_in_silence_keeps_its_flows_whatever_its_policy() {
    for policy in [WhenExhausted::Open, WhenExhausted::Reject, WhenExhausted::Drop] {
        let mut controller = one_pool(policy);
        silent(&mut controller, &[], 3);
        silent(&mut controller, &[1, 2, 3], 20);
        assert!(states(&controller).starts_with("UUU"), "{policy:?}");
        // One backend comes back: the others keep their established flows.
        silent(&mut controller, &[2, 3], 3);
        let kept = &states(&controller)[..3];
        assert!(!kept.contains('x'), "{policy:?}: {kept}");
    }
}

#[test]
fn a_restart_keeps_what_was_in_doubt() {
    let mut controller = up();
    silent(&mut controller, &[1, 2], 3);
    let Controller { inventory, plane, .. } = controller;
    let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
    controller.reconcile().unwrap();
    assert_eq!(states(&controller), "kkUUUU");
    assert_eq!(controller.repaired, 0);
    silent(&mut controller, &[], 2);
    assert_eq!(states(&controller), "UUUUUU");
}

/// Rows of one letter per backend: `p` pass, `s` silence, `f` fail, `i` inconclusive, `-` no probe.
fn rounds() -> impl Strategy<Value = Vec<Vec<char>>> {
    let letter = prop_oneof![4 => Just('p'), 4 => Just('s'), 1 => Just('i'), 1 => Just('-')];
    // Rows with the same result for all backends, as in real outages, and rows of noise.
    let row = prop_oneof![vec(letter.clone(), 6), letter.prop_map(|letter| vec![letter; 6])];
    vec((row, 1usize..6), 1..12).prop_map(|rows| rows.into_iter().flat_map(|(row, times)| vec![row; times]).collect())
}

fn play(controller: &mut Controller<FakeDataPlane>, row: &[char]) {
    let verdict = |letter: char| match letter {
        'p' => Some(Verdict::Pass),
        's' => Some(silence()),
        'f' => Some(Verdict::Fail("connection refused".to_owned())),
        'i' => Some(Verdict::Inconclusive("too many open files".to_owned())),
        _ => None,
    };
    let row: Vec<_> = (1..).zip(row).filter_map(|(number, letter)| Some((number, verdict(*letter)?))).collect();
    round(controller, &row);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn silence_takes_out_no_more_than_the_cap(rows in rounds()) {
        let mut controller = up();
        for row in rows {
            play(&mut controller, &row);
            let states = states(&controller);
            for (pool, backends) in POOLS.iter().enumerate() {
                let out = backends.iter().filter(|number| states.as_bytes()[usize::from(**number) - 1] == b'x').count();
                // More may be out only if the whole pool was silent while another pool answered. Backends that were down
                // before that have it as their reason, without an event.
                let is_provider = |text: &str| text.contains("its whole pool is silent");
                let reasons = backends.iter().any(|number| is_provider(&controller.plane.why(*number).reason));
                let provider = reasons || controller.events.kept().iter().any(|event| {
                    let mine = event.subject.starts_with(&controller.inventory.config.pools[pool].name);
                    mine && is_provider(&event.message)
                });
                prop_assert!(out <= 1 || provider, "{states}");
            }
        }
    }

    #[test]
    fn a_freeze_leaves_the_states_as_they_were_before_the_wave(rows in rounds(), rest in 1usize..30) {
        let mut controller = up();
        for row in rows {
            play(&mut controller, &row);
        }
        // After a calm time, the known states are the real ones.
        controller.now += Duration::from_mins(10);
        silent(&mut controller, &[], 12);
        let before = states(&controller);
        prop_assert_eq!(&before, "UUUUUU");
        silent(&mut controller, &[1, 2, 3, 4, 5, 6], 3 + rest);
        prop_assert!(controller.frozen().is_some());
        prop_assert_eq!(states(&controller), before);
    }

    #[test]
    fn nothing_is_repaired_and_somebody_always_serves(rows in rounds()) {
        let mut controller = up();
        for row in rows {
            play(&mut controller, &row);
            prop_assert!(states(&controller).contains('U'));
            prop_assert_eq!(controller.repaired, 0);
        }
    }

    #[test]
    fn a_change_of_health_is_reported_once(rows in rounds()) {
        let mut controller = up();
        let mut known: BTreeMap<_, _> = (1..=6).map(|number| (number, plan::health(controller.plane.state(number)))).collect();
        for row in rows {
            let before = controller.events.kept().len();
            play(&mut controller, &row);
            let changed: BTreeSet<_> = (1..=6)
                .filter(|number| {
                    let health = plan::health(controller.plane.state(*number));
                    known.insert(*number, health) != Some(health)
                })
                .filter_map(|number| controller.inventory.name(number))
                .collect();
            let events = controller.events.kept();
            let reported: BTreeSet<_> = events[before.min(events.len())..].iter().map(|event| event.subject.clone()).collect();
            prop_assert!(changed.is_subset(&reported), "{changed:?} {reported:?}");
        }
    }
}

#[test]
fn one_that_is_retired_in_doubt_goes_without_a_repair() {
    let Controller { inventory, mut plane, .. } = with_retired();
    plane.states.insert(3, State(State::ALIVE | State::ENABLED | State::DOWN | State::RETIRED));
    let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
    controller.reconcile().unwrap();
    assert_eq!(controller.plane.state(3), State(State::ENABLED | State::DOWN | State::RETIRED));
    assert_eq!((controller.repaired, kinds(&controller)), (0, Vec::new()));
}
