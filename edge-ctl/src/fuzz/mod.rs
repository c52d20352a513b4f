//! Properties of any bytes from outside: a configuration, a request to the API, and state that is read back from the
//! maps or the disk. For the fuzzer, and for the tests, which replay its corpus.
//!
//! Each check panics if its property does not hold.

mod request;
#[cfg(test)]
mod tests;

use std::io;

use crate::{
    config::{self, ConfigError},
    control::{
        change::{Entry, History},
        kept::{self, Kept},
    },
};

/// Upper bound on the bytes of an error: fifty problems, each with the faulty text and a correction.
const LONGEST_ERROR: usize = 64 << 10;

/// A reader of bytes from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Configuration,
    Request,
    State,
}

impl Reader {
    pub const ALL: [Self; 3] = [Self::Configuration, Self::Request, Self::State];

    /// The name of the reader's corpus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Request => "request",
            Self::State => "state",
        }
    }

    /// Reads `bytes` and checks the result.
    pub fn read(self, bytes: &[u8]) {
        match self {
            Self::Configuration => configuration(bytes),
            Self::Request => request::request(bytes),
            Self::State => state(bytes),
        }
    }
}

/// Checks the text of a configuration.
fn configuration(bytes: &[u8]) {
    match config::parse_bytes(bytes, "edge.toml") {
        Ok(config) => {
            assert_eq!(config.text.as_bytes(), bytes, "another text");
            assert_eq!(config::parse(&config.text, "edge.toml").ok(), Some(config), "another configuration");
        }
        Err(error) => check(&error.to_string()),
    }
}

/// Checks a history from the maps, and the file of the state directory.
fn state(bytes: &[u8]) {
    let mut history = History::decode(bytes);
    look(&history);
    let again = history.encode(usize::MAX);
    assert_eq!(History::decode(&again), history, "another history");
    history.align(7, "a text", 0);
    assert_eq!(history.entries.last().map(|entry| entry.generation), Some(7));
    look(&history);
    if let Ok(kept) = serde_json::from_slice::<Kept>(bytes) {
        let again = serde_json::to_vec(&kept).map(|json| serde_json::from_slice::<Kept>(&json).ok());
        assert_eq!(again.ok().flatten(), Some(kept.clone()), "another state");
        look(&kept.history);
        let nothing = ConfigError::Unreadable { file: "edge.toml".to_owned(), source: io::ErrorKind::NotFound.into() };
        // Without the texts there is nothing to choose, but the choice must terminate.
        let _none = kept::choose(Err(nothing.into()), Some(&kept)).is_ok();
    }
}

/// Makes every use of a history that the daemon makes after reading it.
fn look(history: &History) {
    for entry in &history.entries {
        let text = entry.text();
        assert!(text.is_none_or(|text| text.len() <= config::MAX_FILE));
        let _unused = (history.replaced("a text", entry.generation), history.rollback_target(entry.generation));
    }
    let _unused = (history.before_trial(), history.last_good().and_then(Entry::text));
}

/// Checks an error for display in a terminal: its length, and that it has no control characters.
fn check(error: &str) {
    assert!(!error.is_empty() && error.len() <= LONGEST_ERROR, "an error of {} bytes", error.len());
    assert!(!error.contains(|c: char| c.is_control() && c != '\n'), "{error:?}");
}
