//! Judgement of whether silence is this host's own: which pools are silent, which ones answer, and what thaws a freeze.

use std::fmt::Write as _;

use super::{judging::silence, *};

/// A controller of these pools (name and number of backends) and of services with these pools. Backends are numbered
/// from 1 in the order of their pools.
fn layout(pools: &[(&str, u16)], services: &[&[&str]]) -> Controller<FakeDataPlane> {
    let mut text = "hash_key = \"000102030405060708090a0b0c0d0e0f\"\nslots = 1024\ninterface = [{ name = \"eth0\" }]\n\
                    [defaults.pool]\nslow_start = \"0s\"\nfailback_after = \"0s\"\nfailback_over = \"0s\"\n\
                    [defaults.probe]\ntype = \"tcp\"\nport = 80\n"
        .to_owned();
    for (position, (name, backends)) in pools.iter().enumerate() {
        write!(text, "[[pool]]\nname = \"{name}\"\n").unwrap();
        for number in 1..=*backends {
            let address = format!("10.{position}.0.{number}");
            write!(text, "[[pool.backend]]\nname = \"{name}{number}\"\naddress = \"{address}\"\n").unwrap();
        }
    }
    for (number, pools) in services.iter().enumerate() {
        let port = 80 + number;
        let service =
            format!("name = \"s{number}\"\nvips = [\"192.0.2.10\"]\nports = [\"{port}/tcp\"]\nmode = \"dsr\"");
        write!(text, "[[service]]\n{service}\npools = {pools:?}\n").unwrap();
    }
    adopted(&text)
}

/// A controller of a configuration in which all backends are up.
fn adopted(text: &str) -> Controller<FakeDataPlane> {
    let config = config::parse(text, "edge.toml").unwrap();
    let mut numbers = 1..;
    let inventory = Inventory {
        generation: 1,
        services: (1..).take(config.services.len()).collect(),
        pools: (0..).take(config.pools.len()).collect(),
        backends: config.pools.iter().map(|pool| numbers.by_ref().take(pool.backends.len()).collect()).collect(),
        retired: Vec::new(),
        config,
    };
    let plane = FakeDataPlane::fresh(&inventory);
    let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
    rounds(&mut controller, 8, |_| Some(Verdict::Pass));
    controller
}

/// Plays rounds of a second each, in which the backends have these verdicts one after the other; `None` for no probe.
pub(super) fn rounds(
    controller: &mut Controller<FakeDataPlane>,
    times: usize,
    verdict: impl Fn(BackendNumber) -> Option<Verdict>,
) {
    let numbers: Vec<_> = controller.inventory.members().map(|member| member.number).collect();
    for _ in 0..times {
        let next = controller.now + Duration::from_secs(1);
        for backend in &numbers {
            let Some(verdict) = verdict(*backend) else { continue };
            controller.now += Duration::from_millis(10);
            controller.report(&[report(Subject::Backend(*backend), verdict)]).unwrap();
        }
        controller.now = next;
        controller.reconcile().unwrap();
    }
}

fn rounds_with_silent(controller: &mut Controller<FakeDataPlane>, silent: &[BackendNumber], times: usize) {
    rounds(controller, times, |backend| Some(if silent.contains(&backend) { silence() } else { Verdict::Pass }));
}

/// A verdict of the first reference target.
pub(super) fn reference(controller: &mut Controller<FakeDataPlane>, verdict: Verdict) {
    controller.report(&[report(Subject::Reference(0), verdict)]).unwrap();
}

/// One letter per backend, as in the tests of judgement: `U` takes new flows, `k` keeps its flows, `x` gets no packets.
pub(super) fn states(controller: &Controller<FakeDataPlane>) -> String {
    let letter = |state: State| match (state.has_all(State::NEW), state.has_all(State::ALIVE)) {
        (true, _) => 'U',
        (false, true) => 'k',
        (false, false) => 'x',
    };
    controller.inventory.members().map(|member| letter(controller.plane.state(member.number))).collect()
}

/// Provider A has two pools with two backends each, 1 to 4, and provider B has one, 5 and 6, that both services share.
pub(super) fn two_and_one() -> Controller<FakeDataPlane> {
    layout(&[("web-a", 2), ("api-a", 2), ("b", 2)], &[&["web-a", "b"], &["api-a", "b"]])
}

/// Both providers have two pools with one backend each: 1 and 2 of A, 3 and 4 of B.
fn two_and_two() -> Controller<FakeDataPlane> {
    layout(&[("web-a", 1), ("api-a", 1), ("web-b", 1), ("api-b", 1)], &[&["web-a", "web-b"], &["api-a", "api-b"]])
}

/// Three services with a pool each, so that no pool's silence is explained by another one's answers.
pub(super) fn apart() -> Controller<FakeDataPlane> {
    layout(&[("web", 1), ("api", 1), ("other", 1)], &[&["web"], &["api"], &["other"]])
}

#[test]
fn a_provider_with_most_of_the_pools_is_failed_over() {
    for (silent, expected, frozen, what) in [
        (&[1, 2, 3, 4][..], "xxxxUU", false, "2+1, both of A silent"),
        (&[5, 6], "UUUUxx", false, "2+1, that of B silent"),
        (&[1, 2, 3, 4, 5, 6], "UUUUUU", true, "2+1, all silent"),
    ] {
        let mut controller = two_and_one();
        rounds_with_silent(&mut controller, silent, 2);
        assert_eq!(states(&controller), "UUUUUU", "too early: {what}");
        rounds_with_silent(&mut controller, silent, 2);
        assert_eq!((states(&controller).as_str(), controller.frozen().is_some()), (expected, frozen), "{what}");
        rounds_with_silent(&mut controller, silent, 100);
        assert_eq!(
            (states(&controller).as_str(), controller.frozen().is_some()),
            (expected, frozen),
            "{what}, for long"
        );
    }
}

#[test]
fn a_provider_whose_backends_have_two_addresses_is_failed_over() {
    let text = "hash_key = \"000102030405060708090a0b0c0d0e0f\"\nslots = 1024\ninterface = [{ name = \"eth0\" }]\n\
                [defaults.probe]\ntype = \"tcp\"\nport = 80\n\
                [[pool]]\nname = \"a\"\nbackend = [{ name = \"a1\", address = [\"10.1.0.11\", \"2001:db8:a::11\"] }]\n\
                [[pool]]\nname = \"b\"\nbackend = [{ name = \"b1\", address = \"10.2.0.11\" }]\n\
                [nat]\nsource_v4 = [\"198.51.100.5\"]\nsource_v6 = [\"2001:db8::5\"]\n\
                [[service]]\nname = \"web\"\nvips = [\"192.0.2.10\", \"2001:db8::10\"]\nports = [\"80/tcp\"]\n\
                mode = \"nat\"\npools = [\"a\", \"b\"]\n";
    let mut controller = adopted(text);
    let pools: Vec<_> = controller.inventory.config.pools.iter().map(|pool| pool.name.clone()).collect();
    assert_eq!(pools, ["a@ipv4", "a@ipv6", "b"]);
    rounds_with_silent(&mut controller, &[1, 2], 4);
    assert_eq!((states(&controller).as_str(), controller.frozen()), ("xxU", None));
}

#[test]
fn a_pool_that_is_down_anyway_is_no_reason_to_blame_this_host() {
    for answers in [true, false] {
        let mut controller = two_and_two();
        let wrong = || Verdict::Fail("connection refused".to_owned());
        rounds(&mut controller, 4, |backend| Some(if backend == 4 { wrong() } else { Verdict::Pass }));
        let last = if answers { wrong() } else { silence() };
        rounds(&mut controller, 8, |backend| Some(if backend == 4 { last.clone() } else { Verdict::Pass }));
        assert_eq!(states(&controller), "UUUx");
        rounds(&mut controller, 4, |backend| match backend {
            1 | 2 => Some(silence()),
            4 => Some(last.clone()),
            _ => Some(Verdict::Pass),
        });
        assert!(controller.frozen().is_none());
        assert!(states(&controller).starts_with('x'), "{}", states(&controller));
    }
}

#[test]
fn a_pool_that_answers_wrongly_is_heard() {
    let pools = [("a", 1), ("b", 1), ("c", 1), ("d", 1)];
    let mut controller = layout(&pools, &[&["a"], &["b"], &["c"], &["d"]]);
    let wrong = |backend| if backend < 3 { silence() } else { Verdict::Fail("connection refused".to_owned()) };
    rounds(&mut controller, 4, |backend| Some(if backend < 3 { Verdict::Pass } else { wrong(backend) }));
    rounds(&mut controller, 4, |backend| Some(wrong(backend)));
    assert!(controller.frozen().is_none(), "two pools of four are not most");
}

#[test]
fn a_freeze_ends_once_another_pool_of_the_services_is_heard() {
    // Provider B is probed more rarely: at first nothing is heard from it.
    let mut controller = two_and_one();
    rounds(&mut controller, 5, |backend| (backend < 5).then(silence));
    assert_eq!((states(&controller).as_str(), controller.frozen().is_some()), ("UUUUUU", true));
    rounds_with_silent(&mut controller, &[1, 2, 3, 4], 1);
    assert!(controller.frozen().is_none(), "provider B answers");
    rounds_with_silent(&mut controller, &[1, 2, 3, 4], 4);
    assert_eq!((states(&controller).as_str(), controller.frozen()), ("xxxxUU", None));
}

#[test]
fn another_pool_that_loses_some_probes_ends_a_freeze_as_well() {
    let mut controller = two_and_one();
    for turn in 0..13 {
        let is_lost = |backend| backend < 5 || turn % 2 == 1;
        rounds(&mut controller, 1, |backend| Some(if is_lost(backend) { silence() } else { Verdict::Pass }));
    }
    assert!(controller.frozen().is_none());
    assert!(states(&controller).starts_with("kkkk"), "{}", states(&controller));
}

#[test]
fn a_thaw_by_patience_lasts() {
    let mut controller = apart();
    rounds_with_silent(&mut controller, &[1, 2], 4);
    assert!(controller.frozen().is_some(), "two pools of three, without references");
    rounds_with_silent(&mut controller, &[1, 2], 27);
    assert!(controller.frozen().is_some());
    for second in 31..90 {
        rounds_with_silent(&mut controller, &[1, 2], 1);
        assert!(second < 34 || controller.frozen().is_none(), "{second}");
    }
    let health = |backend| plan::health(controller.plane.state(backend));
    assert_eq!([health(1), health(2), health(3)], [Health::Down, Health::Down, Health::Up]);
    assert_eq!(kinds(&controller).iter().filter(|kind| **kind == EventKind::Frozen).count(), 1);
    // Both answer, and fall silent once more: that is another wave.
    rounds_with_silent(&mut controller, &[], 12);
    rounds_with_silent(&mut controller, &[1, 2], 4);
    assert!(controller.frozen().is_some());
}

#[test]
fn pools_that_were_out_for_long_are_no_part_of_a_wave() {
    let mut controller = two_and_one();
    rounds_with_silent(&mut controller, &[1, 2, 3, 4], 20);
    assert_eq!(states(&controller), "xxxxUU");
    rounds_with_silent(&mut controller, &[1, 2, 3, 4, 5], 2);
    assert!(controller.frozen().is_none());
    // Nor are they while nothing is known of provider B, whose probes begin anew after a reload.
    let mut inventory = controller.inventory.clone();
    inventory.config.pools[2].probe.as_mut().unwrap().port = 81;
    controller.replace(inventory).unwrap();
    rounds(&mut controller, 3, |backend| (backend < 5).then(silence));
    assert!(controller.frozen().is_none());
}

#[test]
fn a_reference_that_answers_since_then_speaks_for_this_host() {
    let mut controller = apart();
    for _ in 0..5 {
        rounds_with_silent(&mut controller, &[1, 2], 1);
        reference(&mut controller, Verdict::Pass);
        controller.reconsider().unwrap();
    }
    assert!(controller.frozen().is_none());
    // An answer from before the silence is no evidence.
    let mut controller = apart();
    reference(&mut controller, Verdict::Pass);
    rounds_with_silent(&mut controller, &[1, 2], 3);
    assert!(controller.frozen().is_some());
    reference(&mut controller, Verdict::Pass);
    controller.reconsider().unwrap();
    assert!(controller.frozen().is_none(), "and a later one ends the freeze");
    rounds_with_silent(&mut controller, &[1, 2], 10);
    assert!(controller.frozen().is_none());
}

#[test]
fn a_freeze_for_silent_references_ends_when_one_answers() {
    let mut controller = layout(&[("web", 2)], &[&["web"]]);
    for _ in 0..4 {
        reference(&mut controller, silence());
        rounds_with_silent(&mut controller, &[1, 2], 1);
    }
    assert!(controller.frozen().is_some());
    reference(&mut controller, Verdict::Pass);
    rounds_with_silent(&mut controller, &[1, 2], 10);
    assert!(controller.frozen().is_none());
    assert_eq!(states(&controller), "UU", "all of a pool without another one serve");
}

fn unmade() -> Verdict {
    Verdict::Inconclusive("the file does not exist".to_owned())
}

/// A service with two pools of one backend each, 1 and 2, and a pool with more backends, whose probe is another one since
/// a reload.
fn beside_a_lab() -> Controller<FakeDataPlane> {
    let mut controller = layout(&[("web", 1), ("other", 1), ("lab", 4)], &[&["web", "other"]]);
    let mut inventory = controller.inventory.clone();
    inventory.config.pools[2].probe.as_mut().unwrap().port = 81;
    controller.replace(inventory).unwrap();
    controller
}

#[test]
fn a_probe_that_can_never_be_made_concerns_its_own_pool() {
    let mut controller = beside_a_lab();
    rounds(&mut controller, 8, |backend| Some(if backend > 2 { unmade() } else { Verdict::Pass }));
    assert!(controller.frozen().is_none());
    let lost = |backend| if backend > 2 { unmade() } else { silence() };
    rounds(&mut controller, 8, |backend| Some(if backend == 2 { Verdict::Pass } else { lost(backend) }));
    assert_eq!((&states(&controller)[..2], controller.frozen()), ("xU", None), "it fails over");
    // Nor does such a pool excuse silence where no other pool answers.
    let mut controller = layout(&[("web", 2), ("lab", 4)], &[&["web"]]);
    let mut inventory = controller.inventory.clone();
    inventory.config.pools[1].probe.as_mut().unwrap().port = 81;
    controller.replace(inventory).unwrap();
    rounds(&mut controller, 8, |backend| Some(if backend > 2 { unmade() } else { Verdict::Pass }));
    rounds(&mut controller, 8, |backend| Some(if backend == 2 { Verdict::Pass } else { lost(backend) }));
    assert_eq!((&states(&controller)[..2], controller.frozen()), ("xU", None), "one of two");
}

#[test]
fn a_probe_that_can_not_be_made_any_more_concerns_its_own_pool_while_another_is_heard() {
    let mut controller = beside_a_lab();
    rounds(&mut controller, 4, |_| Some(Verdict::Pass));
    rounds(&mut controller, 8, |backend| Some(if backend > 2 { unmade() } else { Verdict::Pass }));
    assert!(controller.frozen().is_none());
    let lost = |backend| if backend > 2 { unmade() } else { silence() };
    rounds(&mut controller, 8, |backend| Some(if backend == 2 { Verdict::Pass } else { lost(backend) }));
    assert_eq!((&states(&controller)[..2], controller.frozen()), ("xU", None), "it fails over");
    // With no probe at all, this host can't look.
    rounds(&mut controller, 4, |_| Some(Verdict::Pass));
    rounds(&mut controller, 8, |_| Some(unmade()));
    assert!(controller.frozen().is_some());
}
