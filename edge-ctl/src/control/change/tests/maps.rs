//! Changes of real maps. Needs root.

use edge_common::abi::{SNAPSHOT_PAGE, SnapshotPage, map};

use super::super::{
    Candidate, ChangeError, Findings, History, How, Plan, Planned, Rehearser, Trial, Verdict, Words, change, confirm,
    recall, roll_back, undo, write_down,
};
use super::rehearsal::damage;
use crate::{
    bpf::{BpfError, PinnedMaps, bpffs::Bpffs},
    config::{self, Config},
    control::{
        events::{EventKind, Events},
        fixture,
        inventory::Inventory,
        status::Clock,
    },
    health::Health,
    plan::{self, Admin, Capacity, state},
};

fn parse(text: &str) -> Config {
    config::parse(text, "edge.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn text() -> String {
    fixture::inventory().config.text
}

pub(super) fn candidate(text: &str, how: How, words: Words) -> Candidate {
    Candidate {
        config: parse(text),
        how,
        file: Some("/etc/edge/edge.toml".to_owned()),
        words,
        text_of: None,
        host: None,
    }
}

fn started(bpffs: &Bpffs) -> (PinnedMaps, Inventory, History) {
    started_with(bpffs, &text())
}

pub(super) fn started_with(bpffs: &Bpffs, text: &str) -> (PinnedMaps, Inventory, History) {
    let first = candidate(text, How::Start, Words::default());
    let mut maps = PinnedMaps::create(&bpffs.pins(), &Capacity::of(&first.config)).unwrap();
    let mut history = History::default();
    let planned = Planned::new(&maps, None, first).unwrap();
    let vetted = planned.vet(&mut maps, &mut Rehearser::default(), &Events::new()).unwrap();
    let (inventory, _) = vetted.publish(&mut maps, &mut history, Clock::now(), &Events::new()).unwrap();
    (maps, inventory, history)
}

pub(super) const fn confirm_in(ms: u64) -> Words {
    Words {
        allow_removal: 0,
        allow_moves: false,
        allow_unrehearsed: false,
        allow_unfit: false,
        confirm_ms: Some(ms),
        reason: None,
        by: None,
    }
}

#[test]
fn a_trial_outlives_its_writer_and_ends_with_the_text_before() {
    let bpffs = Bpffs::mount();
    let (mut maps, before, mut history) = started(&bpffs);
    let new = text().replace("weight = 50", "weight = 60");
    let events = Events::new();
    let wanted = candidate(&new, How::Apply, confirm_in(60_000));
    let now = change(&mut maps, &before, &mut history, wanted, &mut Rehearser::default(), &events)
        .unwrap()
        .inventory
        .unwrap();
    assert_eq!(now.generation, 2);
    drop((maps, history));

    // The next process finds the trial. Its deadline is of a clock that cannot be set.
    let mut maps = PinnedMaps::open(&bpffs.pins()).unwrap().unwrap();
    let mut history = recall(&maps, &now, Clock::now());
    let trial = history.trial.clone().unwrap();
    assert_eq!((trial.generation, trial.back_to), (2, 1));
    let left = trial.until_ms - Clock::now().boot_ms;
    assert!((50_000..=60_000).contains(&left), "{left}");

    let back = undo(&history, "it was not confirmed in time").unwrap();
    let undone = change(&mut maps, &now, &mut history, back, &mut Rehearser::default(), &events).unwrap();
    let undone = undone.inventory.unwrap();
    assert_eq!((undone.generation, &undone.config.text), (3, &before.config.text));
    assert_eq!(history, recall(&maps, &undone, Clock::now()));
    assert_eq!(history.trial, None);
    assert!(matches!(history.entry(2).unwrap().verdict, Verdict::Undone(_)));
    assert_eq!((history.entry(3).unwrap().how, history.entry(3).unwrap().text_of), (How::Undo, Some(1)));
}

#[test]
fn the_text_on_trial_stays_on_trial_and_another_confirm_prolongs_it() {
    let bpffs = Bpffs::mount();
    let (mut maps, before, mut history) = started(&bpffs);
    let mut apply = |in_force: &Inventory, history: &mut History, text: &str, words| {
        let wanted = candidate(text, How::Apply, words);
        change(&mut maps, in_force, history, wanted, &mut Rehearser::default(), &Events::new()).unwrap()
    };
    let new = text().replace("weight = 50", "weight = 60");
    let same = apply(&before, &mut history, &text(), confirm_in(60_000)).outcome;
    assert!(!same.changed && same.warnings[0].contains("it is on no trial"), "{same:?}");
    let now = apply(&before, &mut history, &new, confirm_in(60_000)).inventory.unwrap();
    let until = history.trial.clone().unwrap().until_ms;
    let same = apply(&now, &mut history, &new, Words::default()).outcome;
    assert!(same.warnings[0].starts_with("it is on trial for "), "{same:?}");
    assert_eq!(history.trial.clone().unwrap().until_ms, until);
    let longer = apply(&now, &mut history, &new, confirm_in(600_000)).outcome;
    assert!(longer.changed && longer.message.contains("it is undone in 10m"), "{longer:?}");
    assert!(history.trial.clone().unwrap().until_ms >= until + 500_000);
    assert_eq!(recall(&maps, &now, Clock::now()), history);
}

#[test]
fn a_trial_after_a_trial_goes_back_to_what_was_before_both() {
    let bpffs = Bpffs::mount();
    let (mut maps, before, mut history) = started(&bpffs);
    let mut now = before.clone();
    for weight in ["weight = 60", "weight = 70"] {
        let wanted = candidate(&text().replace("weight = 50", weight), How::Apply, confirm_in(60_000));
        now = change(&mut maps, &now, &mut history, wanted, &mut Rehearser::default(), &Events::new())
            .unwrap()
            .inventory
            .unwrap();
    }
    assert_eq!(history.before_trial(), Some(before.config.text));
    let back = undo(&history, "late").unwrap();
    let undone = change(&mut maps, &now, &mut history, back, &mut Rehearser::default(), &Events::new()).unwrap();
    let undone = undone.inventory.unwrap();
    assert_eq!((undone.generation, undone.config.text), (4, text()));
}

#[test]
fn a_confirmed_generation_stays_and_a_rollback_brings_the_one_before() {
    let bpffs = Bpffs::mount();
    let (mut maps, before, mut history) = started(&bpffs);
    let events = Events::new();
    assert!(matches!(confirm(&maps, &mut history), Err(ChangeError::NoTrial)));
    let wanted = candidate(&text().replace("weight = 50", "weight = 60"), How::Apply, confirm_in(60_000));
    let now = change(&mut maps, &before, &mut history, wanted, &mut Rehearser::default(), &events)
        .unwrap()
        .inventory
        .unwrap();
    confirm(&maps, &mut history).unwrap();
    assert_eq!(recall(&maps, &now, Clock::now()).trial, None);

    let back = roll_back(&history, now.generation, None, Words::default()).unwrap();
    let back = change(&mut maps, &now, &mut history, back, &mut Rehearser::default(), &events).unwrap();
    let back = back.inventory.unwrap();
    assert_eq!(back.config.text, before.config.text);
    assert_eq!(history.entry(2).unwrap().verdict, Verdict::Undone("rolled back by an operator".to_owned()));
    let error = roll_back(&history, back.generation, Some(77), Words::default());
    assert!(matches!(error, Err(ChangeError::NothingToGoBackTo { .. })));
}

#[test]
fn what_is_refused_changes_neither_maps_nor_history() {
    let bpffs = Bpffs::mount();
    let (mut maps, before, mut history) = started(&bpffs);
    let edition = maps.edition();
    let kept = history.clone();
    let (less, _) =
        text().split_once("[[service]]\nname = \"dns\"").map(|(less, more)| (less.to_owned(), more.len())).unwrap();
    let wanted = candidate(&less, How::Sighup, Words::default());
    let refused = change(&mut maps, &before, &mut history, wanted, &mut Rehearser::default(), &Events::new());
    let Err(ChangeError::Guard(refused)) = refused else { panic!("taken") };
    assert_eq!(refused.needs, "--allow-removal 1");
    assert_eq!((maps.edition(), &history), (edition, &kept));
    let words = Words { allow_removal: 1, ..Words::default() };
    change(
        &mut maps,
        &before,
        &mut history,
        candidate(&less, How::Sighup, words),
        &mut Rehearser::default(),
        &Events::new(),
    )
    .unwrap();
    assert_eq!(maps.generation(), 2);
}

#[test]
fn a_plan_that_others_were_faster_than_is_not_published_nor_remembered() {
    let bpffs = Bpffs::mount();
    let (mut maps, before, mut history) = started(&bpffs);
    let slow = candidate(&text().replace("weight = 50", "weight = 60"), How::Apply, Words::default());
    let slow = Planned::new(&maps, Some(&before), slow).unwrap();
    let slow = slow.vet(&mut maps, &mut Rehearser::default(), &Events::new()).unwrap();
    maps.set_failover(before.services[0], edge_common::abi::Failover { first: 1, evacuate: false }).unwrap();
    let kept = history.clone();
    let result = slow.publish(&mut maps, &mut history, Clock::now(), &Events::new());
    assert!(matches!(result, Err(ChangeError::Maps(BpfError::Stale { .. }))));
    assert_eq!(recall(&maps, &before, Clock::now()), kept);
}

#[test]
fn a_fault_after_the_store_is_an_alarm_and_the_history_is_that_of_what_is_in_force() {
    let bpffs = Bpffs::mount();
    let (mut maps, before, mut history) = started(&bpffs);
    let wanted = candidate(&text().replace("weight = 50", "weight = 60"), How::Apply, confirm_in(60_000));
    let planned = Planned::new(&maps, Some(&before), wanted).unwrap();
    let (vetted, events) = (planned.vet(&mut maps, &mut Rehearser::default(), &Events::new()).unwrap(), Events::new());
    // What is done after the store reads the snapshot of the generation that was staged.
    for page in 0..2 * maps.capacity().snapshot {
        damage::<SnapshotPage, SNAPSHOT_PAGE>(&bpffs.pins(), map::SNAPSHOT, page, |page| page.0[100] ^= 1);
    }
    let (now, _) = vetted.publish(&mut maps, &mut history, Clock::now(), &events).unwrap();
    assert_eq!((now.generation, maps.generation()), (2, 2));
    assert_eq!(history.trial.as_ref().map(|trial| (trial.generation, trial.back_to)), Some((2, 1)));
    assert_eq!(recall(&maps, &now, Clock::now()), history);
    let faults: Vec<_> = events.kept().into_iter().filter(|event| event.kind == EventKind::LocalFault).collect();
    assert!(faults.len() == 1 && faults[0].message.contains("it is in force, but"), "{faults:?}");
}

/// The pick of each slot of each service, by address.
fn picks(maps: &PinnedMaps, config: &Config) -> Vec<Vec<Option<[u8; 16]>>> {
    let image = maps.with_previous(|previous| plan::plan(config, maps.capacity(), previous)).unwrap().unwrap();
    let mut preview = maps.preview(&image).unwrap();
    let of = |service: &config::Service| {
        let number = maps.snapshot().unwrap().unwrap().service(&service.name).unwrap().number;
        preview.picks_now(number).iter().map(|pick| preview.address(*pick)).collect()
    };
    config.services.iter().map(of).collect()
}

#[test]
fn the_share_that_moves_is_what_moves() {
    let changes: [(&str, &str); 5] = [
        ("weight = 50", "weight = 150"),
        ("    { name = \"a2\", address = \"10.1.0.12\" },\n", "    { name = \"a2\", address = \"10.1.0.99\" },\n"),
        ("    { name = \"b2\", address = \"10.2.0.12\" },\n", ""),
        ("min_healthy = 2", "min_healthy = 3"),
        ("pools = [\"provider-a\", \"provider-b\"]", "pools = [\"provider-b\", \"provider-a\"]"),
    ];
    for (from, to) in changes {
        let bpffs = Bpffs::mount();
        let (mut maps, before, mut history) = started(&bpffs);
        // One backend is down, and one is drained.
        maps.set_state(before.backends[0][0], state(Admin::Enabled, Health::Down), "").unwrap();
        maps.set_state(before.backends[1][2], state(Admin::Drained, Health::Up), "").unwrap();
        let new = text().replace(from, to);
        assert_ne!(new, text());
        let plan = Plan::of(&maps, &before, &parse(&new)).unwrap();
        let earlier = picks(&maps, &before.config);
        let words = Words { allow_removal: 99, allow_moves: true, ..Words::default() };
        change(
            &mut maps,
            &before,
            &mut history,
            candidate(&new, How::Apply, words),
            &mut Rehearser::default(),
            &Events::new(),
        )
        .unwrap();
        let later = picks(&maps, &parse(&new));
        for (at, (earlier, later)) in earlier.iter().zip(&later).enumerate() {
            let moved = earlier.iter().zip(later).filter(|(earlier, later)| earlier != later).count();
            let predicted = plan.flows[at].new_flows * 1024.0;
            assert!((predicted - f64::from(u32::try_from(moved).unwrap())).abs() < 1e-6, "{to}: {predicted}, {moved}");
            assert!(plan.flows[at].running_flows.abs() < 1e-9);
        }
        assert!(plan.flows.iter().any(|moves| moves.new_flows > 0.0), "{to}");
    }
}

#[test]
fn another_hash_moves_the_expected_number() {
    let bpffs = Bpffs::mount();
    let (maps, before, _) = started(&bpffs);
    for (from, to) in [("000102", "ff0102"), ("slots = 1024", "slots = 2048")] {
        let plan = Plan::of(&maps, &before, &parse(&text().replace(from, to))).unwrap();
        // The backends have two, two and one of five parts of the slots: 1 - (4 + 4 + 1) / 25.
        assert!((plan.flows[0].new_flows - 0.64).abs() < 0.01, "{:?}", plan.flows);
        assert!((plan.flows[0].running_flows - 0.64).abs() < 0.01, "{:?}", plan.flows);
        assert_eq!(plan.needs.as_deref(), Some("--allow-moves"));
    }
    let same = Plan::of(&maps, &before, &parse(&format!("{}\n# more\n", text()))).unwrap();
    assert!(same.diff.is_empty() && same.flows.iter().all(|moves| moves.new_flows.abs() < 1e-9));
    assert_eq!(same.findings, Findings::default());
}

#[test]
fn a_history_that_has_no_room_keeps_what_counts() {
    let bpffs = Bpffs::mount();
    let (maps, before, mut history) = started(&bpffs);
    history.trial = Some(Trial {
        generation: 1,
        back_to: 1,
        until_ms: 5,
        unavailable: Vec::new(),
        weights: config::Weights::default(),
    });
    for _ in 0..3 {
        write_down(&maps, &mut history).unwrap();
        assert_eq!(recall(&maps, &before, Clock::now()), history);
    }
    assert!(maps.write_history(&vec![0; maps.history_room() + 1], None).is_err());
    assert_eq!(recall(&maps, &before, Clock::now()), history);
}
