//! Loads the program for rehearsals beside everything else, so that a change does not wait for the verifier.

use tokio::task::{self, JoinHandle};

use crate::{
    bpf::{BpfError, PinnedMaps},
    control::{
        chain,
        change::Rehearser,
        events::{EventKind, Events},
    },
    xdp::{Rehearsal, XdpError},
};

pub(super) struct Rehearsing {
    rehearser: Rehearser,
    loading: Option<JoinHandle<Result<Rehearsal, XdpError>>>,
    /// Whether a load was tried once. If it failed, that is reported when a change is to be rehearsed.
    is_tried: bool,
}

impl Rehearsing {
    pub(super) const fn new(rehearser: Rehearser) -> Self {
        Self { rehearser, loading: None, is_tried: false }
    }

    /// Begins to load the program, or takes the loaded one.
    pub(super) async fn look(&mut self, maps: &PinnedMaps, events: &Events) {
        if self.loading.as_ref().is_some_and(JoinHandle::is_finished) {
            self.finish(events).await;
        } else if !self.is_tried && !self.rehearser.is_ready(maps) {
            self.is_tried = true;
            let pins = maps.pins().clone();
            self.loading = Some(task::spawn_blocking(move || {
                let maps = PinnedMaps::open(&pins)?.ok_or(BpfError::Unpublished)?;
                Rehearsal::load(&maps)
            }));
        }
    }

    /// The rehearser, once no load is under way. A program that is missing then is loaded when it is needed.
    pub(super) async fn ready(&mut self, events: &Events) -> &mut Rehearser {
        self.finish(events).await;
        &mut self.rehearser
    }

    async fn finish(&mut self, events: &Events) {
        let Some(loading) = self.loading.take() else { return };
        // The task is never aborted, so an error is a panic, which goes on here.
        match loading.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())) {
            Ok(rehearsal) => self.rehearser = Rehearser::ready(rehearsal),
            Err(error) => {
                let message = format!("changes cannot be rehearsed at present: {}", chain(&error));
                events.report(EventKind::LocalFault, "rehearsal", message);
            }
        }
    }
}
