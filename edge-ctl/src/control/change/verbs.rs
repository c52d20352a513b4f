//! Operations that change the configuration in force, the same for the daemon and for the command line without one.
//! Callers hold the lock.

use super::{Candidate, ChangeError, History, Planned, Rehearser, write_down};
use crate::{
    bpf::PinnedMaps,
    config::Backend,
    control::{events::Events, inventory::Inventory, operations::Outcome, status::Clock},
};

/// The result of a change.
pub(crate) struct Changed {
    /// The configuration that has come into force; `None` if the text is the one in force.
    pub(crate) inventory: Option<Inventory>,
    pub(crate) outcome: Outcome,
}

/// Brings `candidate` into force in place of `in_force`, unless their texts are the same.
pub(crate) fn change(
    maps: &mut PinnedMaps,
    in_force: &Inventory,
    history: &mut History,
    mut candidate: Candidate,
    rehearser: &mut Rehearser,
    events: &Events,
) -> Result<Changed, ChangeError> {
    candidate = candidate.weighted(&in_force.config.weights);
    // A way back may bring weights that the text on trial could not have.
    if candidate.config.text == in_force.config.text && candidate.config.weights == in_force.config.weights {
        let outcome = stay(maps, in_force.generation, history, &candidate, Clock::now())?;
        return Ok(Changed { inventory: None, outcome });
    }
    let (text_of, deadline) = (candidate.text_of, candidate.deadline());
    let vetted = Planned::new(maps, Some(in_force), candidate)?.vet(maps, rehearser, events)?;
    let mut warnings: Vec<_> = vetted.warning().into_iter().collect();
    let (inventory, diff) = vetted.publish(maps, history, Clock::now(), events)?;
    let origin = text_of.map_or(String::new(), |origin| format!(", with the text of generation {origin}"));
    let mut message = format!("generation {} is in force{origin}: {}", inventory.generation, diff.summary());
    if let Some(deadline) = deadline {
        message = format!("{message}\n{deadline}");
    }
    let overruled = inventory.config.overruled(&in_force.config);
    warnings.extend(overruled.map(|(name, Backend { weight, file_weight, .. })| {
        format!(
            "{name} keeps the weight {weight} that an operator has set, not the file's {file_weight}: \
             `edge-ctl weight {name} auto` removes the override"
        )
    }));
    Ok(Changed { inventory: Some(inventory), outcome: Outcome { changed: true, message, warnings } })
}

/// Applies the text of the generation in force once more: a trial goes on, for as long as the candidate says.
fn stay(
    maps: &PinnedMaps,
    generation: u64,
    history: &mut History,
    candidate: &Candidate,
    now: Clock,
) -> Result<Outcome, ChangeError> {
    let message = format!("the text is as before: generation {generation} stays");
    let until = candidate.words.until(now.boot_ms);
    let mut renewed = history.clone();
    let warning = match (&mut renewed.trial, until) {
        (None, None) => None,
        (None, Some(_)) => Some("it is on no trial, since the text was in force before".to_owned()),
        (Some(trial), None) => {
            let left = trial.until_ms.saturating_sub(now.boot_ms).div_ceil(1000);
            Some(format!("it is on trial for {left} s more, and undone then: `edge-ctl confirm` keeps it"))
        }
        (Some(trial), Some(until)) => {
            trial.until_ms = until;
            write_down(maps, &mut renewed)?;
            *history = renewed;
            let message = [message, candidate.deadline().unwrap_or_default()].join("\n");
            return Ok(Outcome { changed: true, message, warnings: Vec::new() });
        }
    };
    Ok(Outcome { changed: false, message, warnings: warning.into_iter().collect() })
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
