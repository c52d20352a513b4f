//! The history of generations.

use super::super::{Entry, History, How, Left, Trial, Verdict, checksum, undo};
use crate::{
    config::{WeightWord, Weights},
    control::fixture,
};

fn pushed(history: &mut History, generation: u64, how: How, text: &str) {
    history.push(Entry::new(generation, 1000 + generation, how, text));
}

fn generations(history: &History) -> Vec<u64> {
    history.entries.iter().map(|entry| entry.generation).collect()
}

#[test]
fn bytes_and_back() {
    let mut history = History::default();
    pushed(&mut history, 1, How::Start, "one");
    pushed(&mut history, 2, How::Apply, "two\n\u{fc}");
    history.entry_mut(1).unwrap().verdict = Verdict::Undone("why".to_owned());
    history.trial = Some(Trial {
        generation: 2,
        back_to: 1,
        until_ms: 77,
        unavailable: vec!["a/b".to_owned()],
        weights: Weights::default(),
    });
    let bytes = history.encode(1 << 20);
    assert_eq!(History::decode(&bytes), history);
    assert_eq!(History::decode(&bytes).entries[1].text().as_deref(), Some("two\n\u{fc}"));
    for end in 0..bytes.len() {
        // Truncated bytes cause no panic, and are not taken for texts.
        let cut = History::decode(&bytes[..end]);
        assert!(cut.entries.is_empty());
    }
}

#[test]
fn ten_are_kept_and_the_last_good_one_whatever_came_after() {
    let mut history = History::default();
    for generation in 1..40 {
        pushed(&mut history, generation, How::Apply, &format!("text {generation}"));
        if generation == 5 {
            history.entry_mut(5).unwrap().verdict = Verdict::Good;
        }
    }
    assert_eq!(generations(&history), [5, 31, 32, 33, 34, 35, 36, 37, 38, 39]);
    assert_eq!(history.last_good().unwrap().text().unwrap(), "text 5");
    assert!(history.entries[1..9].iter().all(|entry| entry.verdict == Verdict::Replaced));
    // Without room the oldest generations are forgotten; the good one and the last one stay.
    history.encode(10);
    assert_eq!(generations(&history), [5, 39]);
}

#[test]
fn a_writer_that_was_killed_leaves_a_note_of_what_does_not_exist() {
    let mut history = History::default();
    pushed(&mut history, 1, How::Start, "one");
    pushed(&mut history, 2, How::Apply, "two");
    history.trial =
        Some(Trial { generation: 2, back_to: 1, until_ms: 77, unavailable: Vec::new(), weights: Weights::default() });
    // Killed after the history was written, before the generation was published.
    let mut aligned = history.clone();
    aligned.align(1, "one", 5);
    assert_eq!((generations(&aligned), &aligned.trial), (vec![1], &None));
    // Killed after both writes: the history is complete.
    let mut aligned = history.clone();
    aligned.align(2, "two", 5);
    assert_eq!(aligned, history);
    // Another program, which keeps no history, has published.
    history.align(2, "else", 5);
    assert_eq!(history.entry(2).unwrap().how, How::Unknown);
    assert_eq!(history.entry(2).unwrap().checksum, checksum("else"));
}

#[test]
fn a_rollback_goes_to_the_last_good_one_with_another_text() {
    let mut history = History::default();
    for (generation, text) in [(1, "a"), (2, "b"), (3, "c"), (4, "b")] {
        pushed(&mut history, generation, How::Apply, text);
    }
    let target = |history: &History| history.rollback_target(4).map(|entry| entry.generation);
    assert_eq!(target(&history), Some(3), "none was good");
    history.entry_mut(3).unwrap().verdict = Verdict::Undone(String::new());
    assert_eq!(target(&history), Some(1), "nor what was undone, nor the same text");
    history.entry_mut(2).unwrap().verdict = Verdict::Good;
    assert_eq!(target(&history), Some(1), "the good one is the same text");
    history.entry_mut(1).unwrap().verdict = Verdict::Good;
    assert_eq!(target(&history), Some(1));
    assert_eq!(History::default().rollback_target(1), None);
}

#[test]
fn a_start_does_not_take_again_what_was_replaced_or_undone() {
    let mut history = History::default();
    pushed(&mut history, 1, How::Start, "one");
    assert_eq!(history.replaced("one", 1), None);
    assert_eq!(history.replaced("two", 1), None, "the file was edited");
    pushed(&mut history, 2, How::Apply, "two");
    assert!(history.replaced("one", 2).unwrap().contains("apply has replaced it by generation 2"));
    assert_eq!(history.replaced("three", 2), None, "the file was edited");
    history.entry_mut(2).unwrap().verdict = Verdict::Undone("late".to_owned());
    pushed(&mut history, 3, How::Undo, "one");
    assert!(history.replaced("two", 3).unwrap().contains("was undone (late)"));
    assert_eq!(history.replaced("one", 3), None, "it is in force");
}

#[test]
fn weights_that_a_text_on_trial_can_not_have_come_back_with_the_text_before() {
    let text = fixture::inventory().config.text;
    let word = |weight| Some(WeightWord { weight, reason: None });
    let mut weights = Weights::default();
    weights.set("provider-a/a1", word(20));
    weights.set("provider-a/a2", word(30));
    let mut history = History::default();
    history.enter(Entry::new(1, 0, How::Start, &text), None, None, Left::default());
    history.enter(Entry::new(2, 0, How::Apply, "on trial"), None, Some(77), Left { weights, ..Left::default() });
    // A second trial, before which neither was in force any more; then an operator gives one back to the file.
    history.enter(Entry::new(3, 0, How::Apply, "also"), None, Some(78), Left::default());
    history.weigh(["provider-a/a2"].into_iter(), None);
    let back = undo(&history, "late").unwrap().weighted(&Weights::default()).config;
    assert_eq!(back.text, text);
    assert_eq!(back.weights.get("provider-a/a1"), word(20).as_ref());
    assert_eq!(back.weights.get("provider-a/a2"), None);
}
