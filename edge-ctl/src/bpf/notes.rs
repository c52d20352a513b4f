//! Notes for the operator: since when and why something is in its state.

use std::borrow::Cow;

use edge_common::abi::{BackendNumber, Note};

use super::{PinnedMaps, clock::boot_ms};

impl PinnedMaps {
    /// Since when and why a backend is in its state.
    pub(crate) fn note(&self, number: BackendNumber) -> Note {
        self.maps.notes.read(number.into()).unwrap_or(note(0, ""))
    }

    pub(super) fn write_note(&self, number: BackendNumber, text: &str) {
        // A missing note does no harm: notes are only displayed.
        let _past_the_end = self.maps.notes.write(number.into(), note(boot_ms(), text));
    }
}

/// A note of `text`, truncated to fit.
pub(super) fn note(changed_ms: u64, text: &str) -> Note {
    let mut note = Note { changed_ms, reason: [0; 120] };
    let length = text.floor_char_boundary(note.reason.len());
    note.reason[..length].copy_from_slice(&text.as_bytes()[..length]);
    note
}

/// The text of a note.
pub(crate) fn text_of(note: &Note) -> Cow<'_, str> {
    let end = note.reason.iter().position(|byte| *byte == 0).unwrap_or(note.reason.len());
    String::from_utf8_lossy(&note.reason[..end])
}
