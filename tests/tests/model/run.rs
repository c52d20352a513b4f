//! A run: time passes, flows send, changes happen, a controller makes its passes, and each packet is judged.

use edge_common::{
    abi::{BackendNumber, Tracking},
    flow_table::Stage,
};

use crate::{
    controller::Controller,
    edge::Edge,
    flow::{self, Flow, Forged, Kind},
    judge::has_home,
    plan::{Broken, IDLE_TIMEOUT, Plan, TICK},
    population::{Life, Population},
    random::Random,
    report::Report,
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
    /// The current time, virtual milliseconds.
    pub(crate) now: u64,
    /// End of the controller's absence; 0 if the controller runs.
    pub(crate) dead_until: u64,
    /// Whether a change was begun and not completed, so that the maps lag behind the scene.
    pub(crate) torn: bool,
    /// Whether the packets go through the real program as well, whose clock differs from the run's.
    kernel: bool,
    pub(crate) report: Report,
}

impl Run {
    pub(crate) fn new(plan: Plan, kernel: bool) -> Self {
        let mut scene = Scene::new(&plan);
        for service in &mut scene.world.services {
            service.in_transition = true;
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
            kernel,
            report: Report::default(),
        }
    }

    /// Makes the whole run; each line of the report names the run.
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

    /// The controller's pass, once a second.
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
        self.check_stable();
        for number in self.controller.forgettable(&self.edge, &self.scene) {
            self.forget(number);
        }
    }

    /// A random event.
    fn event(&mut self) {
        if self.dead_until == 0 {
            self.controller.end_transitions(&mut self.edge, &self.scene);
        }
        // Three idle timeouts with changes alternate with three without.
        let calm = self.plan.calms && self.now / (3 * IDLE_TIMEOUT) % 2 == 1;
        let times = |often| if calm { 0 } else { often };
        if self.random.chance(times(self.plan.changes)) {
            self.change();
        } else if self.random.chance(times(self.plan.blinks)) {
            self.blink();
        } else if self.random.chance(times(self.plan.floods)) {
            self.flood();
        } else if self.random.chance(self.plan.forgeries) {
            self.forge();
        } else if self.random.chance(times(self.plan.deaths)) {
            self.kill();
        } else if self.random.chance(if self.flows.len() < 400 { 300 } else { 20 }) {
            self.start();
        }
    }

    /// Kills the controller for a random time.
    pub(crate) fn kill(&mut self) {
        self.dead_until = self.dead_until.max(self.now) + 1 + self.random.below(2 * IDLE_TIMEOUT);
    }

    /// Sends a few packets between two stores.
    pub(crate) fn meanwhile(&mut self) {
        for _ in 0..self.random.below(4) {
            if self.random.chance(500) {
                self.start();
            } else {
                self.next_packet();
            }
        }
    }

    /// Sends spoofed packets, each of another flow; either all of them start flows, or none does.
    fn flood(&mut self) {
        let starts = self.random.chance(500);
        for _ in 0..self.random.below(150) {
            let flow = self.flows.any(&mut self.random, &self.scene);
            self.send(&Life::new(flow, self.now), if starts { Kind::Starts } else { Kind::Runs });
        }
    }

    /// Sends a forged packet of a living flow, or two.
    fn forge(&mut self) {
        let Some(life) = self.flows.living(&mut self.random) else { return };
        // A flow without a living backend cannot be harmed.
        if !self.edge.is_alive(life.home) {
            return;
        }
        let (flow, started, first, again) = (life.flow, life.started, life.first, life.forged != 0);
        let all: &[Forged] = match Scene::tracking(flow.service) {
            // A SYN replaces another one after a second, and a handshake may take longer.
            Tracking::Tcp if started => Forged::OF_TCP.split_last().expect("some").1,
            Tracking::Tcp => &Forged::OF_TCP,
            // The second of two forged packets is believed.
            Tracking::Quic if !again && !started => &Forged::OF_QUIC,
            Tracking::Quic | Tracking::Learn | Tracking::Stateless => return,
        };
        life.forged = self.now;
        let pair = Scene::tracking(flow.service) == Tracking::Tcp && self.random.chance(300);
        let number = self.elsewhere(first);
        let forged = all[self.random.place(all.len())];
        self.send_forged(&flow, forged, number);
        if pair {
            // A packet with the number after a SYN's would confirm the SYN.
            let number = if forged == Forged::Syn { number ^ 1 << 29 } else { number };
            let forged = all[self.random.place(all.len())];
            self.send_forged(&flow, forged, number);
        }
    }

    /// A sequence number far from those of a flow that begins with `first`.
    fn elsewhere(&mut self, first: u32) -> u32 {
        let distance = u32::try_from(self.random.below(1 << 30)).expect("a distance");
        first ^ 1 << 31 ^ distance
    }

    fn send_forged(&mut self, flow: &Flow, forged: Forged, number: u32) {
        let plan = &self.scene.world.services[flow.service];
        let (frame, ends) = (flow.forged(plan, forged, number), flow.ends(plan));
        self.report.forged += 1;
        if self.plan.broken == Broken::StartReplaces && forged == Forged::Syn {
            self.edge.write(|memory| memory.remove_record(ends));
        }
        self.send_frame(flow, &frame);
        if self.plan.broken == Broken::ResetBelieved && forged == Forged::Reset {
            self.edge.rewrite(ends, |record| record.stage = Stage::Reset);
        }
        if self.plan.broken == Broken::TentativeBelieved {
            self.edge.rewrite(ends, |record| record.tentative = None);
        }
    }

    pub(crate) fn start(&mut self) {
        let flow = self.flows.any(&mut self.random, &self.scene);
        self.begin(flow);
    }

    /// Sends a flow's first packet.
    pub(crate) fn begin(&mut self, flow: Flow) {
        let life = Life { started: true, ..Life::new(flow, self.now) };
        let reached = self.send(&life, Kind::Starts);
        self.check_start(&flow, reached);
        if let Some(home) = reached {
            let life = self.at_home(life, home);
            self.flows.begin(&mut self.random, life);
        }
    }

    /// Sends the packet of the flow whose packet is due next.
    fn next_packet(&mut self) {
        let Some(life) = self.flows.take() else { return };
        let starts = matches!(Scene::tracking(life.flow.service), Tracking::Tcp | Tracking::Quic);
        // A flow does not start again either while a forged packet may still have effect.
        let may_start = starts && self.now >= life.forged + 2 * TICK;
        let again = may_start && self.random.chance(if life.started { 200 } else { 10 });
        let life = self.next_of(life, again);
        let kind = match life {
            _ if again => Kind::Starts,
            Life { started: true, .. } => Kind::Follows,
            Life { closed: true, .. } if self.random.chance(100) => Kind::Closes,
            Life { closed: true, .. } => Kind::Listens,
            Life { .. } => Kind::Runs,
        };
        let reached = self.send(&life, kind);
        if !has_home(life.flow.service) {
            self.check_start(&life.flow, reached);
            self.flows.sent(&mut self.random, Life { sent: self.now, ..life });
        } else if again {
            // Its packet has started a new flow, at the backend that it reached.
            if let Some(home) = reached {
                let life = self.at_home(Life { started: true, shaken: false, yielded: false, ..life }, home);
                self.flows.sent(&mut self.random, life);
            }
        } else {
            self.judge(life, reached);
        }
    }

    /// The flow at its next packet: it may be about to be closed by its client, or to begin anew, also with another number.
    fn next_of(&mut self, life: Life, again: bool) -> Life {
        let is_tcp = Scene::tracking(life.flow.service) == Tracking::Tcp;
        let closes = is_tcp && !life.started && self.random.chance(20);
        let is_other = is_tcp && !self.kernel && self.now >= life.sent + 2 * TICK && self.random.chance(500);
        if !again {
            return Life { closed: life.closed || closes, ..life };
        }
        let first = if is_other { self.elsewhere(life.first) } else { life.first };
        Life { closed: false, first, ..life }
    }

    pub(crate) fn slot(&self, flow: &Flow) -> u32 {
        let service = &self.scene.world.services[flow.service];
        flow::slot(&self.edge.view().generation.hash_key, &flow.ends(service), service, SLOTS)
    }

    /// Sends a packet of a flow.
    fn send(&mut self, life: &Life, kind: Kind) -> Option<BackendNumber> {
        let plan = &self.scene.world.services[life.flow.service];
        let frame = life.flow.frame(plan, kind, life.first);
        self.send_frame(&life.flow, &frame)
    }

    fn send_frame(&mut self, flow: &Flow, frame: &[u8]) -> Option<BackendNumber> {
        self.report.steps += 1;
        self.report.packets += 1;
        // Packets always look further at a slot whose owner is dead.
        let at = self.slot(flow);
        let slot = self.edge.slot(flow.service, at);
        let stable = slot.look == 0 && self.edge.takes_new(slot.owner);
        let lookups = self.edge.lookups(flow.service);
        let owner_lived = truth::is_alive(&self.edge, flow.service, slot.owner);
        let reached = self.edge.send(self.now, frame);
        // Except when no backend takes new flows, and all are used as if they were up.
        if stable && reached.is_some_and(|number| self.edge.takes_new(number)) {
            self.report.at_rest += 1;
            if self.edge.lookups(flow.service) != lookups {
                self.report.misplaced.push(format!("{}: {flow:?} looked up a record of a stable slot", self.now));
            }
        }
        if self.edge.slot(flow.service, at).owner != slot.owner && owner_lived {
            self.yield_slot(flow.service, at, slot.owner);
        }
        reached
    }

    /// Accounts for a packet that gave a slot to another backend, although the slot's owner lives.
    fn yield_slot(&mut self, service: usize, slot: u32, owner: BackendNumber) {
        let incarnation = self.scene.incarnation(owner);
        let key = self.edge.view().generation.hash_key;
        let plan = &self.scene.world.services[service];
        if self.plan.has_room() {
            self.report.misplaced.push(format!("{}: slot {slot} of {service} was taken over", self.now));
        }
        let its = |life: &&mut Life| {
            (life.flow.service, life.incarnation) == (service, incarnation)
                && flow::slot(&key, &life.flow.ends(plan), plan, SLOTS) == slot
        };
        self.flows.all().filter(its).for_each(|life| life.yielded = true);
    }
}
