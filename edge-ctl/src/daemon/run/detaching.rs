//! Takes everything down, at an operator's request.

use std::time::Duration;

use tokio::time::timeout;

use super::{Daemon, ended::LoopStep};
use crate::{
    control::{events::EventKind, takedown},
    daemon::api::{Back, Refusal},
};

/// How long a detach waits for a load: shorter than its client waits for the answer.
const LOAD: Duration = Duration::from_secs(5);

impl Daemon {
    /// Detaches and removes everything; the loop ends then. If that fails, the loop goes on.
    pub(super) async fn detach(&mut self, back: Back) -> LoopStep {
        self.busy.begin();
        // First stops the tasks that would restore the removed attachments.
        self.outside = None;
        self.end_loading().await;
        let announced = takedown::announced(&self.controller.inventory.config);
        match takedown::detach(&self.pins, &announced, Vec::new()).await {
            Ok(outcome) => {
                self.controller.events.report(EventKind::Detached, "edge-ctl", outcome.message.clone());
                // The client may have gone.
                let _ = back.send(Ok(outcome));
                LoopStep::Stop
            }
            Err(error) => {
                self.look_outside();
                let _ = back.send(Err(Refusal::internal(&error)));
                LoopStep::Continue
            }
        }
    }

    /// Waits for a load under way before everything is taken down, for [`LOAD`] at most: a load that ends later ends with
    /// the process.
    async fn end_loading(&mut self) {
        if !self.program.is_loading() {
            return;
        }
        if let Ok(loaded) = timeout(LOAD, self.program.loading()).await {
            self.attach(loaded).await;
        }
    }
}
