//! Chooses the configuration of a cold start: the file, or the one in force before the reboot. Pure.

#![deny(clippy::disallowed_methods)]

use super::Kept;
use crate::{
    config::{self, Config},
    control::change::{Candidate, ChangeError, Entry, Findings, History, How, Verdict, Words},
};

/// The configuration to start with.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) candidate: Candidate,
    pub(crate) history: History,
    /// Why the file is not in force.
    pub(crate) refused: Option<ChangeError>,
}

/// Chooses between the file and the kept generations.
///
/// # Errors
/// When the file is bad, and no kept generation is usable.
pub(crate) fn choose(file: Result<Candidate, ChangeError>, kept: Option<&Kept>) -> Result<Choice, ChangeError> {
    let nothing = Kept::default();
    let kept = kept.unwrap_or(&nothing);
    let mut history = kept.history.clone();
    let before = back_from_trial(&mut history, kept.generation);
    let old = config_of(&history, before);
    let judged = match file {
        Ok(file) => match old.as_ref().map_or(Ok(()), |old| judge(&file, old, before, &history, kept)) {
            Ok(()) => return Ok(Choice { candidate: file, history, refused: None }),
            Err(error) => error,
        },
        Err(error) => error,
    };
    let old = old.map(|config| (before, config));
    let good = history.last_good().map(|entry| entry.generation);
    let good = good.and_then(|generation| Some((generation, config_of(&history, generation)?)));
    // A configuration that an operator has put in the file's place stays; a bad file is replaced by one that is known
    // to be good.
    let chosen = if matches!(judged, ChangeError::Replaced { .. }) { old.or(good) } else { good.or(old) };
    let Some((generation, config)) = chosen else { return Err(judged) };
    let file = history.entry(generation).and_then(|entry| entry.file.clone());
    let candidate =
        Candidate { config, how: How::Restored, file, words: Words::default(), text_of: Some(generation), host: None };
    Ok(Choice { candidate, history, refused: Some(judged) })
}

/// The generation that was in force, or the one before if that was on trial: a reboot does not confirm a trial.
fn back_from_trial(history: &mut History, in_force: u64) -> u64 {
    let Some(trial) = history.trial.take().filter(|trial| trial.generation == in_force) else { return in_force };
    if let Some(entry) = history.entry_mut(in_force) {
        entry.verdict = Verdict::Undone("the host was restarted before the change was confirmed".to_owned());
    }
    trial.back_to
}

/// Whether the file may come into force after the earlier configuration.
fn judge(file: &Candidate, old: &Config, before: u64, history: &History, kept: &Kept) -> Result<(), ChangeError> {
    if let Some(why) = history.replaced(&file.config.text, before) {
        return Err(ChangeError::Replaced { why });
    }
    let addresses = |word: &str| {
        let (pool, name) = word.split_once('/').unwrap_or_default();
        let pools = old.pools.iter().filter(|known| config::is_meant(pool, &known.name));
        let backends = pools.flat_map(|pool| &pool.backends).filter(|backend| backend.name == name);
        let name = config::configured_backend(word);
        backends.map(|backend| (name.clone(), backend.address)).collect::<Vec<_>>()
    };
    let words = kept.backends.iter().map(|word| word.name.as_str());
    let decided = words.chain(kept.forced.iter().map(|word| word.name.as_str())).flat_map(addresses);
    Ok(Findings::of(old, &file.config, &decided.collect::<Vec<_>>()).judge(How::Start, &Words::default())?)
}

fn config_of(history: &History, generation: u64) -> Option<Config> {
    let text = history.entry(generation).and_then(Entry::text)?;
    config::parse_accepted(&text, &format!("generation {generation}")).ok()
}
