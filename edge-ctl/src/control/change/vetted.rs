//! A candidate that was rehearsed. It is staged in the maps, and can be published once.

use super::{Candidate, ChangeError, Diff, Entry, History, RehearsalError, history::Left, write_down};
use crate::{
    bpf::{BpfError, PinnedMaps, Staged},
    control::{
        chain,
        events::{EventKind, Events},
        inventory::Inventory,
        status::Clock,
    },
    plan::Image,
};

/// Remains valid until something that it depends on changes.
pub(crate) struct Vetted {
    pub(super) candidate: Candidate,
    pub(super) image: Image,
    pub(super) staged: Staged,
    pub(super) diff: Diff,
    pub(super) left: Left,
    /// Why its rehearsal is no evidence for it.
    pub(super) doubt: Option<RehearsalError>,
}

impl Vetted {
    /// A warning about the rehearsal for the operator.
    pub(crate) fn warning(&self) -> Option<String> {
        self.doubt.as_ref().map(|doubt| format!("it came into force all the same: {}", chain(doubt)))
    }

    /// Writes the new generation into the history and publishes it. If the process is killed between the two, the
    /// history has an entry for a generation that does not exist.
    ///
    /// # Errors
    /// When anything has changed since the candidate was planned; nothing is published then.
    pub(crate) fn publish(
        self,
        maps: &mut PinnedMaps,
        history: &mut History,
        now: Clock,
        events: &Events,
    ) -> Result<(Inventory, Diff), ChangeError> {
        let warning = self.warning();
        let why_undone = self.candidate.why_undone();
        let Self { candidate, image, staged, diff, left, .. } = self;
        let Candidate { config, how, file, words, text_of, host: _ } = candidate;
        let generation = image.snapshot.generation;
        let inventory = Inventory::new(config, &image.snapshot)?;
        let before = history.clone();
        let until = words.until(now.boot_ms);
        let entry = Entry {
            text_of,
            file,
            by: words.by,
            reason: words.reason,
            ..Entry::new(generation, now.unix_ms, how, &inventory.config.text)
        };
        history.enter(entry, why_undone, until, left);
        activate(maps, history, before, &image, staged, events)?;
        let (services, pools) = (inventory.config.services.len(), inventory.config.pools.len());
        let message = format!(
            "{services} services, {pools} pools, {} backends by {}; {}",
            inventory.members().count(),
            how.name(),
            diff.summary()
        );
        events.report(EventKind::ConfigApplied, &format!("generation {generation}"), message);
        if let Some(warning) = warning {
            events.report(EventKind::LocalFault, "rehearsal", warning);
        }
        Ok((inventory, diff))
    }

    /// Publishes the text of generation `before` again: the results of that generation also apply to the new one.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub(crate) fn republish(
        self,
        maps: &mut PinnedMaps,
        history: &mut History,
        before: u64,
        events: &Events,
    ) -> Result<Inventory, ChangeError> {
        let Self { candidate: Candidate { config, .. }, image, staged, .. } = self;
        let inventory = Inventory::new(config, &image.snapshot)?;
        let known = history.clone();
        history.renumber(before, inventory.generation);
        activate(maps, history, known, &image, staged, events)?;
        Ok(inventory)
    }
}

/// Writes `history`, which has the staged generation already, and then makes the generation active: it must not come
/// into force without its trial. From then on the history stays as it is, and a fault is reported.
///
/// # Errors
/// If the generation is not in force: the history is the one `before` then.
pub(crate) fn activate(
    maps: &mut PinnedMaps,
    history: &mut History,
    before: History,
    image: &Image,
    staged: Staged,
    events: &Events,
) -> Result<(), BpfError> {
    let active = write_down(maps, history).and_then(|()| maps.make_active(image, staged));
    let settled = active.inspect_err(|_| {
        *history = before;
        // If this fails, too, the history has an entry for a generation that does not exist.
        let _stays = write_down(maps, history);
    })?;
    if let Err(error) = settled {
        let message = format!("it is in force, but states and timeouts are not all in line with it: {}", chain(&error));
        events.report(EventKind::LocalFault, &format!("generation {}", image.generation.number), message);
    }
    Ok(())
}
