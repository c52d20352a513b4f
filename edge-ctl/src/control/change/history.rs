//! The history: the texts of the last generations, how each came into force, its verdict, and the trial that is under
//! way. It is stored in the maps beside the generation, and on disk for a cold start. Pure.

#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::sync::Arc;

use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};
use serde::{Deserialize, Serialize};

use super::How;
use crate::{
    config::{MAX_FILE, WeightWord, Weights},
    control::{evacuation::Evacuation, failovers::FailoverNote},
};

/// Number of generations that are kept where there is room, the last good one among them.
const KEPT: usize = 10;

/// Generations, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct History {
    pub(crate) entries: Vec<Entry>,
    pub(crate) trial: Option<Trial>,
    /// Checksum of the text of the daemon's file that was in force last. A start does not take that text again, so that
    /// an operator's replacement of it stays.
    pub(crate) file: Option<u32>,
    /// Pools that operators have evacuated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) evacuations: Vec<Evacuation>,
    /// Reasons and deadlines of operators' failovers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) failovers: Vec<FailoverNote>,
}

/// A generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) generation: u64,
    /// Milliseconds since 1970, UTC. For display only.
    pub(crate) at: u64,
    pub(crate) how: How,
    /// The earlier generation whose text was brought back.
    pub(crate) text_of: Option<u64>,
    pub(crate) file: Option<String>,
    pub(crate) by: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) verdict: Verdict,
    /// CRC-32 of the text.
    pub(crate) checksum: u32,
    /// Length of the compressed text in bytes.
    pub(crate) packed: usize,
    #[serde(skip)]
    pub(crate) text: Arc<[u8]>,
}

/// The outcome of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// In force, but not for long enough to be called good.
    Soaking,
    /// No service has lost availability while it was in force, for the time of the soak.
    Good,
    /// Replaced by another generation before it was good.
    Replaced,
    /// Undone, with the reason.
    Undone(String),
}

/// A generation that is undone unless it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trial {
    pub(crate) generation: u64,
    /// The generation whose text comes back.
    pub(crate) back_to: u64,
    /// Deadline in milliseconds of `CLOCK_BOOTTIME`, which neither a clock step nor a restart of the controller
    /// changes.
    pub(crate) until_ms: u64,
    /// `POOL/BACKEND` of the backends that took no new flows before.
    pub(crate) unavailable: Vec<String>,
    /// Weights that operators have set. They come back with the text: the configuration on trial may lack a backend, or
    /// have its weight in the file.
    #[serde(default)]
    pub(crate) weights: Weights,
}

/// The state that a change leaves, as far as a trial needs it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Left {
    pub(crate) unavailable: Vec<String>,
    pub(crate) weights: Weights,
}

impl Entry {
    pub(crate) fn new(generation: u64, at: u64, how: How, text: &str) -> Self {
        let mut entry = Self {
            generation,
            at,
            how,
            text_of: None,
            file: None,
            by: None,
            reason: None,
            verdict: Verdict::Soaking,
            checksum: checksum(text),
            packed: 0,
            text: Arc::default(),
        };
        entry.pack(text);
        entry
    }

    /// Stores `text`, compressed.
    pub(crate) fn pack(&mut self, text: &str) {
        self.text = compress_to_vec(text.as_bytes(), 3).into();
        self.packed = self.text.len();
    }

    /// The configuration's text; `None` if it is damaged.
    pub(crate) fn text(&self) -> Option<String> {
        let bytes = decompress_to_vec_with_limit(&self.text, MAX_FILE).ok()?;
        String::from_utf8(bytes).ok().filter(|text| checksum(text) == self.checksum)
    }
}

/// CRC-32 of a text.
pub(crate) fn checksum(text: &str) -> u32 {
    crc32fast::hash(text.as_bytes())
}

impl History {
    /// Decodes the result of [`encode`](Self::encode); empty for any other bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        Self::try_decode(bytes).unwrap_or_default()
    }

    fn try_decode(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (json, mut texts) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let mut history: Self = serde_json::from_slice(json).ok()?;
        for entry in &mut history.entries {
            let (text, more) = texts.split_at_checked(entry.packed)?;
            entry.text = text.into();
            texts = more;
        }
        Some(history)
    }

    /// Encodes the history: the length of a JSON object, the object, the compressed texts. Forgets the oldest
    /// generations if the result is longer than `room`.
    pub(crate) fn encode(&mut self, room: usize) -> Vec<u8> {
        loop {
            let json = serde_json::to_vec(self).unwrap_or_default();
            let length = u32::try_from(json.len()).unwrap_or_default().to_le_bytes();
            let mut bytes = [&length[..], &json].concat();
            self.entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.text));
            if bytes.len() <= room || !self.forget_one() {
                return bytes;
            }
        }
    }

    /// Whether the history was written for a generation after `published`, which has not come into force.
    pub(crate) fn is_note(&self, published: u64) -> bool {
        self.entries.last().is_some_and(|entry| entry.generation > published)
    }

    pub(crate) fn entry(&self, generation: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.generation == generation)
    }

    pub(crate) fn entry_mut(&mut self, generation: u64) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.generation == generation)
    }

    /// The text that comes back if the trial is not confirmed.
    pub(crate) fn before_trial(&self) -> Option<String> {
        self.entry(self.trial.as_ref()?.back_to)?.text()
    }

    /// The last good generation.
    pub(crate) fn last_good(&self) -> Option<&Entry> {
        self.entries.iter().rfind(|entry| entry.verdict == Verdict::Good)
    }

    /// Aligns the history with the published generation and its text: a writer may have been killed between writing the
    /// two, or may keep no history.
    pub(crate) fn align(&mut self, published: u64, text: &str, now: u64) {
        self.entries.retain(|entry| entry.generation <= published);
        if self.entry(published).is_none_or(|entry| entry.checksum != checksum(text)) {
            self.entries.retain(|entry| entry.generation < published);
            self.push(Entry::new(published, now, How::Unknown, text));
        }
        if self.trial.as_ref().is_some_and(|trial| trial.generation != published) {
            self.trial = None;
        }
    }

    /// Why a start does not take this text of the daemon's file: the text was in force, and was replaced by an operator
    /// or undone. `None` if a start takes it.
    pub(crate) fn replaced(&self, text: &str, in_force: u64) -> Option<String> {
        let checksum = checksum(text);
        if self.entry(in_force).is_some_and(|now| now.checksum == checksum) {
            return None;
        }
        let undone = self.entries.iter().rev().find_map(|entry| match &entry.verdict {
            Verdict::Undone(why) => (entry.checksum == checksum).then_some((entry.generation, why)),
            Verdict::Soaking | Verdict::Good | Verdict::Replaced => None,
        });
        match undone {
            Some((generation, why)) => Some(format!("generation {generation} had this text, and was undone ({why})")),
            None if self.file == Some(checksum) => {
                let how = self.entry(in_force).map_or("another program", |now| now.how.name());
                Some(format!(
                    "it is unchanged since it was last read, and {how} has replaced it by generation {in_force}"
                ))
            }
            None => None,
        }
    }

    /// Adds the generation that comes into force now. It replaces a soaking generation and ends a trial.
    pub(crate) fn push(&mut self, entry: Entry) {
        for before in &mut self.entries {
            if before.verdict == Verdict::Soaking {
                before.verdict = Verdict::Replaced;
            }
        }
        if entry.how.is_of_file() {
            self.file = Some(entry.checksum);
        }
        self.trial = None;
        self.entries.push(entry);
        while self.entries.len() > KEPT && self.forget_one() {}
    }

    /// Adds the generation that comes into force now, with its trial until `until_ms` if there is one. `why_undone` is the
    /// reason why the generation before is given up, if it is.
    pub(crate) fn enter(&mut self, entry: Entry, why_undone: Option<String>, until_ms: Option<u64>, left: Left) {
        let Left { unavailable, mut weights } = left;
        let mut back_to = self.entries.last().map(|entry| entry.generation);
        // A generation that was itself on trial is no target of a rollback.
        if let Some(trial) = &self.trial {
            back_to = Some(trial.back_to);
            weights = weights.and(trial.weights.clone());
        }
        if let Some((why, left)) = why_undone.zip(self.entries.last_mut()) {
            left.verdict = Verdict::Undone(why);
        }
        let generation = entry.generation;
        self.push(entry);
        let trial = |(until_ms, back_to)| Trial { generation, back_to, until_ms, unavailable, weights };
        self.trial = until_ms.zip(back_to).map(trial);
    }

    /// Notes weights that an operator sets during a trial: they stay when it ends.
    pub(crate) fn weigh<'a>(&mut self, backends: impl Iterator<Item = &'a str>, word: Option<&WeightWord>) {
        if let Some(trial) = &mut self.trial {
            backends.for_each(|backend| trial.weights.set(backend, word.cloned()));
        }
    }

    /// Changes the number of a generation that was published again.
    pub(crate) fn renumber(&mut self, from: u64, to: u64) {
        if let Some(entry) = self.entry_mut(from) {
            entry.generation = to;
        }
        if let Some(trial) = self.trial.as_mut().filter(|trial| trial.generation == from) {
            trial.generation = to;
        }
    }

    /// The target of a rollback without a number: the last good generation with another text than the one in force, else
    /// the last one with another text that was not undone.
    pub(crate) fn rollback_target(&self, in_force: u64) -> Option<&Entry> {
        let now = self.entry(in_force).map(|entry| entry.checksum);
        let other = |entry: &&Entry| entry.generation < in_force && Some(entry.checksum) != now;
        let good = self.entries.iter().filter(other).rfind(|entry| entry.verdict == Verdict::Good);
        good.or_else(|| self.entries.iter().filter(other).rfind(|entry| !matches!(entry.verdict, Verdict::Undone(_))))
    }

    /// Forgets the oldest generation that may be forgotten; false if there is none.
    fn forget_one(&mut self) -> bool {
        let good = self.last_good().map(|entry| entry.generation);
        let back_to = self.trial.as_ref().map(|trial| trial.back_to);
        let newest = self.entries.last().map(|entry| entry.generation);
        let keeps = |entry: &Entry| [good, back_to, newest].contains(&Some(entry.generation));
        let oldest = self.entries.iter().position(|entry| !keeps(entry));
        oldest.map(|at| self.entries.remove(at)).is_some()
    }
}
