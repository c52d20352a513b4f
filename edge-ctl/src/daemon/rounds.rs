//! When the next step of a round over the services that are not settled is due: the loop has other things to do.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{api::chain, controller::Controller, events::Kind, plane::Plane};
use crate::kernel::{KernelError, Progress, monotonic_time};

/// How often it is looked whether packets that are waited for have gone.
const WAIT: Duration = Duration::from_millis(5);

/// Rounds, one after the other.
#[derive(Debug)]
pub(super) struct Rounds {
    /// When the next step is due, and when the next round is.
    step: Instant,
    next: Instant,
    /// Whether a round is under way.
    active: bool,
    /// Why the last round broke off. It is told once, and not each second.
    broken: Option<String>,
}

impl Rounds {
    /// The first one is due now.
    pub(super) fn new() -> Self {
        Self { step: Instant::now(), next: Instant::now(), active: false, broken: None }
    }

    /// Until the next step is due.
    pub(super) fn due(&self) -> impl Future<Output = ()> + use<> {
        sleep_until(if self.active { self.step } else { self.next })
    }

    /// Does the step that is due.
    pub(super) fn step(&mut self, controller: &mut Controller<impl Plane>) {
        match self.try_step(controller) {
            Ok(progress) => {
                // All that has come meanwhile is heard before the next step.
                let pause = if progress == Progress::Wait { WAIT } else { Duration::ZERO };
                self.step = Instant::now() + pause;
                self.active = matches!(progress, Progress::GoOn | Progress::Wait);
                if let Progress::Done { .. } = progress {
                    self.broken = None;
                }
            }
            Err(error) => {
                self.active = false;
                let told = chain(&error);
                if self.broken.as_ref() != Some(&told) {
                    controller.events.tell(Kind::LocalTrouble, "owners", told.clone());
                    self.broken = Some(told);
                }
            }
        }
    }

    fn try_step(&mut self, controller: &mut Controller<impl Plane>) -> Result<Progress, KernelError> {
        if !self.active {
            self.next = Instant::now() + controller.inventory.round_interval();
            controller.begin_round()?;
        }
        controller.go_on(monotonic_time())
    }
}
