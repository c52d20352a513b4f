//! The texts that were in force, trials, and operators' weights, as people mean them.

use std::collections::BTreeMap;

use super::{super::*, Config, Entry, History, How, Index, Run};
use crate::control::change::{self, Candidate, Left, Verdict, Weigh, Words};

/// What must be in force, whatever came before.
pub(super) struct Tried {
    pub(super) text: String,
    /// Set by operators, by the backend's name in the file.
    weights: BTreeMap<String, u32>,
    trial: Option<Trial>,
    /// Texts that were undone, by their generation.
    undone: BTreeMap<u64, String>,
}

struct Trial {
    until_ms: u64,
    back_to: String,
    /// Operators' weights that the text on trial can't have.
    aside: BTreeMap<String, u32>,
}

impl Tried {
    pub(super) const fn new(text: String) -> Self {
        Self { text, weights: BTreeMap::new(), trial: None, undone: BTreeMap::new() }
    }

    fn entered(&mut self, text: &str, until_ms: Option<u64>) {
        let before = self.text.clone();
        let aside = self.carry(text);
        let earlier = self.trial.take();
        self.trial = until_ms.map(|until_ms| match earlier {
            Some(earlier) => Trial { until_ms, back_to: earlier.back_to, aside: join(aside, earlier.aside) },
            None => Trial { until_ms, back_to: before, aside },
        });
    }

    /// Takes the weights over to another text; returns those that it can't have.
    fn carry(&mut self, text: &str) -> BTreeMap<String, u32> {
        text.clone_into(&mut self.text);
        let file = weights_of_file(text);
        let has = |name: &String, weight: &u32| file.get(name).is_some_and(|file| file != weight);
        let (kept, aside) = std::mem::take(&mut self.weights).into_iter().partition(|(name, weight)| has(name, weight));
        self.weights = kept;
        aside
    }

    /// Which rule is broken.
    pub(super) fn broken(&self, run: &Run) -> Option<String> {
        let Controller { inventory, .. } = &run.controller;
        let history = &run.history;
        if inventory.config.text != self.text {
            return Some("another text is in force".to_owned());
        }
        let file = weights_of_file(&self.text);
        for (name, backend) in inventory.config.named_backends() {
            let wanted = self.weights.get(&name).or(file.get(&name)).copied().unwrap_or_default();
            if backend.weight != wanted {
                return Some(format!("{name} has the weight {}, not {wanted}", backend.weight));
            }
        }
        let generations: Vec<_> = history.entries.iter().map(|entry| entry.generation).collect();
        if !generations.is_sorted() || generations.last() != Some(&inventory.generation) {
            return Some(format!(
                "generation {} is in force, and the history has {generations:?}",
                inventory.generation
            ));
        }
        if history.entries.iter().any(|entry| entry.text().is_none()) {
            return Some("a text of the history is lost".to_owned());
        }
        let on_trial = |trial: &change::Trial| (trial.generation, trial.until_ms);
        let wanted = self.trial.as_ref().map(|trial| (inventory.generation, trial.until_ms));
        if history.trial.as_ref().map(on_trial) != wanted {
            return Some(format!("the trial is {:?}, not {wanted:?}", history.trial));
        }
        if history.before_trial() != self.trial.as_ref().map(|trial| trial.back_to.clone()) {
            return Some("the trial does not lead back to the text before it".to_owned());
        }
        let target = history.rollback_target(inventory.generation)?;
        let is_undone = target.verdict != Verdict::Good && self.undone.contains_key(&target.generation);
        let is_same = target.text().as_ref() == Some(&self.text);
        (is_undone || is_same).then(|| format!("a rollback goes to generation {}", target.generation))
    }
}

fn join(first: BTreeMap<String, u32>, mut second: BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    second.extend(first);
    second
}

fn weights_of_file(text: &str) -> BTreeMap<String, u32> {
    let config = config::parse(text, "edge.toml").expect("it was in force");
    config.named_backends().map(|(name, backend)| (name, backend.file_weight)).collect()
}

impl Run {
    fn boot_ms(&self) -> u64 {
        u64::try_from(self.controller.now.as_millis()).expect("small")
    }

    /// Brings a candidate into force as `change::change` does, in plain memory. `held` is whether removed backends still
    /// have flows.
    pub(super) fn bring(&mut self, candidate: Candidate, held: bool) {
        let in_force = &self.controller.inventory;
        let candidate = candidate.weighted(&in_force.config.weights);
        let text = candidate.config.text.clone();
        if text == in_force.config.text && candidate.config.weights == in_force.config.weights {
            self.tried.carry(&text);
            return;
        }
        let left = Left { weights: in_force.config.weights.clone(), ..Left::default() };
        let (why_undone, until_ms) = (candidate.why_undone(), candidate.words.until(self.boot_ms()));
        let inventory = self.published.next(&candidate.config, &mut self.controller.plane, held);
        if why_undone.is_some() {
            self.tried.undone.insert(in_force.generation, in_force.config.text.clone());
        }
        let entry = Entry::new(inventory.generation, 0, candidate.how, &text);
        self.history.enter(entry, why_undone, until_ms, left);
        self.tried.entered(&text, until_ms);
        self.model.reloaded(&self.controller.inventory, &inventory);
        self.controller.replace(inventory).unwrap();
    }

    pub(super) fn apply(&mut self, config: Config, confirm_ms: Option<u32>, held: bool) {
        let words = Words { confirm_ms: confirm_ms.map(u64::from), ..Words::default() };
        self.bring(Candidate { config, how: How::Apply, file: None, words, text_of: None, host: None }, held);
    }

    /// Takes the trial back if its time is over.
    pub(super) fn expire(&mut self) {
        let Some(trial) = self.history.trial.as_ref().filter(|trial| trial.until_ms <= self.boot_ms()) else { return };
        let (until_ms, back_to) = (trial.until_ms, self.tried.trial.as_ref().map(|trial| trial.back_to.clone()));
        let candidate = change::undo(&self.history, "it was not confirmed in time").unwrap();
        assert_eq!(Some(&candidate.config.text), back_to.as_ref(), "until {until_ms}");
        let aside = self.tried.trial.as_ref().map(|trial| trial.aside.clone()).unwrap_or_default();
        self.tried.weights = join(std::mem::take(&mut self.tried.weights), aside);
        self.bring(candidate, true);
        (self.history.trial, self.tried.trial) = (None, None);
    }

    pub(super) fn confirm(&mut self) {
        (self.history.trial, self.tried.trial) = (None, None);
    }

    /// The generation in force has stood its soak.
    pub(super) fn be_good(&mut self) {
        if self.history.trial.is_none()
            && let Some(entry) = self.history.entries.last_mut()
        {
            entry.verdict = Verdict::Good;
        }
    }

    pub(super) fn roll_back(&mut self, to: Option<Index>, held: bool) {
        let kept = &self.history.entries;
        let to = to.map(|to| kept[to.index(kept.len())].generation);
        let wanted = to.and_then(|to| self.history.entry(to)?.text());
        let candidate = change::roll_back(&self.history, self.controller.inventory.generation, to, Words::default());
        let Ok(candidate) = candidate else {
            assert_eq!(to, None, "a generation that is kept can be gone back to");
            return;
        };
        assert!(wanted.is_none_or(|wanted| candidate.config.text == wanted));
        self.bring(candidate, held);
    }

    /// An operator sets a weight, or gives it back to the file.
    pub(super) fn weigh(&mut self, which: Index, weight: Option<u32>) {
        let in_force = &self.controller.inventory;
        let names: Vec<_> = in_force.config.named_backends().map(|(name, _)| name).collect();
        let name = names[which.index(names.len())].clone();
        let request = Weigh { backends: vec![name.clone()], weight, reason: None };
        let file = weights_of_file(&self.tried.text);
        match weight.filter(|weight| *weight != file[&name]) {
            Some(weight) => drop(self.tried.weights.insert(name.clone(), weight)),
            None => drop(self.tried.weights.remove(&name)),
        }
        let before = (in_force.generation, self.words());
        let Some(config) = change::weighed(in_force, &mut self.history, &request).unwrap() else { return };
        if let Some(trial) = &mut self.tried.trial {
            trial.aside.remove(&name);
        }
        let inventory = self.published.next(&config, &mut self.controller.plane, true);
        self.history.renumber(before.0, inventory.generation);
        self.model.reloaded(&self.controller.inventory, &inventory);
        self.controller.replace(inventory).unwrap();
        assert_eq!(self.words(), before.1, "weights change no decision");
    }

    /// Reads the history as a successor does.
    pub(super) fn recall(&mut self) {
        let Inventory { generation, config, .. } = &self.controller.inventory;
        let mut recalled = History::decode(&self.history.encode(usize::MAX));
        recalled.align(*generation, &config.text, 0);
        assert_eq!(recalled, self.history);
    }
}
