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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::{
        events::Events,
        fixture::{FakePlane, inventory},
    };

    fn controller() -> Controller<FakePlane> {
        let inventory = inventory();
        let plane = FakePlane::fresh(&inventory);
        Controller::adopt(inventory, plane, Events::new()).unwrap()
    }

    #[tokio::test]
    async fn a_round_is_begun_once_and_its_steps_are_done_as_soon_as_others_were_heard() {
        let mut controller = controller();
        let done = || Progress::Done { begun: Vec::new(), settled: Vec::new() };
        controller.plane.steps.extend([Progress::GoOn, Progress::Wait, done(), Progress::Idle]);
        let mut rounds = Rounds::new();
        let start = Instant::now();
        for (begun, active) in [(1, true), (1, true), (1, false)] {
            rounds.due().await;
            rounds.step(&mut controller);
            assert_eq!((controller.plane.rounds.len(), rounds.active), (begun, active));
        }
        assert!((WAIT..Duration::from_millis(900)).contains(&start.elapsed()), "{:?}", start.elapsed());
        // The next one is a second after the first.
        rounds.due().await;
        assert!(start.elapsed() >= Duration::from_millis(990), "{:?}", start.elapsed());
        rounds.step(&mut controller);
        assert_eq!((controller.plane.rounds.len(), rounds.active), (2, false));
    }

    #[test]
    fn trouble_is_told_once_and_again_after_a_round_that_went_well() {
        let mut controller = controller();
        let mut rounds = Rounds::new();
        let told = |controller: &Controller<FakePlane>| controller.events.kept().len();
        for (fails, events) in [(true, 1), (true, 1), (false, 1), (true, 2)] {
            controller.plane.fails = fails;
            controller.plane.steps.push_back(Progress::Done { begun: Vec::new(), settled: Vec::new() });
            rounds.step(&mut controller);
            assert_eq!((told(&controller), rounds.active), (events, false));
        }
        assert_eq!(controller.events.kept()[0].kind, Kind::LocalTrouble);
    }
}
