//! What was in force: the texts of the last generations, how each came and what became of it, and the trial that is under way.
//! In the maps it lies beside the generation, and on disk for a cold start. Pure.

#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::sync::Arc;

use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};
use serde::{Deserialize, Serialize};

use super::How;
use crate::{config::MAX_FILE, control::evacuation::Evacuation};

/// Generations that are kept at least, where there is room; the last good one is kept beside them.
const KEPT: usize = 10;

/// Generations, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct History {
    pub(crate) entries: Vec<Entry>,
    pub(crate) trial: Option<Trial>,
    /// Checksum of the text of the daemon's file that was in force last. A start does not take that text again: what an
    /// operator has put in its place since stays.
    pub(crate) file: Option<u32>,
    /// Pools that operators have evacuated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) evacuations: Vec<Evacuation>,
}

/// A generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) generation: u64,
    /// Milliseconds since 1970, UTC. For people.
    pub(crate) at: u64,
    pub(crate) how: How,
    /// The earlier generation that has the same text, where it was brought back.
    pub(crate) text_of: Option<u64>,
    pub(crate) file: Option<String>,
    pub(crate) by: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) verdict: Verdict,
    /// CRC-32 of the text.
    pub(crate) checksum: u32,
    /// Bytes of the packed text.
    pub(crate) packed: usize,
    #[serde(skip)]
    pub(crate) text: Arc<[u8]>,
}

/// What became of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// In force, and not for long enough to be called good.
    Soaking,
    /// No service has lost availability while it was in force, for the time of the soak.
    Good,
    /// Another one came before it was good.
    Replaced,
    /// It was undone, and why.
    Undone(String),
}

/// A generation that is undone unless it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trial {
    pub(crate) generation: u64,
    /// The generation whose text comes back.
    pub(crate) back_to: u64,
    /// Milliseconds of `CLOCK_BOOTTIME`, which no clock step moves and no restart of the controller.
    pub(crate) until_ms: u64,
    /// `POOL/BACKEND` of those that took no new flows before.
    pub(crate) unavailable: Vec<String>,
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

    /// Keeps `text`.
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

/// Of a text.
pub(crate) fn checksum(text: &str) -> u32 {
    crc32fast::hash(text.as_bytes())
}

impl History {
    /// From the bytes that [`encode`](Self::encode) made; empty for others.
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

    /// As bytes: the length of a JSON object, the object, the packed texts. The oldest are left out where `room` is too little.
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

    /// Whether it was written for a generation that has not come into force after `published`.
    pub(crate) fn is_note(&self, published: u64) -> bool {
        self.entries.last().is_some_and(|entry| entry.generation > published)
    }

    pub(crate) fn entry(&self, generation: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.generation == generation)
    }

    pub(crate) fn entry_mut(&mut self, generation: u64) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.generation == generation)
    }

    /// The text that comes back if what is on trial is not confirmed.
    pub(crate) fn before_trial(&self) -> Option<String> {
        self.entry(self.trial.as_ref()?.back_to)?.text()
    }

    /// The last good generation.
    pub(crate) fn last_good(&self) -> Option<&Entry> {
        self.entries.iter().rfind(|entry| entry.verdict == Verdict::Good)
    }

    /// Brings it in line with the published generation and its text: a writer may have been killed between the two, or may keep
    /// no history.
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

    /// Why a start does not take this text of the daemon's file: it was in force, and an operator has put something else in its
    /// place, or it was undone.
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
                    "it is as it was when it was read last, and {how} has put generation {in_force} in its place"
                ))
            }
            None => None,
        }
    }

    /// A generation comes into force after all others.
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

    /// The same generation was published again, under another number.
    pub(crate) fn renumber(&mut self, from: u64, to: u64) {
        if let Some(entry) = self.entry_mut(from) {
            entry.generation = to;
        }
        if let Some(trial) = self.trial.as_mut().filter(|trial| trial.generation == from) {
            trial.generation = to;
        }
    }

    /// Where a rollback without a number goes: to the last good generation that has another text than the one in force, else to
    /// the last one that has and was not undone.
    pub(crate) fn rollback_target(&self, in_force: u64) -> Option<&Entry> {
        let now = self.entry(in_force).map(|entry| entry.checksum);
        let other = |entry: &&Entry| entry.generation < in_force && Some(entry.checksum) != now;
        let good = self.entries.iter().filter(other).rfind(|entry| entry.verdict == Verdict::Good);
        good.or_else(|| self.entries.iter().filter(other).rfind(|entry| !matches!(entry.verdict, Verdict::Undone(_))))
    }

    /// Forgets the oldest generation that may be forgotten.
    fn forget_one(&mut self) -> bool {
        let good = self.last_good().map(|entry| entry.generation);
        let back_to = self.trial.as_ref().map(|trial| trial.back_to);
        let newest = self.entries.last().map(|entry| entry.generation);
        let keeps = |entry: &Entry| [good, back_to, newest].contains(&Some(entry.generation));
        let oldest = self.entries.iter().position(|entry| !keeps(entry));
        oldest.map(|at| self.entries.remove(at)).is_some()
    }
}
