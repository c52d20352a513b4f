//! Ways back: candidates that bring the text of an earlier generation into force again. Pure.

#![deny(clippy::disallowed_methods)]

use super::{Candidate, ChangeError, Entry, History, How, Words};
use crate::{bpf::BpfError, config};

/// The way back to generation `to`, or else to the last good generation, by an operator.
///
/// # Errors
/// When there is no such generation, or its text cannot be used any more.
pub(crate) fn roll_back(
    history: &History,
    in_force: u64,
    to: Option<u64>,
    words: Words,
) -> Result<Candidate, ChangeError> {
    let target = match to {
        Some(to) => history.entry(to),
        None => history.rollback_target(in_force),
    };
    let known = || {
        let known: Vec<_> = history.entries.iter().map(|entry| entry.generation.to_string()).collect();
        ChangeError::NothingToGoBackTo {
            known: Some(format!("the generations that are kept are {}", known.join(", "))),
        }
    };
    let to = target.map(|entry| entry.generation).ok_or_else(known)?;
    way_back(history, to, How::Rollback, words)
}

/// The way back from the generation on trial, with the weights that operators have set before and meanwhile.
///
/// # Errors
/// When no generation is on trial, or the earlier text cannot be used any more.
pub(crate) fn undo(history: &History, why: &str) -> Result<Candidate, ChangeError> {
    let trial = history.trial.as_ref().ok_or(ChangeError::NoTrial)?;
    let words = Words { reason: Some(why.to_owned()), ..Words::default() };
    let candidate = way_back(history, trial.back_to, How::Undo, words)?;
    Ok(Candidate { config: candidate.config.weighted(&trial.weights), ..candidate })
}

fn way_back(history: &History, to: u64, how: How, words: Words) -> Result<Candidate, ChangeError> {
    let damaged = || BpfError::Snapshot { what: format!("the text of generation {to} in the history is not whole") };
    let text = history.entry(to).and_then(Entry::text).ok_or_else(damaged)?;
    let config = config::parse_accepted(&text, &format!("generation {to}"))?;
    Ok(Candidate { config, how, file: None, words, text_of: Some(to), host: None })
}
