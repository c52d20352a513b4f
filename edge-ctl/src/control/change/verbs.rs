//! Operations that change the configuration in force, the same for the daemon and for the command line without one.
//! Callers hold the lock.

use super::{Candidate, ChangeError, Diff, History, How, Planned, Rehearser, Verdict, Words, write_down};
use crate::{
    bpf::{BpfError, PinnedMaps},
    config::{self, Backend},
    control::{events::Events, inventory::Inventory, operations::Outcome, status::Clock},
};

/// A generation that has come into force.
pub(crate) struct Changed {
    pub(crate) inventory: Inventory,
    pub(crate) outcome: Outcome,
}

/// Brings `candidate` into force in place of `in_force`; `None` if they are the same.
pub(crate) fn change(
    maps: &mut PinnedMaps,
    in_force: &Inventory,
    history: &mut History,
    mut candidate: Candidate,
    rehearser: &mut Rehearser,
    events: &Events,
) -> Result<Option<Changed>, ChangeError> {
    if candidate.config.text == in_force.config.text {
        return Ok(None);
    }
    let confirm = candidate.words.confirm();
    candidate.config = candidate.config.weighted(&in_force.config.weights);
    let vetted = Planned::new(maps, Some(in_force), candidate)?.vet(maps, rehearser, events)?;
    let mut warnings: Vec<_> = vetted.warning().into_iter().collect();
    let (inventory, diff) = vetted.publish(maps, history, None, Clock::now(), events)?;
    let mut message = format!("generation {} is in force: {}", inventory.generation, diff.summary());
    if let Some(confirm) = confirm {
        let confirm = humantime::format_duration(confirm);
        message = format!("{message}\nit is undone in {confirm}, unless `edge-ctl confirm` comes before");
    }
    let overruled = inventory.config.overruled(&in_force.config);
    warnings.extend(overruled.map(|(name, Backend { weight, file_weight, .. })| {
        format!(
            "{name} keeps the weight {weight} that an operator has set, not the file's {file_weight}: \
             `edge-ctl weight {name} auto` removes the override"
        )
    }));
    let outcome = Outcome { changed: true, message, warnings };
    Ok(Some(Changed { inventory, outcome }))
}

/// Keeps the generation that is on trial.
pub(crate) fn confirm(maps: &PinnedMaps, history: &mut History) -> Result<Outcome, ChangeError> {
    let trial = history.trial.clone().ok_or(ChangeError::NoTrial)?;
    let mut confirmed = History { trial: None, ..history.clone() };
    write_down(maps, &mut confirmed)?;
    *history = confirmed;
    let message = format!("generation {} is confirmed, and stays", trial.generation);
    Ok(Outcome { changed: true, message, warnings: Vec::new() })
}

/// Brings the text of generation `to` back into force, or else of the last good generation.
pub(crate) fn roll_back(
    maps: &mut PinnedMaps,
    in_force: &Inventory,
    history: &mut History,
    to: Option<u64>,
    words: Words,
    rehearser: &mut Rehearser,
    events: &Events,
) -> Result<Option<Changed>, ChangeError> {
    let target = match to {
        Some(to) => history.entry(to),
        None => history.rollback_target(in_force.generation),
    };
    let known = || {
        let known: Vec<_> = history.entries.iter().map(|entry| entry.generation.to_string()).collect();
        ChangeError::NothingToGoBackTo {
            known: Some(format!("the generations that are kept are {}", known.join(", "))),
        }
    };
    let to = target.map(|entry| entry.generation).ok_or_else(known)?;
    let why = match &words.reason {
        Some(reason) => format!("rolled back by an operator: {reason}"),
        None => "rolled back by an operator".to_owned(),
    };
    go_back(maps, in_force, history, to, How::Rollback, &why, words, rehearser, events)
}

/// Reverts the generation on trial.
pub(crate) fn undo(
    maps: &mut PinnedMaps,
    in_force: &Inventory,
    history: &mut History,
    why: &str,
    rehearser: &mut Rehearser,
    events: &Events,
) -> Result<Option<Changed>, ChangeError> {
    let trial = history.trial.as_ref().ok_or(ChangeError::NoTrial)?;
    let words = Words { reason: Some(why.to_owned()), ..Words::default() };
    go_back(maps, in_force, history, trial.back_to, How::Undo, why, words, rehearser, events)
}

#[expect(clippy::too_many_arguments, reason = "two callers, both above")]
fn go_back(
    maps: &mut PinnedMaps,
    in_force: &Inventory,
    history: &mut History,
    to: u64,
    how: How,
    why: &str,
    words: Words,
    rehearser: &mut Rehearser,
    events: &Events,
) -> Result<Option<Changed>, ChangeError> {
    let damaged = || BpfError::Snapshot { what: format!("the text of generation {to} in the history is not whole") };
    let text = history.entry(to).and_then(super::Entry::text).ok_or_else(damaged)?;
    if text == in_force.config.text {
        return Ok(None);
    }
    let config = config::parse(&text, &format!("generation {to}"))?.weighted(&in_force.config.weights);
    let planned = Planned::new(maps, Some(in_force), Candidate { config, how, file: None, words })?;
    let vetted = planned.vet(maps, rehearser, events)?;
    let warnings = vetted.warning().into_iter().collect();
    let before = history.clone();
    if let Some(entry) = history.entry_mut(in_force.generation) {
        entry.verdict = Verdict::Undone(why.to_owned());
    }
    let published = vetted.publish(maps, history, Some(to), Clock::now(), events);
    let (inventory, diff): (_, Diff) = published.inspect_err(|_| *history = before)?;
    let message = format!(
        "generation {} is in force, with the text of generation {to}: {}",
        inventory.generation,
        diff.summary()
    );
    Ok(Some(Changed { inventory, outcome: Outcome { changed: true, message, warnings } }))
}
