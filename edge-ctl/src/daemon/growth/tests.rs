//! Growths that are killed: the next start continues with the small maps or the large ones, and both have the same
//! content. Needs root.

mod dimensions;

use edge_common::{
    abi::{FlowEnds, State},
    wire::protocol,
};
use edge_tests::killed::{Step, killed_at};

use super::*;
use crate::{
    bpf::{bpffs::Bpffs, monotonic_time},
    config,
    control::{
        change::{self, Entry, How, Trial, Verdict, Words},
        data_plane::DataPlane as _,
        events::EventKind,
    },
    daemon::apply::{carry, usable},
    plan,
};

/// A configuration with the backends `$more` in its first pool, beside two others.
macro_rules! text {
    ($limits:literal, $more:literal) => {
        concat!(
            r#"
hash_key = "000102030405060708090a0b0c0d0e0f"
slots = 1024
[limits]
services = 1
pools = 2
flows = 65536
backends = "#,
            $limits,
            r#"
[tunnel]
source_v4 = "10.0.0.1"
[[interface]]
name = "lo"
[[pool]]
name = "one"
backend = [{ name = "a", address = "10.1.0.1" }, { name = "b", address = "10.1.0.2" }"#,
            $more,
            r#"]
[[pool]]
name = "two"
backend = [{ name = "c", address = "10.2.0.1" }]
[[service]]
name = "web"
vips = ["192.0.2.1"]
ports = ["80/tcp"]
mode = "ipip"
pools = ["one", "two"]
"#
        )
    };
}

const SMALL: &str = text!("4", "");
const LARGE: &str = text!("32", r#", { name = "0", address = "10.1.0.9" }, { name = "z", address = "10.1.0.7" }"#);
/// Number of recorded flows.
const FLOWS: u16 = 20;

fn wanted(text: &str) -> Candidate {
    let config = config::parse(text, "edge.toml").unwrap();
    Candidate { config, how: How::Reload, file: None, words: Words::default(), text_of: None, host: None }
}

/// The growth without its rehearsal, whose program is loaded beside the maps.
fn grow_unrehearsed(small: &PinnedMaps) -> (PinnedMaps, Inventory) {
    grow_of(small, LARGE)
}

/// The same for another configuration.
fn grow_of(small: &PinnedMaps, text: &str) -> (PinnedMaps, Inventory) {
    let mut history = History::default();
    let vet = |planned: Planned, large: &mut PinnedMaps| Ok(planned.unrehearsed(large));
    grown(small, wanted(text), &mut history, &Events::new(), vet).unwrap()
}

/// Maps that are used: a backend is drained, a service failed over, and flows are recorded.
fn used(bpffs: &Bpffs) -> PinnedMaps {
    used_by(bpffs, SMALL)
}

/// The same with another configuration.
fn used_by(bpffs: &Bpffs, text: &str) -> PinnedMaps {
    let candidate = wanted(text);
    let mut maps = new_maps(&bpffs.pins(), &candidate.config).unwrap();
    let vetted = Planned::new(&maps, None, candidate).unwrap().unrehearsed(&mut maps);
    vetted.publish(&mut maps, &mut History::default(), Clock::now(), &Events::new()).unwrap();
    let snapshot = maps.snapshot().unwrap().unwrap();
    let number = |name| snapshot.backend(name).unwrap().number;
    maps.set_state(number("one/a"), State(State::ENABLED | State::DRAINED | State::ALIVE), "disk swap").unwrap();
    let failover = edge_common::abi::Failover { first: 1, evacuate: false };
    maps.set_failover(snapshot.service("web").unwrap().number, failover).unwrap();
    for port in 0..FLOWS {
        maps.record_flow(flow(port), number("one/b"), monotonic_time()).unwrap();
    }
    maps.pins().end_filling().unwrap();
    maps
}

fn flow(client_port: u16) -> FlowEnds {
    let [client, vip] = ["203.0.113.7", "192.0.2.1"].map(|address| address.parse().unwrap());
    FlowEnds { client, client_port, vip, port: 80, protocol: protocol::TCP }
}

/// Checks that the maps have the whole content of the first ones; returns the configuration's text.
fn check_all(maps: &PinnedMaps, step: Step) -> String {
    let snapshot = maps.snapshot().unwrap().expect("something is in force");
    let drained = snapshot.backend("one/a").unwrap().number;
    assert!(maps.state(drained).has_all(State::DRAINED), "{step:?}: {:?}", maps.state(drained));
    assert_eq!(maps.why(drained).reason, "disk swap", "{step:?}");
    assert_eq!(maps.failover(snapshot.service("web").unwrap().number).first, 1, "{step:?}");
    let at = snapshot.backend("one/b").unwrap().number;
    let flows = maps.flows(monotonic_time()).unwrap();
    let known = (0..FLOWS).filter(|port| flows.iter().any(|(ends, known)| (*ends, known.backend) == (flow(*port), at)));
    assert_eq!(known.count(), usize::from(FLOWS), "{step:?}");
    Inventory::from_snapshot(&snapshot).unwrap().config.text
}

/// Checks the maps after a growth that was killed at `step`, or that completed: as found without a daemon, and by the
/// next daemon.
fn is_whole(bpffs: &Bpffs, killed: bool, step: Step) {
    let pins = bpffs.pins();
    let maps = PinnedMaps::open(&pins.in_force().unwrap()).unwrap().expect("there is one to go on with");
    let before = check_all(&maps, step);
    let (maps, _) = usable(&pins).unwrap().unwrap_or_else(|| panic!("{step:?}: the next start begins anew"));
    let text = check_all(&maps, step);
    assert_eq!(before, text, "{step:?}");
    assert!(killed || text == LARGE, "{step:?}: it has come to its end");
    assert!(text == LARGE || !pins.are_filling().unwrap() && pins.in_force().unwrap() == pins, "{step:?}");
    if text == SMALL {
        let (mut large, _) = grow_unrehearsed(&maps);
        carry(maps, &mut large, &Events::new()).expect("it carries");
        let (maps, _) = usable(&pins).unwrap().unwrap();
        assert_eq!(check_all(&maps, step), LARGE, "{step:?}: another try");
    }
    pins.forget_outgrown().unwrap();
}

#[test]
fn a_growth_can_be_killed_before_each_call() {
    let mut texts = [0, 0];
    let mut is_killed = |number: u32| {
        let bpffs = Bpffs::mount();
        let small = used(&bpffs);
        let step = Step::Call(number);
        let killed = killed_at(step, || {
            let (mut large, _) = grow_unrehearsed(&small);
            carry(small, &mut large, &Events::new()).expect("it carries");
            large.pins().forget_outgrown().unwrap();
        });
        texts[usize::from(bpffs.pins().in_force().unwrap() == bpffs.pins())] += 1;
        is_whole(&bpffs, killed, step);
        killed
    };
    let calls = (1..1000).find(|number| !is_killed(*number)).unwrap() - 1;
    println!("{calls} calls; {texts:?} before and behind the moment from which the large ones are used");
    assert!(calls > 20 && texts.iter().all(|count| *count > 1), "{calls}, {texts:?}");
}

/// All of these stores go into maps that nothing reads before the growth is complete.
#[test]
fn what_fills_larger_maps_can_be_killed_between_its_stores() {
    let mut number = 1;
    loop {
        let bpffs = Bpffs::mount();
        let small = used(&bpffs);
        let (mut large, _) = grow_unrehearsed(&small);
        let step = Step::Store(number);
        let killed = killed_at(step, || drop(carry(small, &mut large, &Events::new()).expect("it carries")));
        is_whole(&bpffs, killed, step);
        if !killed {
            break;
        }
        number += 1 + number / 3;
    }
    assert!(number > 100, "{number} stores");
}

#[test]
fn a_growth_that_fails_leaves_the_small_maps_where_they_were() {
    let bpffs = Bpffs::mount();
    let small = used(&bpffs);
    let refuse = |_: Planned, _: &mut PinnedMaps| Err(BpfError::Unpublished.into());
    let failed = grown(&small, wanted(LARGE), &mut History::default(), &Events::new(), refuse);
    assert!(failed.is_err());
    assert!(small.are_pinned().unwrap());
    let (maps, _) = usable(&bpffs.pins()).unwrap().expect("they are usable");
    assert_eq!((check_all(&maps, Step::Call(0)).as_str(), maps.number()), (SMALL, small.number()));
}

/// Publishes `text` as the second generation.
fn publish(maps: &mut PinnedMaps, text: &str) {
    let config = wanted(text).config;
    let image = maps.with_previous(|previous| plan::plan(&config, maps.capacity(), previous)).unwrap().unwrap();
    maps.publish(&image).unwrap();
}

/// A history with the generation in force, which is `verdict` and on trial.
fn on_trial(maps: &PinnedMaps, verdict: Verdict) -> History {
    let generation = maps.generation();
    let mut history = History::default();
    history.push(Entry::new(generation - 1, 1, How::Start, LARGE));
    history.push(Entry { verdict, ..Entry::new(generation, 2, How::Apply, SMALL) });
    history.trial = Some(Trial {
        generation,
        back_to: generation - 1,
        until_ms: 77,
        unavailable: vec!["one/a".to_owned()],
        weights: config::Weights::default(),
    });
    history
}

#[test]
fn the_way_back_from_a_trial_grows_the_maps_where_they_are_too_small() {
    let bpffs = Bpffs::mount();
    let mut small = used(&bpffs);
    publish(&mut small, SMALL);
    let mut history = on_trial(&small, Verdict::Soaking);
    let back = change::undo(&history, "it was late").unwrap();
    let vet = |planned: Planned, large: &mut PinnedMaps| Ok(planned.unrehearsed(large));
    let (large, inventory) = grown(&small, back, &mut history, &Events::new(), vet).unwrap();
    assert_eq!((inventory.config.text.as_str(), inventory.generation), (LARGE, 3));
    assert_eq!(
        (history.trial.as_ref(), &history.entries[1].verdict),
        (None, &Verdict::Undone("it was late".to_owned()))
    );
    assert_eq!((history.entries[2].how, history.entries[2].text_of), (How::Undo, Some(1)));
    assert_eq!(change::recall(&large, &inventory, Clock::now()), history);
}

#[test]
fn the_text_in_force_keeps_its_trial_and_its_verdict_in_other_maps() {
    for verdict in [Verdict::Soaking, Verdict::Good] {
        let bpffs = Bpffs::mount();
        let mut small = used(&bpffs);
        publish(&mut small, SMALL);
        let before = on_trial(&small, verdict);
        let mut history = before.clone();
        let vet = |planned: Planned, other: &mut PinnedMaps| Ok(planned.unrehearsed(other));
        let (other, inventory) = grown(&small, wanted(SMALL), &mut history, &Events::new(), vet).unwrap();
        assert_eq!(inventory.generation, 3);
        let mut renumbered = before;
        renumbered.renumber(2, 3);
        assert_eq!(history, renumbered);
        assert_eq!(change::recall(&other, &inventory, Clock::now()), history);
    }
}

/// The configuration without the backend that has the flows.
fn without(text: &str) -> String {
    text.replace(r#", { name = "b", address = "10.1.0.2" }"#, "")
}

/// Checks that the backend one/b takes no new flows, and has all flows of [`used`].
fn keeps_its_flows(maps: &PinnedMaps) {
    let snapshot = maps.snapshot().unwrap().unwrap();
    let [retired] = &snapshot.retired[..] else { panic!("{:?}", snapshot.retired) };
    assert_eq!((&retired.pool[..], &retired.name[..], retired.address), ("one", "b", "10.1.0.2".parse().unwrap()));
    let state = maps.state(retired.number);
    assert!(state.has_all(State::RETIRED | State::ALIVE) && !state.has_any(State::NEW), "{state:?}");
    let flows = maps.flows(monotonic_time()).unwrap();
    let at = |port| flows.iter().any(|(ends, known)| (*ends, known.backend) == (flow(port), retired.number));
    assert_eq!((0..FLOWS).filter(|port| at(*port)).count(), usize::from(FLOWS));
}

#[test]
fn a_backend_that_was_removed_before_keeps_its_flows_in_new_maps() {
    let bpffs = Bpffs::mount();
    let mut small = used(&bpffs);
    publish(&mut small, &without(SMALL));
    keeps_its_flows(&small);
    let (mut large, _) = grow_of(&small, &without(LARGE));
    carry(small, &mut large, &Events::new()).expect("it carries");
    keeps_its_flows(&large);
    // It comes back in still other maps.
    large.pins().forget_outgrown().unwrap();
    let (mut other, _) = grow_unrehearsed(&large);
    carry(large, &mut other, &Events::new()).expect("it carries");
    assert_eq!(check_all(&other, Step::Call(0)), LARGE);
}

#[test]
fn a_backend_that_leaves_with_a_growth_keeps_its_flows() {
    let bpffs = Bpffs::mount();
    let small = used(&bpffs);
    let (mut large, _) = grow_of(&small, &without(LARGE));
    carry(small, &mut large, &Events::new()).expect("it carries");
    keeps_its_flows(&large);
}

#[test]
fn only_backends_without_room_in_the_new_maps_are_cut() {
    let bpffs = Bpffs::mount();
    let mut small = used(&bpffs);
    publish(&mut small, &without(SMALL));
    let leaving = |text: &str| {
        let config = wanted(text).config;
        let leaving = small.with_previous(|previous| plan::leaving(previous, &config, &Capacity::of(&config))).unwrap();
        [leaving.kept, leaving.cut].map(|list| change::names(&list))
    };
    assert_eq!(leaving(&without(LARGE)), [vec!["one/b"], vec![]]);
    assert_eq!(leaving(LARGE), [[""; 0]; 2], "it comes back");
    assert_eq!(leaving(&LARGE.replace("10.2.0.1", "10.2.0.9")), [vec!["two/c"], vec![]], "one/b comes back");
    // Two numbers for each backend: of four numbers two are in use.
    let tight = without(SMALL).replace("backends = 4", "backends = 2").replace("10.2.0.1", "10.2.0.9");
    assert_eq!(leaving(&tight), [vec!["two/c", "one/b"], vec![]]);
    let tight = tight.replace("10.1.0.1\"", "10.1.0.9\"");
    assert_eq!(leaving(&tight), [vec!["one/a", "two/c"], vec!["one/b"]]);

    let why = plan::PlanError::Index { map: "INDEX" };
    let inventory = Inventory::from_snapshot(&small.snapshot().unwrap().unwrap()).unwrap();
    let config = wanted(&tight).config;
    let leaving = small.with_previous(|previous| plan::leaving(previous, &config, &Capacity::of(&config))).unwrap();
    let refusal = change::refusal(&leaving.cut, &inventory.config, &why).to_string();
    assert!(refusal.contains("no room for one/b") && refusal.contains("about 5m after"), "{refusal}");
    // Made all the same, as by a way back: the others keep theirs.
    let (_, grown) = grow_of(&small, &tight);
    assert_eq!(change::names(&grown.retired), ["one/a", "two/c"]);
}

#[test]
fn the_event_of_a_growth_lists_what_changes() {
    let bpffs = Bpffs::mount();
    let small = used(&bpffs);
    let events = Events::new();
    let vet = |planned: Planned, large: &mut PinnedMaps| Ok(planned.unrehearsed(large));
    grown(&small, wanted(LARGE), &mut History::default(), &events, vet).unwrap();
    let applied =
        events.kept().into_iter().find(|event| event.kind == EventKind::ConfigApplied).expect("it is reported");
    let (_, changes) = applied.message.split_once("; ").expect("what changes");
    assert_eq!(changes, "keys: 1 changed; backends: 2 added", "{}", applied.message);
}

#[test]
fn a_trial_in_new_maps_knows_which_backends_took_no_flows_before() {
    let bpffs = Bpffs::mount();
    let small = used(&bpffs);
    let mut history = on_trial(&small, Verdict::Soaking);
    history.trial = None;
    let candidate = Candidate { words: Words { confirm_ms: Some(60_000), ..Words::default() }, ..wanted(LARGE) };
    let vet = |planned: Planned, large: &mut PinnedMaps| Ok(planned.unrehearsed(large));
    grown(&small, candidate, &mut history, &Events::new(), vet).unwrap();
    assert_eq!(history.trial.expect("it is on trial").unavailable, ["one/a"]);
}
