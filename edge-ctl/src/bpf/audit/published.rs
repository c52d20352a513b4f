//! `PUBLISHED`, which names the bank and the generation in force.

use std::sync::atomic::Ordering;

use edge_common::abi::Generation;

use crate::{
    bpf::{PinnedMaps, maps::Maps, publish::next_edition_of},
    plan::Edition,
};

/// The publication in force at the last look.
#[derive(Clone, Copy, Debug)]
pub(in crate::bpf) struct Known {
    bank: u32,
    generation: Generation,
    edition: Edition,
}

impl PinnedMaps {
    /// Notes the publication in force, so that it can be stored again.
    pub(in crate::bpf) fn know_published(&mut self) {
        let Some((bank, generation)) = self.maps.published() else { return };
        self.audited.published = Some(Known { bank, generation, edition: self.edition() });
    }

    /// Stores the publication in force again if `PUBLISHED` has none, an earlier one, or one without a snapshot: no writer
    /// publishes such a generation. Returns whether it was stored.
    pub(crate) fn repair_published(&mut self) -> bool {
        let Some(Known { bank, generation, edition: Edition(before) }) = self.audited.published else {
            self.know_published();
            return false;
        };
        let found = self.generation();
        if found == generation.number || found > generation.number && self.snapshot().is_ok() {
            self.know_published();
            return false;
        }
        let Some(word) = self.maps.edition() else { return false };
        // An edition that no plan is based on.
        let Edition(now) = self.edition();
        let next = next_edition_of(before.max(now), bank);
        // The map has one value, with two banks.
        let _in_range = self.maps.published.write_part(0, Maps::generation(bank), generation);
        word.store(next, Ordering::Release);
        true
    }
}
