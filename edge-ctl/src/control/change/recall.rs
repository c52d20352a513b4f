//! The history in the maps: reads it, aligned with the published generation, and writes it such that a writer that is
//! killed loses none of it.

use super::History;
use crate::{
    bpf::{BpfError, PinnedMaps},
    control::{inventory::Inventory, status::Clock},
};

/// Reads the history, and aligns it with the generation in force.
pub(crate) fn recall(maps: &PinnedMaps, in_force: &Inventory, now: Clock) -> History {
    let mut histories = maps.histories().into_iter().map(|bank| History::decode(&bank.bytes));
    let newest = histories.next().unwrap_or_default();
    // A writer that was killed after it wrote its note leaves the earlier history, with the trial, in the other bank.
    let mut history = match histories.next() {
        Some(before) if newest.is_note(in_force.generation) => before,
        _ => newest,
    };
    history.align(in_force.generation, &in_force.config.text, now.unix_ms);
    history
}

/// Writes the history. The history that the generation in force came with stays until the new one is complete.
///
/// # Errors
/// If the history does not fit into its map.
pub(crate) fn write_down(maps: &PinnedMaps, history: &mut History) -> Result<(), BpfError> {
    let histories = maps.histories();
    let is_note = histories.first().is_some_and(|bank| History::decode(&bank.bytes).is_note(maps.generation()));
    let keep = histories.get(usize::from(is_note)).or(histories.first());
    maps.write_history(&history.encode(maps.history_room()), keep)
}
