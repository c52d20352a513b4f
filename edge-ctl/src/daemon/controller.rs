//! What the daemon decides: probe reports and operator's wishes in, states out. No I/O but that of the [`Plane`].

use std::{collections::BTreeMap, time::Duration};

use edge_common::abi::{BackendNumber, State};

use super::{
    events::{Events, Kind},
    inventory::Inventory,
    operate::{self, OperateError, Operation, Outcome},
    plane::Plane,
    selection::{self, Serving},
    transitions,
};
use crate::{
    health::{Health, Machine, Transition},
    kernel::{Held, KernelError, Progress},
    model::{self, Admin},
    probe::Report,
};

/// The configuration in force, the health of its backends, and the maps. The only writer of states.
#[derive(Debug)]
pub(crate) struct Controller<P> {
    pub(crate) inventory: Inventory,
    pub(crate) plane: P,
    pub(crate) events: Events,
    /// One for each backend whose pool has a probe.
    machines: BTreeMap<BackendNumber, Machine>,
    /// Where new flows of each service went when last looked at.
    serving: Vec<Serving>,
}

impl<P: Plane> Controller<P> {
    /// Takes over the maps as they are: a backend that was down stays down until probes say otherwise.
    pub(crate) fn adopt(inventory: Inventory, plane: P, events: Events) -> Result<Self, KernelError> {
        let mut controller = Self { inventory, plane, events, machines: BTreeMap::new(), serving: Vec::new() };
        controller.rebuild_machines()?;
        controller.serving = selection::all(&controller.inventory, &controller.plane);
        Ok(controller)
    }

    /// Goes on with a configuration that has just been published.
    pub(crate) fn replace(&mut self, inventory: Inventory) -> Result<(), KernelError> {
        let before: BTreeMap<String, Serving> = self
            .inventory
            .config
            .services
            .iter()
            .map(|service| service.name.clone())
            .zip(self.serving.drain(..))
            .collect();
        self.inventory = inventory;
        self.rebuild_machines()?;
        let now = selection::all(&self.inventory, &self.plane);
        // Positions may mean other pools than before: only services that lost or found any pool at all are told of.
        self.serving = now
            .iter()
            .zip(&self.inventory.config.services)
            .map(|(now, service)| match before.get(&service.name) {
                Some(worse @ (Serving::Open(_) | Serving::Exhausted)) => *worse,
                Some(Serving::Pool(_) | Serving::Short(_) | Serving::PassedOver(_)) | None => *now,
            })
            .collect();
        self.tell_of_moves();
        Ok(())
    }

    /// A probe's verdict.
    pub(crate) fn report(&mut self, report: &Report) -> Result<(), KernelError> {
        let Some(machine) = self.machines.get_mut(&report.backend) else { return Ok(()) };
        let Some(transition) = machine.observe(&report.verdict) else { return Ok(()) };
        self.apply(report.backend, &transition)
    }

    /// An operator's wish.
    pub(crate) fn operate(&mut self, operation: &Operation) -> Result<Outcome, OperateError> {
        let machines = &self.machines;
        let health = |backend| machines.get(&backend).map_or(Health::Unknown, Machine::health);
        let outcome = operate::operate(&self.inventory, &mut self.plane, health, &self.events, operation)?;
        self.tell_of_moves();
        Ok(outcome)
    }

    fn apply(&mut self, backend: BackendNumber, transition: &Transition) -> Result<(), KernelError> {
        let before = self.plane.state(backend);
        let after = model::changed(before, model::admin(before), transition.to);
        if after != before {
            self.plane.set_state(backend, after, &transition.reason)?;
        }
        let Some(name) = self.inventory.name(backend) else { return Ok(()) };
        let kind = match transition.to {
            Health::Up => Kind::BackendUp,
            Health::Down => Kind::BackendDown,
            Health::Unknown => Kind::BackendUnknown,
        };
        let but = match model::admin(after) {
            Admin::Enabled if after.has_all(State::RETIRED) => "; it has left the configuration",
            Admin::Enabled => "",
            Admin::Drained => "; it stays drained",
            Admin::Disabled => "; it stays disabled",
        };
        self.events.tell(kind, &name, format!("{}{but}", transition.reason));
        if after != before {
            self.tell_of_moves();
        }
        Ok(())
    }

    /// Begins a round over the services that are not settled.
    pub(crate) fn begin_round(&mut self) -> Result<(), KernelError> {
        let waits = self.inventory.waits();
        self.plane.begin_round(&waits)
    }

    /// Does a few milliseconds' work of the round, and tells what came of it. `now` is `CLOCK_MONOTONIC`.
    pub(crate) fn go_on(&mut self, now: Duration) -> Result<Progress, KernelError> {
        let progress = self.plane.go_on(now)?;
        if let Progress::Done { begun, settled } = &progress {
            transitions::tell(&self.inventory, &self.plane, &self.events, begun, settled);
            let plane = &self.plane;
            self.inventory.leaving.retain(|gone| plane.held(gone.number) != Some(Held::default()));
        }
        Ok(progress)
    }

    fn rebuild_machines(&mut self) -> Result<(), KernelError> {
        let mut machines = BTreeMap::new();
        let mut unprobed = Vec::new();
        for (number, _, pool) in self.inventory.addresses() {
            let state = self.plane.state(number);
            let (admin, pinned) = (model::admin(state), model::health(state));
            match pool.map(|pool| &pool.probe) {
                Some(Some(probe)) => {
                    // The bits of a disabled backend don't tell its health; its machine does, if there is one.
                    let health = match admin {
                        Admin::Disabled => self.machines.get(&number).map_or(pinned, Machine::health),
                        Admin::Enabled | Admin::Drained => pinned,
                    };
                    machines.insert(number, Machine::starting_from(health, probe.rise, probe.fall));
                }
                Some(None) if pinned != Health::Unknown => {
                    unprobed.push((number, model::changed(state, admin, Health::Unknown)));
                }
                // The last evidence of a backend whose pool is gone stands.
                Some(None) | None => {}
            }
        }
        self.machines = machines;
        for (number, state) in unprobed {
            self.plane.set_state(number, state, "its pool has no probe")?;
        }
        Ok(())
    }

    /// Tells of services whose new flows go elsewhere than when last looked at.
    fn tell_of_moves(&mut self) {
        let now = selection::all(&self.inventory, &self.plane);
        for ((service, before), after) in self.inventory.config.services.iter().zip(&self.serving).zip(&now) {
            let kind = match after.rank().cmp(&before.rank()) {
                std::cmp::Ordering::Less => Kind::PoolReturned,
                std::cmp::Ordering::Equal => continue,
                std::cmp::Ordering::Greater => Kind::PoolLeft,
            };
            let message =
                format!("service {} {}", service.name, selection::described(&self.inventory, service, *after));
            self.events.tell(kind, &service.name, message);
        }
        self.serving = now;
    }
}

#[cfg(test)]
mod tests {
    use edge_common::abi::Failover;

    use super::*;
    use crate::{
        daemon::fixture::{FakePlane, inventory},
        health::Verdict,
        kernel::{Settled, Transition},
        model::RetiredRecord,
    };

    fn controller() -> Controller<FakePlane> {
        let inventory = inventory();
        let plane = FakePlane::fresh(&inventory);
        Controller::adopt(inventory, plane, Events::new()).unwrap()
    }

    fn fail(controller: &mut Controller<FakePlane>, backend: BackendNumber, times: u32) {
        for _ in 0..times {
            let verdict = Verdict::Fail("connection refused".to_owned());
            controller.report(&Report { backend, verdict }).unwrap();
        }
    }

    fn pass(controller: &mut Controller<FakePlane>, backend: BackendNumber, times: u32) {
        for _ in 0..times {
            controller.report(&Report { backend, verdict: Verdict::Pass }).unwrap();
        }
    }

    fn kinds(controller: &Controller<FakePlane>) -> Vec<Kind> {
        controller.events.kept().iter().map(|event| event.kind).collect()
    }

    #[test]
    fn a_backend_goes_down_after_fall_failures_and_says_why() {
        let mut controller = controller();
        fail(&mut controller, 1, 2);
        assert!(controller.plane.state(1).has_all(State::NEW));
        fail(&mut controller, 1, 1);
        assert_eq!(controller.plane.state(1), State(State::ENABLED | State::DOWN));
        assert!(controller.plane.why(1).reason.contains("connection refused"));
        assert_eq!(kinds(&controller), [Kind::BackendDown]);
    }

    #[test]
    fn a_pool_below_min_healthy_is_left_and_returned_to() {
        let mut controller = controller();
        fail(&mut controller, 1, 3);
        fail(&mut controller, 2, 3);
        assert_eq!(kinds(&controller), [Kind::BackendDown, Kind::BackendDown, Kind::PoolLeft]);
        assert_eq!(controller.events.kept()[2].message, "service web goes to pool provider-b");
        pass(&mut controller, 1, 2);
        assert_eq!(kinds(&controller)[3..], [Kind::BackendUp, Kind::PoolReturned]);
    }

    #[test]
    fn what_was_down_before_a_restart_stays_down_until_its_probes_pass() {
        let inventory = inventory();
        let mut plane = FakePlane::fresh(&inventory);
        plane.states.insert(1, State(State::ENABLED | State::DOWN));
        let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
        pass(&mut controller, 1, 1);
        assert!(controller.plane.state(1).has_all(State::DOWN));
        pass(&mut controller, 1, 1);
        assert!(controller.plane.state(1).has_all(State::UP | State::NEW | State::ALIVE));
    }

    #[test]
    fn a_drain_outlives_probes_and_restarts() {
        let mut controller = controller();
        let drain = Operation::Drain { backend: "provider-a/a1".to_owned(), reason: Some("disk swap".to_owned()) };
        assert!(controller.operate(&drain).unwrap().changed);
        assert!(!controller.operate(&drain).unwrap().changed);
        pass(&mut controller, 1, 3);
        assert_eq!(controller.plane.state(1), State(State::ALIVE | State::ENABLED | State::DRAINED | State::UP));
        let Controller { inventory, plane, .. } = controller;
        let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
        fail(&mut controller, 1, 3);
        assert_eq!(controller.plane.state(1), State(State::ENABLED | State::DRAINED | State::DOWN));
        let enable = Operation::Enable { backend: "a1".to_owned(), reason: None };
        let outcome = controller.operate(&enable).unwrap();
        assert_eq!(outcome.message, "provider-a/a1 is enabled, but down: it serves once its probes pass");
    }

    #[test]
    fn a_disabled_backend_comes_back_with_the_health_it_has_by_then() {
        let mut controller = controller();
        controller.operate(&Operation::Disable { backend: "a1".to_owned(), reason: None }).unwrap();
        assert_eq!(controller.plane.state(1), State(State::DISABLED));
        fail(&mut controller, 1, 3);
        assert_eq!(controller.plane.state(1), State(State::DISABLED));
        controller.operate(&Operation::Enable { backend: "a1".to_owned(), reason: None }).unwrap();
        assert_eq!(controller.plane.state(1), State(State::ENABLED | State::DOWN));
    }

    #[test]
    fn draining_the_last_backend_is_done_with_a_warning() {
        let mut controller = controller();
        fail(&mut controller, 2, 3);
        let outcome = controller.operate(&Operation::Drain { backend: "a1".to_owned(), reason: None }).unwrap();
        assert_eq!(
            outcome.warnings,
            ["its pool has too few backends left that take new flows: service web goes to pool provider-b"]
        );
    }

    #[test]
    fn failing_over_to_an_empty_pool_is_done_with_a_warning() {
        let mut controller = controller();
        for backend in [4, 5, 6] {
            fail(&mut controller, backend, 3);
        }
        let failover = Operation::Failover { service: "web".to_owned(), to: "provider-b".to_owned(), evacuate: false };
        let outcome = controller.operate(&failover).unwrap();
        assert!(outcome.changed);
        assert!(outcome.warnings[0].starts_with("pool provider-b has too few backends"), "{:?}", outcome.warnings);
        assert_eq!(controller.plane.failover(1), Failover { first: 1, evacuate: false });
    }

    #[test]
    fn a_pool_whose_probe_was_taken_away_is_unknown_again() {
        let mut controller = controller();
        fail(&mut controller, 4, 3);
        let mut inventory = inventory();
        inventory.config.pools[1].probe = None;
        controller.replace(inventory).unwrap();
        assert_eq!(controller.plane.state(4), State(State::NEW | State::ALIVE | State::ENABLED));
    }

    /// The inventory after `shared` of provider-a was removed, and the plane with it.
    fn with_leaving() -> Controller<FakePlane> {
        let mut inventory = inventory();
        inventory.config.pools[0].backends.pop();
        inventory.backends[0].pop();
        let address = "10.1.0.13".parse().unwrap();
        let (pool, name) = ("provider-a".to_owned(), "shared".to_owned());
        inventory.leaving.push(RetiredRecord { pool, name, number: 3, address });
        let mut plane = FakePlane::fresh(&inventory);
        plane.states.insert(3, State(State::ALIVE | State::ENABLED | State::RETIRED));
        Controller::adopt(inventory, plane, Events::new()).unwrap()
    }

    #[test]
    fn who_leaves_is_probed_as_before_and_takes_no_new_flows_again() {
        let mut controller = with_leaving();
        fail(&mut controller, 3, 3);
        assert_eq!(controller.plane.state(3), State(State::ENABLED | State::DOWN | State::RETIRED));
        pass(&mut controller, 3, 2);
        assert_eq!(controller.plane.state(3), State(State::ALIVE | State::ENABLED | State::UP | State::RETIRED));
        let told: Vec<_> = controller.events.kept().into_iter().map(|event| (event.kind, event.subject)).collect();
        let name = || "provider-a/shared".to_owned();
        assert_eq!(told, [(Kind::BackendDown, name()), (Kind::BackendUp, name())]);
    }

    #[test]
    fn an_operators_word_reaches_who_leaves() {
        let mut controller = with_leaving();
        let backend = || "provider-a/shared".to_owned();
        let outcome = controller.operate(&Operation::Disable { backend: backend(), reason: None }).unwrap();
        assert!(outcome.changed);
        assert_eq!(controller.plane.state(3), State(State::DISABLED | State::RETIRED));
        let enable = Operation::Enable { backend: "provider-a/shared@10.1.0.13".to_owned(), reason: None };
        let outcome = controller.operate(&enable).unwrap();
        assert_eq!(
            outcome.message,
            "provider-a/shared is enabled; it has left the configuration, and keeps the flows that it has"
        );
        assert_eq!(controller.plane.state(3), State(State::ALIVE | State::ENABLED | State::RETIRED));
        // The bare name is that of the one in the configuration.
        controller.operate(&Operation::Drain { backend: "shared".to_owned(), reason: None }).unwrap();
        assert!(controller.plane.state(6).has_all(State::DRAINED));
    }

    #[test]
    fn transitions_are_told_when_they_begin_and_when_they_end() {
        let mut controller = with_leaving();
        let why = "provider-a/a1: connection refused".to_owned();
        let transition = Transition { why, differing: Some(300), ..Transition::default() };
        controller.plane.transitions.insert(1, transition);
        let settled = |service, begun| Settled { service, since_ms: 0, moved: 300, begun };
        controller.plane.steps.extend([
            Progress::GoOn,
            Progress::Done { begun: vec![1], settled: vec![settled(2, false)] },
            Progress::Done { begun: Vec::new(), settled: vec![settled(1, true)] },
        ]);
        controller.begin_round().unwrap();
        assert_eq!(controller.plane.rounds[0].iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
        while controller.go_on(Duration::ZERO).unwrap() != Progress::Idle {}
        let told: Vec<_> =
            controller.events.kept().into_iter().map(|event| (event.kind, event.subject, event.message)).collect();
        let web = || "web".to_owned();
        assert_eq!(
            told,
            [
                (Kind::Unsettled, web(), "provider-a/a1: connection refused".to_owned()),
                (Kind::Settled, web(), "300 slots have another owner, and no flow needs a record".to_owned()),
            ]
        );
    }

    #[test]
    fn who_has_left_is_forgotten_once_nothing_names_it() {
        let mut controller = with_leaving();
        let done = || Progress::Done { begun: Vec::new(), settled: Vec::new() };
        for (held, left) in [(None, 1), (Some(Held { slots: 0, records: 1 }), 1), (Some(Held::default()), 0)] {
            controller.plane.held.extend(held.map(|held| (3, held)));
            controller.plane.steps.push_back(done());
            controller.go_on(Duration::ZERO).unwrap();
            assert_eq!(controller.inventory.leaving.len(), left);
        }
    }

    #[test]
    fn flows_are_waited_for_as_their_service_says() {
        let mut inventory = inventory();
        let seconds = Duration::from_secs;
        assert_eq!(inventory.round_interval(), seconds(1));
        inventory.config.services[0].linger = seconds(2);
        let waits = |inventory: &Inventory| inventory.waits().into_iter().map(|(_, waits)| waits).collect::<Vec<_>>();
        let found = waits(&inventory);
        assert_eq!((found[0].linger, found[0].expiry), (seconds(2), seconds(31)));
        assert_eq!(found[1].linger, Duration::ZERO, "nothing is recorded of it");
        assert_eq!(inventory.round_interval(), Duration::from_millis(500));
        inventory.config.services[1].tracking = edge_common::abi::Tracking::Learn;
        inventory.config.services[1].learn = seconds(1);
        assert_eq!(waits(&inventory)[1].linger, seconds(1));
        assert_eq!(inventory.round_interval(), Duration::from_millis(250));
    }
}
