//! The state that a start after a reboot finds.

mod killed;

use edge_common::abi::{Failover, State};

use super::*;
use crate::{
    config::{self, WeightWord},
    control::{
        change::{Candidate, ChangeError, Entry, How, Trial, Verdict, Words},
        data_plane::DataPlane as _,
        deadline::Deadline,
        evacuation::{self, Evacuation},
        fixture::{FakeDataPlane, inventory},
    },
};

fn text() -> String {
    inventory().config.text
}

fn weighted(weight: u32) -> String {
    text().replace("weight = 50", &format!("weight = {weight}"))
}

fn file(text: &str) -> Result<Candidate, ChangeError> {
    let config = config::parse(text, "edge.toml")?;
    Ok(Candidate {
        config,
        how: How::Start,
        file: Some("edge.toml".to_owned()),
        words: Words::default(),
        text_of: None,
        host: None,
    })
}

/// Generations with these texts, from 1.
fn kept(texts: &[(How, &str, Verdict)]) -> Kept {
    let mut history = History::default();
    for (generation, (how, text, verdict)) in (1..).zip(texts) {
        history.push(Entry::new(generation, 0, *how, text));
        history.entry_mut(generation).unwrap().verdict = verdict.clone();
    }
    Kept { version: VERSION, generation: texts.len() as u64, history, ..Kept::default() }
}

#[test]
fn files_and_back() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(load(directory.path()).unwrap(), None);
    let mut now = inventory();
    let mut plane = FakeDataPlane::fresh(&now);
    plane.set_state(2, State(State::DISABLED), "disabled by an operator: broken").unwrap();
    plane.set_state(4, State(State::ENABLED | State::ALIVE | State::DRAINED), "drained by an operator").unwrap();
    plane.set_failover(1, Failover { first: 1, evacuate: true }).unwrap();
    let forced = State(State::ENABLED | State::DOWN | State::FORCED_DOWN);
    plane.set_state(1, forced, "forced down by an operator: smoke").unwrap();
    let mut weights = Weights::default();
    weights.set("provider-b/b1", Some(WeightWord { weight: 7, reason: Some("new".to_owned()) }));
    now.config = now.config.weighted(&weights);
    let Kept { history, .. } = kept(&[(How::Start, "one", Verdict::Good), (How::Apply, "two", Verdict::Soaking)]);
    let kept = Kept::of(&now, &plane, &history);
    assert_eq!(kept.failovers, [FailoverWord { service: "web".into(), to: "provider-b".into(), evacuate: true }]);
    assert_eq!(kept.backends[0].name, "provider-a/a2");
    let reason = "forced down by an operator: smoke".to_owned();
    assert_eq!(kept.forced, [ForcedWord { name: "provider-a/a1".into(), is_up: false, reason }]);
    assert_eq!(kept.weights, weights);
    save(directory.path(), &kept).unwrap();
    assert_eq!(load(directory.path()).unwrap(), Some(kept.clone()));
    let json = std::fs::read_to_string(directory.path().join("state.json")).unwrap();
    assert!(!json.contains("10.1.0.") && !json.contains("\"up\""), "names only: {json}");

    // A text that is no longer kept is removed; a damaged text is left out; a damaged state is an error.
    let mut less = kept.clone();
    less.history.entries.remove(0);
    save(directory.path(), &less).unwrap();
    let files = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(files, 2);
    let mut generation = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let generation = generation.find(|path| path.extension().is_some_and(|end| end == "toml")).unwrap();
    std::fs::write(generation, "tw").unwrap();
    assert!(load(directory.path()).unwrap().unwrap().history.entries.is_empty());
    std::fs::write(directory.path().join("state.json"), &json[..json.len() / 2]).unwrap();
    assert!(load(directory.path()).is_err());
}

#[test]
fn a_good_file_starts_whatever_was_before() {
    let choice = choose(file(&text()), None).unwrap();
    assert!(choice.refused.is_none() && choice.candidate.text_of.is_none());
    let kept = kept(&[(How::Start, &weighted(60), Verdict::Good)]);
    let choice = choose(file(&text()), Some(&kept)).unwrap();
    assert_eq!((choice.candidate.config.text, choice.candidate.text_of), (text(), None));
}

#[test]
fn in_place_of_a_bad_file_starts_the_last_good_text() {
    assert!(choose(file("nonsense"), None).is_err());
    let kept = kept(&[(How::Start, &weighted(60), Verdict::Good), (How::Apply, &weighted(70), Verdict::Soaking)]);
    let shorter = text().split_once("[[service]]\nname = \"dns\"").unwrap().0.to_owned();
    for bad in ["nonsense", "", &shorter] {
        let choice = choose(file(bad), Some(&kept)).unwrap();
        assert_eq!((choice.candidate.config.text, choice.candidate.text_of), (weighted(60), Some(1)), "{bad:?}");
        assert!(choice.refused.is_some());
    }
}

#[test]
fn what_an_operator_has_put_in_place_of_the_file_stays() {
    let kept = kept(&[(How::Start, &text(), Verdict::Good), (How::Apply, &weighted(70), Verdict::Soaking)]);
    let choice = choose(file(&text()), Some(&kept)).unwrap();
    assert_eq!((choice.candidate.config.text, choice.candidate.text_of), (weighted(70), Some(2)));
    assert!(matches!(choice.refused, Some(ChangeError::Replaced { .. })));
}

#[test]
fn a_trial_does_not_survive_a_reboot() {
    let mut kept = kept(&[(How::Start, &text(), Verdict::Replaced), (How::Apply, &weighted(70), Verdict::Soaking)]);
    kept.history.trial = Some(Trial {
        generation: 2,
        back_to: 1,
        until_ms: u64::MAX,
        unavailable: Vec::new(),
        weights: Weights::default(),
    });
    // The file also has the text of the trial.
    let choice = choose(file(&weighted(70)), Some(&kept)).unwrap();
    assert_eq!((choice.candidate.config.text, choice.candidate.text_of), (text(), Some(1)));
    assert!(choice.history.trial.is_none());
    assert!(matches!(choice.history.entry(2).unwrap().verdict, Verdict::Undone(_)));
    let choice = choose(file(&text()), Some(&kept)).unwrap();
    assert!(choice.refused.is_none(), "it is what was in force");
}

#[test]
fn an_evacuation_with_an_end_ends_after_a_reboot_too() {
    const HOURS: u64 = 3600 * 1000;
    let evacuation =
        |until_ms| Evacuation { deadline: Deadline { for_ms: Some(2 * HOURS), until_ms }, ..Evacuation::default() };
    let over = |kept: &Kept, boot_ms| evacuation::over(&kept.history.evacuations, boot_ms).is_some();
    let mut kept = kept(&[(How::Start, &text(), Verdict::Good)]);
    // On a host that was up for twenty days.
    kept.history.evacuations = vec![evacuation(Some(20 * 24 * HOURS))];
    kept.restart(60_000);
    assert!(!over(&kept, 60_000 + 2 * HOURS - 1));
    assert!(over(&kept, 60_000 + 2 * HOURS));
    // The maps were lost, and the host was not restarted: the deadline stands.
    kept.restart(60_000 + HOURS);
    assert!(over(&kept, 60_000 + 2 * HOURS));
    // One without an end.
    kept.history.evacuations = vec![Evacuation::default()];
    kept.restart(60_000);
    assert!(!over(&kept, u64::MAX));
}

#[test]
fn a_drained_backend_that_was_renamed_before_a_start_needs_consent() {
    let mut kept = kept(&[(How::Start, &text(), Verdict::Good)]);
    let renamed = text().replace("name = \"a2\"", "name = \"other\"");
    assert!(choose(file(&renamed), Some(&kept)).unwrap().refused.is_none());
    let word = BackendWord { name: "provider-a/a2".into(), decision: Decision::Drained, reason: String::new() };
    kept.backends.push(word);
    let choice = choose(file(&renamed), Some(&kept)).unwrap();
    assert_eq!(choice.candidate.config.text, text());
    assert!(choice.refused.unwrap().to_string().contains("would serve again as provider-a/other"));
}
