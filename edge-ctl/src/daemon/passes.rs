//! Schedules the steps of reconcile passes between the other work of the loop.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::controller::Controller;
use crate::{
    bpf::{BpfError, Progress, monotonic_time},
    control::{chain, data_plane::DataPlane, events::EventKind},
};

/// Interval in which a pass that waits for packets checks whether they have left the packet path.
const WAIT: Duration = Duration::from_millis(5);

/// The schedule of passes, which run one after the other.
#[derive(Debug)]
pub(super) struct Passes {
    /// Times of the next step and of the next pass.
    step: Instant,
    next: Instant,
    /// Whether a pass is under way.
    active: bool,
    /// Why the last pass failed. The cause is reported once, not each second.
    broken: Option<String>,
}

impl Passes {
    /// A schedule whose first pass is due now.
    pub(super) fn new() -> Self {
        Self { step: Instant::now(), next: Instant::now(), active: false, broken: None }
    }

    /// Waits until the next step is due.
    pub(super) fn due(&self) -> impl Future<Output = ()> + use<> {
        sleep_until(if self.active { self.step } else { self.next })
    }

    /// Does the step that is due.
    pub(super) fn step(&mut self, controller: &mut Controller<impl DataPlane>) {
        match self.try_step(controller) {
            Ok(progress) => {
                // All messages that have come meanwhile are handled before the next step.
                let pause = if progress == Progress::Wait { WAIT } else { Duration::ZERO };
                self.step = Instant::now() + pause;
                self.active = matches!(progress, Progress::GoOn | Progress::Wait);
                if let Progress::Done { .. } = progress {
                    self.broken = None;
                }
            }
            Err(error) => {
                self.active = false;
                let cause = chain(&error);
                if self.broken.as_ref() != Some(&cause) {
                    controller.events.report(EventKind::LocalFault, "owners", cause.clone());
                    self.broken = Some(cause);
                }
            }
        }
    }

    fn try_step(&mut self, controller: &mut Controller<impl DataPlane>) -> Result<Progress, BpfError> {
        if !self.active {
            self.next = Instant::now() + controller.inventory.pass_interval();
            controller.begin_pass()?;
        }
        controller.go_on(monotonic_time())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{
        events::Events,
        fixture::{FakeDataPlane, inventory},
    };

    fn controller() -> Controller<FakeDataPlane> {
        let inventory = inventory();
        let plane = FakeDataPlane::fresh(&inventory);
        Controller::adopt(inventory, plane, Events::new()).unwrap()
    }

    #[tokio::test]
    async fn a_pass_is_begun_once_and_its_steps_are_done_between_other_messages() {
        let mut controller = controller();
        let done = || Progress::Done { started: Vec::new(), finished: Vec::new() };
        controller.plane.steps.extend([Progress::GoOn, Progress::Wait, done(), Progress::Idle]);
        let mut passes = Passes::new();
        let start = Instant::now();
        for (begun, active) in [(1, true), (1, true), (1, false)] {
            passes.due().await;
            passes.step(&mut controller);
            assert_eq!((controller.plane.passes.len(), passes.active), (begun, active));
        }
        assert!((WAIT..Duration::from_millis(900)).contains(&start.elapsed()), "{:?}", start.elapsed());
        // The next pass begins a second after the first.
        passes.due().await;
        assert!(start.elapsed() >= Duration::from_millis(990), "{:?}", start.elapsed());
        passes.step(&mut controller);
        assert_eq!((controller.plane.passes.len(), passes.active), (2, false));
    }

    #[test]
    fn a_fault_is_reported_once_and_again_after_a_pass_that_went_well() {
        let mut controller = controller();
        let mut passes = Passes::new();
        let reported = |controller: &Controller<FakeDataPlane>| controller.events.kept().len();
        for (fails, events) in [(true, 1), (true, 1), (false, 1), (true, 2)] {
            controller.plane.fails = fails;
            controller.plane.steps.push_back(Progress::Done { started: Vec::new(), finished: Vec::new() });
            passes.step(&mut controller);
            assert_eq!((reported(&controller), passes.active), (events, false));
        }
        assert_eq!(controller.events.kept()[0].kind, EventKind::LocalFault);
    }
}
