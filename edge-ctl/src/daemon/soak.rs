//! Judges a generation after it came into force: good after a soak, or the cause of a loss of its services.

#![deny(clippy::disallowed_methods)]
#![deny(clippy::wildcard_enum_match_arm)]

use crate::{
    config,
    control::{
        change::{Doubts, History, Verdict, Watch},
        data_plane::DataPlane,
    },
};

use super::{controller::Controller, program::Program};

/// The generation in force, under watch.
#[derive(Debug, Default)]
pub(super) struct Soak {
    watch: Option<Watch>,
}

impl Soak {
    /// Starts to watch a generation that has come into force. `now_ms` is in milliseconds of `CLOCK_BOOTTIME`.
    /// `program` is as it was before, not yet attached to the interfaces of that generation.
    pub(super) fn start<P: DataPlane>(
        &mut self,
        controller: &Controller<P>,
        program: &Program,
        history: &History,
        now_ms: u64,
    ) {
        let Controller { inventory, plane, .. } = controller;
        let before =
            history.before_trial().and_then(|text| config::parse_accepted(&text, "the configuration before").ok());
        let (last, doubts) = (self.watch.take(), doubts(controller, program));
        self.watch = Some(Watch::start(last, inventory, plane, before.as_ref(), history, &doubts, now_ms));
    }

    /// Looks at the services, once a second. Returns whether the generation is good as of now.
    pub(super) fn tick<P: DataPlane>(
        &mut self,
        controller: &Controller<P>,
        program: &Program,
        history: &mut History,
        now_ms: u64,
    ) -> bool {
        let Controller { inventory, plane, .. } = controller;
        let Some(watch) = &mut self.watch else { return false };
        watch.look(inventory, plane, &doubts(controller, program), now_ms);
        let on_trial = history.trial.is_some();
        let good = !on_trial && watch.is_good(inventory.config.soak, now_ms);
        match history.entry_mut(inventory.generation) {
            Some(entry) if good && entry.verdict == Verdict::Soaking => {
                entry.verdict = Verdict::Good;
                true
            }
            _ => false,
        }
    }

    /// The lack that the generation is to blame for, in words.
    pub(super) fn blame(&self) -> Option<String> {
        self.watch.as_ref().and_then(Watch::blame)
    }
}

fn doubts<P: DataPlane>(controller: &Controller<P>, program: &Program) -> Doubts {
    Doubts { frozen: controller.frozen().map(|frozen| frozen.why), attached: program.attached() }
}
