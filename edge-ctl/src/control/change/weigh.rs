//! Weights set by operators: the same text, published again with other tables. A text on trial stays on trial, and a
//! good one good; new flows follow the new weights, and established flows stay, as after any change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Candidate, ChangeError, History, How, Moves, Plan, Planned, Rehearser, Words};
use crate::{
    bpf::PinnedMaps,
    config::{Config, WeightWord, configured_backend},
    control::{
        events::{EventKind, Events},
        few,
        inventory::{Inventory, Named},
        operations::{MAX_REASON, OperationError, Outcome},
    },
};

/// Most names of each kind in a message.
const NAMED: usize = 8;

/// An operator's request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Weigh {
    pub(crate) backends: Vec<String>,
    /// `None` for the file's weight.
    pub(crate) weight: Option<u32>,
    pub(crate) reason: Option<String>,
}

/// Why weights stay as they are.
#[derive(Debug, Error)]
pub(crate) enum WeighError {
    #[error(transparent)]
    Operation(#[from] OperationError),
    #[error(transparent)]
    Change(Box<ChangeError>),
}

impl From<ChangeError> for WeighError {
    fn from(error: ChangeError) -> Self {
        Self::Change(Box::new(error))
    }
}

/// The result of a request.
pub(crate) struct Weighed {
    /// `None` if the backends had these weights already.
    pub(crate) inventory: Option<Inventory>,
    pub(crate) outcome: Outcome,
}

/// A configuration with other weights, and the changes.
struct Wanted {
    config: Config,
    changes: Changes,
}

/// By name: the operator's weight before, the weight before, the weight now.
type Changes = BTreeMap<String, (Option<WeightWord>, u32, u32)>;

/// Publishes the configuration in force with these weights.
///
/// # Errors
/// Nothing has changed then.
pub(crate) fn weigh(
    maps: &mut PinnedMaps,
    in_force: &Inventory,
    history: &mut History,
    wanted: &Weigh,
    rehearser: &mut Rehearser,
    events: &Events,
) -> Result<Weighed, WeighError> {
    let Wanted { config, changes } = look_up(in_force, wanted)?;
    if changes.is_empty() {
        return Ok(Weighed { inventory: None, outcome: as_before(in_force, wanted) });
    }
    let flows = Plan::exactly(maps, in_force, &config)?.flows;
    // The operator has named the backends, and the rest of the text is as it was.
    let words = Words { allow_removal: u32::MAX, ..Words::default() };
    let candidate = Candidate { config, how: How::Reload, file: None, words, text_of: None, host: None };
    let vetted = Planned::new(maps, Some(in_force), candidate)?.vet(maps, rehearser, events)?;
    let warnings = vetted.warning().into_iter().collect();
    let before = history.clone();
    note(history, wanted, &changes);
    let inventory = vetted.republish(maps, history, in_force.generation, events).inspect_err(|_| *history = before)?;
    let names: Vec<_> = changes.keys().map(String::as_str).collect();
    let reason = wanted.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    let reason = match wanted.weight {
        Some(weight) => format!("weight {weight}, set by an operator{reason}"),
        None => format!("the file's weight again, set by an operator{reason}"),
    };
    events.report(EventKind::WeightChanged, &few(&names, NAMED), reason);
    let outcome = Outcome { changed: true, message: message(&changes, &flows), warnings };
    Ok(Weighed { inventory: Some(inventory), outcome })
}

/// The configuration that [`weigh`] publishes, noted in the history; `None` if it publishes none.
#[cfg(test)]
pub(crate) fn weighed(
    in_force: &Inventory,
    history: &mut History,
    wanted: &Weigh,
) -> Result<Option<Config>, OperationError> {
    let Wanted { config, changes } = look_up(in_force, wanted)?;
    note(history, wanted, &changes);
    Ok((!changes.is_empty()).then_some(config))
}

/// Notes the weights for the end of a trial.
fn note(history: &mut History, Weigh { weight, reason, .. }: &Weigh, changes: &Changes) {
    let word = weight.map(|weight| WeightWord { weight, reason: reason.clone() });
    history.weigh(changes.keys().map(String::as_str), word.as_ref());
}

/// The result of [`weigh`] if it were done.
///
/// # Errors
/// As [`weigh`], except for errors of the rehearsal.
pub(crate) fn would_weigh(maps: &PinnedMaps, in_force: &Inventory, wanted: &Weigh) -> Result<Outcome, WeighError> {
    let Wanted { config, changes } = look_up(in_force, wanted)?;
    if changes.is_empty() {
        return Ok(as_before(in_force, wanted));
    }
    let flows = Plan::exactly(maps, in_force, &config)?.flows;
    Ok(Outcome { changed: true, message: message(&changes, &flows), warnings: Vec::new() })
}

fn look_up(in_force: &Inventory, Weigh { backends, weight, reason }: &Weigh) -> Result<Wanted, OperationError> {
    let length = reason.as_ref().map_or(0, String::len);
    if length > MAX_REASON {
        return Err(OperationError::Reason { length });
    }
    if let Some(weight) = weight.filter(|weight| !(1..=65_535).contains(weight)) {
        return Err(OperationError::Weight { weight });
    }
    let mut weights = in_force.config.weights.clone();
    let mut named = Vec::new();
    for word in backends {
        let Named { name, retired, .. } = in_force.backend(word)?;
        if retired {
            return Err(OperationError::Retired { name });
        }
        let name = configured_backend(&name);
        weights.set(&name, weight.map(|weight| WeightWord { weight, reason: reason.clone() }));
        named.push(name);
    }
    let config = in_force.config.clone().weighted(&weights);
    let weight_of = |config: &Config, name: &str| {
        config.named_backends().find(|(found, _)| found == name).map_or(0, |(_, backend)| backend.weight)
    };
    let change = |name: String| {
        let word = in_force.config.weights.get(&name);
        let is_new = word != config.weights.get(&name);
        let both = (word.cloned(), weight_of(&in_force.config, &name), weight_of(&config, &name));
        is_new.then_some((name, both))
    };
    let changes = named.into_iter().filter_map(change).collect();
    Ok(Wanted { config, changes })
}

fn as_before(in_force: &Inventory, wanted: &Weigh) -> Outcome {
    let names: Vec<_> = wanted.backends.iter().filter_map(|word| Some(in_force.backend(word).ok()?.name)).collect();
    let message = match wanted.weight {
        Some(weight) => format!("the weight of {} is {weight} already", few(&names, NAMED)),
        None => format!("the weight of {} is the file's already", few(&names, NAMED)),
    };
    Outcome { changed: false, message, warnings: Vec::new() }
}

fn message(changes: &Changes, flows: &[Moves]) -> String {
    let mut lines = Vec::new();
    for (name, (word, before, now)) in changes {
        let was = if word.is_some() { "" } else { ", the file's" };
        lines.push(format!("{name}: weight {now}, before {before}{was}"));
    }
    // Grouped, since similar services get the same text.
    let mut shares: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for moves in flows.iter().filter(|moves| moves.new_flows > 0.0) {
        shares.entry(format!("{:.1} %", moves.new_flows * 100.0)).or_default().push(&moves.service);
    }
    for (share, services) in &shares {
        lines.push(format!("  {share} of the new flows go to another backend: {}", few(services, NAMED)));
    }
    let fate = if shares.is_empty() {
        "  no flow goes elsewhere: no service has the pool, or it has one backend"
    } else {
        "  established flows stay where they are"
    };
    lines.push(fate.to_owned());
    let mut undo: BTreeMap<Option<u32>, Vec<&str>> = BTreeMap::new();
    for (name, (word, ..)) in changes {
        undo.entry(word.as_ref().map(|word| word.weight)).or_default().push(name);
    }
    for (weight, names) in undo {
        let weight = weight.map_or("auto".to_owned(), |weight| weight.to_string());
        lines.push(format!("undo: edge-ctl weight {} {weight}", names.join(" ")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{fixture::inventory, inventory::NameError};

    fn wanted(backends: &[&str], weight: Option<u32>) -> Weigh {
        Weigh { backends: backends.iter().map(|&name| name.to_owned()).collect(), weight, reason: None }
    }

    #[test]
    fn weights_of_several_are_changed_together_and_undone_as_they_were() {
        let mut in_force = inventory();
        let first = look_up(&in_force, &wanted(&["a1"], Some(20))).unwrap();
        in_force.config = first.config;
        let both = look_up(&in_force, &wanted(&["provider-a/a1", "a2", "a1"], Some(30))).unwrap();
        let moves = Moves { service: "web".to_owned(), new_flows: 0.125, running_flows: 0.0 };
        assert_eq!(
            message(&both.changes, &[moves]),
            "provider-a/a1: weight 30, before 20\n\
             provider-a/a2: weight 30, before 100, the file's\n  \
             12.5 % of the new flows go to another backend: web\n  \
             established flows stay where they are\n\
             undo: edge-ctl weight provider-a/a2 auto\n\
             undo: edge-ctl weight provider-a/a1 20"
        );
    }

    #[test]
    fn what_is_so_already_changes_nothing() {
        let in_force = inventory();
        for (name, weight) in [("a1", None), ("a1", Some(100)), ("provider-a/shared", Some(50))] {
            assert!(look_up(&in_force, &wanted(&[name], weight)).unwrap().changes.is_empty(), "{name} {weight:?}");
        }
    }

    #[test]
    fn no_weight_and_no_backend_are_refused() {
        let in_force = inventory();
        for weight in [0, 65_536] {
            let refused = look_up(&in_force, &wanted(&["a1"], Some(weight)));
            assert!(matches!(refused, Err(OperationError::Weight { .. })));
        }
        let refused = look_up(&in_force, &wanted(&["a1", "nobody"], Some(1)));
        assert!(matches!(refused, Err(OperationError::Name(NameError::NoSuchBackend { .. }))));
    }
}
