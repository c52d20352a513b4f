//! The history in the maps: read in line with what is published, and written so that a writer that is killed loses nothing of it.

use super::History;
use crate::{
    bpf::{BpfError, PinnedMaps},
    control::{inventory::Inventory, status::Clock},
};

/// What is known of the generations before, in line with the one in force.
pub(crate) fn recall(maps: &PinnedMaps, in_force: &Inventory, now: Clock) -> History {
    let mut histories = maps.histories().into_iter().map(|bank| History::decode(&bank.bytes));
    let newest = histories.next().unwrap_or_default();
    // A writer that was killed behind its note leaves what was before it in the other bank: the trial with it.
    let mut history = match histories.next() {
        Some(before) if newest.is_note(in_force.generation) => before,
        _ => newest,
    };
    history.align(in_force.generation, &in_force.config.text, now.unix_ms);
    history
}

/// Writes the history down, and leaves what the generation in force came with until it is whole.
///
/// # Errors
/// When there is no room for it.
pub(crate) fn write_down(maps: &PinnedMaps, history: &mut History) -> Result<(), BpfError> {
    let histories = maps.histories();
    let is_note = histories.first().is_some_and(|bank| History::decode(&bank.bytes).is_note(maps.generation()));
    let keep = histories.get(usize::from(is_note)).or(histories.first());
    maps.write_history(&history.encode(maps.history_room()), keep)
}
