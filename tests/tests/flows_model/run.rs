//! A run: time goes by, flows send, the world changes, a controller looks, and each packet is judged.

use edge_common::abi::{BackendNumber, FlowCount, FlowCounts, Tracking};

use crate::{
    controller::{Controller, Done},
    edge::Edge,
    flow::{self, Flow},
    plan::{LINGER, Plan, TICK},
    population::{Life, Population},
    random::Random,
    scene::{SLOTS, Scene},
    truth::{self, Truth},
};

pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) scene: Scene,
    pub(crate) edge: Edge,
    pub(crate) controller: Controller,
    pub(crate) truth: Truth,
    pub(crate) flows: Population,
    /// Virtual milliseconds.
    pub(crate) now: u64,
    /// Until when there is no controller; 0: there is one.
    pub(crate) dead_until: u64,
    /// Whether the maps say less than the scene: a change has been begun and not ended.
    pub(crate) torn: bool,
    pub(crate) report: Report,
}

/// What a run has seen.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) steps: u64,
    pub(crate) packets: u64,
    pub(crate) changes: u64,
    /// Flows whose backend had died, and which so went elsewhere.
    pub(crate) orphaned: u64,
    pub(crate) forgotten: u64,
    /// Flows that moved although their backend lived.
    pub(crate) moved: Vec<String>,
    /// Flows that moved, and whose backend lived, but had been dead for a moment in which they did not send.
    pub(crate) shaken: Vec<String>,
    /// Packets that went where a flow that starts must not.
    pub(crate) misplaced: Vec<String>,
    pub(crate) done: Done,
    pub(crate) counts: FlowCounts,
}

impl Report {
    /// Adds another run's.
    pub(crate) fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.packets += other.packets;
        self.changes += other.changes;
        self.orphaned += other.orphaned;
        self.forgotten += other.forgotten;
        self.moved.extend(other.moved);
        self.shaken.extend(other.shaken);
        self.misplaced.extend(other.misplaced);
        self.done.add(other.done);
        self.counts.0.iter_mut().zip(other.counts.0).for_each(|(sum, count)| *sum += count);
    }

    pub(crate) fn count(&self, what: FlowCount) -> u64 {
        self.counts.0[what as usize]
    }
}

impl Run {
    pub(crate) fn new(plan: Plan, kernel: bool) -> Self {
        let mut scene = Scene::new(&plan);
        for service in &mut scene.world.services {
            service.unsettled = true;
        }
        let edge = Edge::new(&scene, &plan, kernel);
        let controller = Controller::new(plan, scene.world.services.len());
        Self {
            plan,
            random: Random(plan.seed),
            scene,
            edge,
            controller,
            truth: Truth::default(),
            flows: Population::default(),
            now: 1000,
            dead_until: 0,
            torn: false,
            report: Report::default(),
        }
    }

    /// Runs to the end; each line of the report says in which run.
    pub(crate) fn run(mut self) -> Report {
        let mut tick = self.now + TICK;
        let mut event = self.now;
        while self.report.steps < self.plan.steps {
            let due = self.flows.next_due().unwrap_or(u64::MAX);
            if due <= tick.min(event) {
                self.now = due;
                self.next_packet();
            } else if tick <= event {
                self.now = tick;
                self.look();
                tick += TICK;
            } else {
                self.now = event;
                self.event();
                event += 1 + self.random.below(60);
            }
        }
        self.edge.write(|_| ());
        self.report.done = self.controller.done;
        self.report.counts = self.edge.flow_counts(self.scene.world.services.len());
        let Report { moved, shaken, misplaced, .. } = &mut self.report;
        for line in moved.iter_mut().chain(shaken).chain(misplaced) {
            *line = format!("{:?} at {line}", self.plan);
        }
        self.report
    }

    /// What the controller does once a second.
    fn look(&mut self) {
        self.report.steps += 1;
        self.flows.bury(self.now);
        if self.now < self.dead_until {
            return;
        }
        if self.dead_until != 0 {
            self.dead_until = 0;
            self.controller.restart();
            self.repair();
        }
        self.controller.tick(&mut self.edge, &self.scene, self.now);
        for number in self.controller.forgettable(&self.edge, &self.scene) {
            self.forget(number);
        }
    }

    /// Gives a number free.
    fn forget(&mut self, number: BackendNumber) {
        let incarnation = self.scene.incarnation(number);
        let left: Vec<_> = self.flows.of(incarnation).copied().collect();
        for life in left.iter().filter(|life| self.truth.lived(life.flow.service, incarnation, life.moment)) {
            if has_home(life.flow.service) {
                self.report.moved.push(format!("{}: backend {number} is forgotten, and has {life:?}", self.now));
            }
        }
        self.truth.forget(incarnation);
        self.scene.forget(number);
        self.report.forgotten += 1;
    }

    /// Something that nobody has announced.
    fn event(&mut self) {
        if self.dead_until == 0 {
            self.controller.settle(&mut self.edge, &self.scene);
        }
        // Three lingers of upheaval, then as much peace.
        let calm = self.plan.calms && self.now / (3 * LINGER) % 2 == 1;
        let times = |often| if calm { 0 } else { often };
        if self.random.chance(times(self.plan.changes)) {
            self.change();
        } else if self.random.chance(times(self.plan.blinks)) {
            self.blink();
        } else if self.random.chance(times(self.plan.floods)) {
            self.flood();
        } else if self.random.chance(times(self.plan.deaths)) {
            self.kill();
        } else if self.random.chance(if self.flows.len() < 400 { 300 } else { 20 }) {
            self.start();
        }
    }

    /// The controller dies, for a while.
    pub(crate) fn kill(&mut self) {
        self.dead_until = self.dead_until.max(self.now) + 1 + self.random.below(2 * LINGER);
    }

    /// A few packets between two stores.
    pub(crate) fn meanwhile(&mut self) {
        for _ in 0..self.random.below(4) {
            if self.random.chance(500) {
                self.start();
            } else {
                self.next_packet();
            }
        }
    }

    /// Spoofed packets, each of another flow, all that start one or none.
    fn flood(&mut self) {
        let starts = self.random.chance(500);
        for _ in 0..self.random.below(150) {
            let flow = self.flows.any(&mut self.random, &self.scene);
            self.send(&flow, starts);
        }
    }

    pub(crate) fn start(&mut self) {
        let flow = self.flows.any(&mut self.random, &self.scene);
        self.begin(flow);
    }

    /// A flow's first packet.
    pub(crate) fn begin(&mut self, flow: Flow) {
        let reached = self.send(&flow, true);
        self.check_start(&flow, reached);
        if let Some(home) = reached {
            let life = Life { started: true, ..Life::new(flow, self.now) };
            let life = self.at_home(life, home);
            self.flows.begin(&mut self.random, life);
        }
    }

    fn at_home(&mut self, life: Life, home: BackendNumber) -> Life {
        let incarnation = self.scene.incarnation(home);
        Life { home, incarnation, sent: self.now, moment: self.truth.next(), ..life }
    }

    /// The packet of the flow that is due, or would be soonest.
    fn next_packet(&mut self) {
        let Some(life) = self.flows.take() else { return };
        let starts = matches!(Scene::tracking(life.flow.service), Tracking::Tcp | Tracking::Quic);
        let again = starts && self.random.chance(if life.started { 200 } else { 10 });
        let reached = self.send(&life.flow, again);
        if !has_home(life.flow.service) {
            self.check_start(&life.flow, reached);
            self.flows.sent(&mut self.random, Life { sent: self.now, ..life });
        } else if again {
            // Whatever it was, it is a new flow now, which is where its packet went.
            if let Some(home) = reached {
                let life = self.at_home(Life { started: true, shaken: false, ..life }, home);
                self.flows.sent(&mut self.random, life);
            }
        } else {
            self.judge(life, reached);
        }
    }

    /// The rule of all rules: where the packet of a running flow must have gone.
    fn judge(&mut self, life: Life, reached: Option<BackendNumber>) {
        // Who is forgotten had nobody left: that was judged then.
        let is_known = self.scene.incarnation(life.home) == life.incarnation;
        let lived = is_known && self.truth.lived(life.flow.service, life.incarnation, life.moment);
        let same = reached.is_some_and(|number| self.scene.incarnation(number) == life.incarnation);
        if same {
            let life = self.at_home(Life { started: false, shaken: life.shaken || !lived, ..life }, life.home);
            self.flows.sent(&mut self.random, life);
            return;
        }
        if lived {
            let what = self.describe(&life, reached);
            if life.shaken { &mut self.report.shaken } else { &mut self.report.moved }.push(what);
        } else {
            self.report.orphaned += 1;
        }
        // The host that it came to answers with a reset, unless it is of a kind that knows no start.
        if let Some(home) = reached.filter(|_| Scene::tracking(life.flow.service) == Tracking::Learn) {
            let life = self.at_home(Life { started: false, shaken: false, ..life }, home);
            self.flows.sent(&mut self.random, life);
        }
    }

    fn describe(&self, life: &Life, reached: Option<BackendNumber>) -> String {
        let service = life.flow.service;
        let slot = self.slot(&life.flow);
        let (owner, takers) = (self.edge.owner(service, slot), truth::takers(&self.edge, service, slot));
        format!("{}: to {reached:?}, slot {slot} of {owner}, new to {takers:?}, {life:?}", self.now)
    }

    /// A flow that starts goes to who takes new flows, or, if that can't be recorded, to the slot's owner.
    fn check_start(&mut self, flow: &Flow, reached: Option<BackendNumber>) {
        if Scene::tracking(flow.service) == Tracking::Learn {
            return;
        }
        let slot = self.slot(flow);
        let takers = truth::takers(&self.edge, flow.service, slot);
        let missed = has_home(flow.service) && !self.plan.has_room();
        let right = match reached {
            Some(number) => takers.contains(&number) || missed && number == self.edge.owner(flow.service, slot),
            None => takers.is_empty() || self.torn,
        };
        if !right {
            let what = format!("{}: {flow:?} starts at {reached:?}, not at one of {takers:?}", self.now);
            self.report.misplaced.push(what);
        }
    }

    pub(crate) fn slot(&self, flow: &Flow) -> u32 {
        let service = &self.scene.world.services[flow.service];
        flow::slot(&self.edge.view().generation.hash_key, &flow.ends(service), service, SLOTS)
    }

    fn send(&mut self, flow: &Flow, starts: bool) -> Option<BackendNumber> {
        self.report.steps += 1;
        self.report.packets += 1;
        let frame = flow.frame(&self.scene.world.services[flow.service], starts);
        self.edge.send(self.now, &frame)
    }
}

/// Whether a service's flows have a backend of theirs.
fn has_home(service: usize) -> bool {
    Scene::tracking(service) != Tracking::Stateless
}
