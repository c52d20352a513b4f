//! Random operations, reloads, restarts and evidence, against a small model of what must hold whatever came before.
//!
//! The model has the decisions of operators, by names and addresses, which backends have given cause to be down, and which text
//! is in force, on trial or not; nothing of how the controller gets there. `CONTROLLER_OPERATIONS=100000` runs as many others.

mod model;
mod published;
mod tried;

use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

use self::{model::Model, published::Published, tried::Tried};
use super::*;
use crate::{
    config::Config,
    control::{
        change::{Entry, History, How},
        evacuation::{Moment, PeakRates, Request, Wanted},
    },
    plan::Word,
};

/// In all, unless `CONTROLLER_OPERATIONS` is set.
const OPERATIONS: u32 = 3_000;
/// Of one run, on average: what is found in a long one is shown in a short one.
const RUN: usize = 150;

/// Changes of the fixture's text: a backend more or less, one with another address, names that change, an order, a pool, a
/// service, a probe.
const EDITS: [(&str, &str); 10] = [
    ("", ""),
    ("    { name = \"a2\", address = \"10.1.0.12\" },\n", ""),
    ("    { name = \"b2\", address = \"10.2.0.12\" },\n", "    { name = \"b2\", address = \"10.2.0.99\" },\n"),
    ("name = \"b1\"", "name = \"renamed\""),
    ("pools = [\"provider-a\", \"provider-b\"]", "pools = [\"provider-b\", \"provider-a\"]"),
    ("pools = [\"provider-a\", \"provider-b\"]", "pools = [\"provider-a\"]"),
    ("min_healthy = 2", "min_healthy = 3"),
    ("interval = \"1s\"", "interval = \"2s\""),
    ("probe = { type = \"tcp\", port = 80, rise = 2, fall = 3 }\n", ""),
    ("weight = 50", "weight = 60\n    }, { name = \"more\", address = \"10.1.0.14\""),
];

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// So many probes of one backend end in the same way.
    Probes(Index, Answer, u8),
    /// A probe of each backend of a pool, or of all.
    Outage(Option<bool>, Answer, u8),
    /// Milliseconds.
    Time(u32),
    Second,
    Operate(Verb, Index),
    /// By the command line, on the maps themselves, while the daemon does not answer.
    Elsewhere(Verb, Index),
    /// Pools are evacuated, each with these `drain` and `force`, and then all are brought back.
    Evacuations(Vec<(Index, bool, bool)>),
    /// Whether what was removed still has flows.
    Reload(Index, bool),
    /// A text on trial for some milliseconds.
    Try(Index, u32),
    Confirm,
    /// The generation in force has stood its soak.
    BeGood,
    /// To a generation that is kept, or to the last good one.
    RollBack(Option<Index>, bool),
    /// An operator's weight of a backend; `None` for the file's.
    Weigh(Index, Option<u32>),
    Restart,
    Reach(Index, bool),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Pass,
    Fail,
    Silent,
    Inconclusive,
}

#[derive(Clone, Copy, Debug)]
enum Verb {
    Drain,
    Enable,
    Disable,
    Health(Option<Health>),
    Failover(bool),
    Failback,
}

impl Answer {
    fn verdict(self) -> Verdict {
        match self {
            Self::Pass => Verdict::Pass,
            Self::Fail => Verdict::Fail("connection refused".to_owned()),
            Self::Silent => Verdict::Silent("no answer within 500ms".to_owned()),
            Self::Inconclusive => Verdict::Inconclusive("too many open files".to_owned()),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let answer = || prop_oneof![4 => Just(Answer::Pass), 2 => Just(Answer::Fail), 3 => Just(Answer::Silent), 1 => Just(Answer::Inconclusive)];
    let verb = || {
        prop_oneof![
            1 => Just(Verb::Drain),
            3 => Just(Verb::Enable),
            1 => Just(Verb::Disable),
            1 => prop_oneof![Just(Health::Up), Just(Health::Down)].prop_map(|health| Verb::Health(Some(health))),
            2 => Just(Verb::Health(None)),
            1 => any::<bool>().prop_map(Verb::Failover),
            1 => Just(Verb::Failback),
        ]
    };
    prop_oneof![
        8 => (any::<Index>(), answer(), 1u8..5).prop_map(|(which, answer, times)| Step::Probes(which, answer, times)),
        6 => (any::<Option<bool>>(), answer(), 1u8..5).prop_map(|(pool, answer, times)| Step::Outage(pool, answer, times)),
        4 => prop_oneof![1u32..2_000, 1u32..400_000].prop_map(Step::Time),
        4 => Just(Step::Second),
        3 => (verb(), any::<Index>()).prop_map(|(verb, which)| Step::Operate(verb, which)),
        1 => (verb(), any::<Index>()).prop_map(|(verb, which)| Step::Elsewhere(verb, which)),
        1 => vec((any::<Index>(), any::<bool>(), any::<bool>()), 1..4).prop_map(Step::Evacuations),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(edit, held)| Step::Reload(edit, held)),
        2 => (any::<Index>(), 1u32..60_000).prop_map(|(edit, confirm)| Step::Try(edit, confirm)),
        1 => Just(Step::Confirm),
        1 => Just(Step::BeGood),
        1 => (any::<Option<Index>>(), any::<bool>()).prop_map(|(to, held)| Step::RollBack(to, held)),
        2 => (any::<Index>(), prop_oneof![Just(None), (1u32..4).prop_map(|weight| Some(50 * weight)), Just(Some(60))])
            .prop_map(|(which, weight)| Step::Weigh(which, weight)),
        1 => Just(Step::Restart),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(which, cut)| Step::Reach(which, cut)),
    ]
}

/// The configuration after an edit.
fn edited(edit: usize) -> Config {
    let (from, to) = EDITS[edit];
    let text = inventory().config.text.replacen(from, to, 1);
    config::parse(&text, "edge.toml").unwrap_or_else(|error| panic!("{error}"))
}

struct Run {
    controller: Controller<FakeDataPlane>,
    published: Published,
    model: Model,
    history: History,
    tried: Tried,
}

impl Run {
    fn new() -> Self {
        let (published, inventory, plane) = Published::first(&edited(0));
        let model = Model::new(&inventory);
        let mut history = History::default();
        let text = inventory.config.text.clone();
        history.push(Entry::new(inventory.generation, 0, How::Start, &text));
        let controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
        Self { controller, published, model, history, tried: Tried::new(text) }
    }

    fn configured(&self) -> Vec<BackendNumber> {
        self.controller.inventory.members().map(|member| member.number).collect()
    }

    fn operation(&self, verb: Verb, which: Index) -> Operation {
        let inventory = &self.controller.inventory;
        let services = &inventory.config.services;
        let service = services[which.index(services.len())].name.clone();
        let names: Vec<_> = inventory.known().map(|known| known.name).collect();
        let backend = names[which.index(names.len())].clone();
        let reason = Some("by chance".to_owned());
        match verb {
            Verb::Drain => Operation::Drain { backend, reason },
            Verb::Enable => Operation::Enable { backend, reason },
            Verb::Disable => Operation::Disable { backend, reason },
            Verb::Health(health) => Operation::Health { backend, health, reason },
            Verb::Failover(evacuate) => {
                let to = if evacuate { "provider-b" } else { "provider-a" }.to_owned();
                Operation::Failover { service, to, evacuate, terms: operations::Terms::default() }
            }
            Verb::Failback => Operation::Failback { service },
        }
    }

    /// What operators have decided.
    fn words(&self) -> (Vec<Word>, Vec<Failover>) {
        let Controller { inventory, plane, .. } = &self.controller;
        let words = inventory.known().map(|known| plan::word(plane.state(known.number)));
        (words.collect(), inventory.services().map(|(_, number)| plane.failover(number)).collect())
    }

    fn evacuate_and_bring_back(&mut self, wanted: &[(Index, bool, bool)]) {
        let before = self.words();
        let pools: Vec<_> = self.controller.inventory.config.pools.iter().map(|pool| pool.name.clone()).collect();
        let (mut evacuations, now) = (Vec::new(), Moment { unix_ms: 0, boot_ms: 0 });
        for &(which, drain, force) in wanted {
            let wanted = Wanted { drain, force, ..Wanted::default() };
            let pool = &pools[which.index(pools.len())];
            let request = Request { pool, wanted: &wanted, now, peaks: &PeakRates::default() };
            self.controller.evacuate(&mut evacuations, request).unwrap();
        }
        for pool in &pools {
            self.controller.end_evacuation(&mut evacuations, pool, "all is back").unwrap();
        }
        assert_eq!(self.words(), before, "all that were brought back are as before");
    }

    fn probe(&mut self, backend: BackendNumber, answer: Answer) {
        self.model.probed(&self.controller, backend, matches!(answer, Answer::Fail | Answer::Silent));
        self.controller.now += Duration::from_millis(7);
        let report = report(Subject::Backend(backend), answer.verdict());
        self.controller.report(&[report]).unwrap();
    }

    fn go(&mut self, step: &Step) {
        match step {
            Step::Probes(which, answer, times) => {
                let all = self.configured();
                (0..*times).for_each(|_| self.probe(all[which.index(all.len())], *answer));
            }
            Step::Outage(pool, answer, times) => {
                let of =
                    |pool: &Option<bool>| pool.map(|second| &self.controller.inventory.backends[usize::from(second)]);
                let hit = of(pool).cloned().unwrap_or_else(|| self.configured());
                for _ in 0..*times {
                    self.controller.now += Duration::from_millis(900);
                    for backend in self.configured() {
                        self.probe(backend, if hit.contains(&backend) { *answer } else { Answer::Pass });
                    }
                }
            }
            Step::Time(ms) => {
                self.controller.now += Duration::from_millis((*ms).into());
                self.controller.reconsider().unwrap();
            }
            Step::Second => {
                self.controller.now += Duration::from_secs(1);
                self.controller.age().unwrap();
            }
            Step::Operate(verb, which) => {
                let operation = self.operation(*verb, *which);
                let done = self.controller.operate(&operation).is_ok();
                self.model.operated(&self.controller.inventory, &operation, done);
            }
            Step::Elsewhere(verb, which) => {
                let operation = self.operation(*verb, *which);
                let Controller { inventory, plane, .. } = &mut self.controller;
                let states = plane.states.clone();
                let condition = |backend| plan::condition(states.get(&backend).copied().unwrap_or_default());
                let done = operations::operate(inventory, plane, condition, &Events::new(), &operation).is_ok();
                self.model.operated(inventory, &operation, done);
            }
            Step::Evacuations(wanted) => self.evacuate_and_bring_back(wanted),
            Step::Reload(edit, held) => {
                self.apply(edited(edit.index(EDITS.len())), None, *held);
            }
            Step::Try(edit, confirm) => self.apply(edited(edit.index(EDITS.len())), Some(*confirm), true),
            Step::Confirm => self.confirm(),
            Step::BeGood => self.be_good(),
            Step::RollBack(to, held) => self.roll_back(*to, *held),
            Step::Weigh(which, weight) => self.weigh(*which, *weight),
            Step::Restart => {
                let other = Controller::adopt(inventory(), FakeDataPlane::default(), Events::new()).unwrap();
                let Controller { inventory, plane, now, .. } = std::mem::replace(&mut self.controller, other);
                self.controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
                self.controller.now = now;
                self.model.restarted();
                self.recall();
            }
            Step::Reach(which, cut) => {
                let all = self.configured();
                let backend = all[which.index(all.len())];
                self.model.reached(backend, *cut);
                self.controller.reach(vec![(backend, cut.then(|| "its link is down".to_owned()))]).unwrap();
            }
        }
    }
}

#[test]
fn whatever_happens() {
    let wanted = std::env::var("CONTROLLER_OPERATIONS").ok().map(|text| text.parse().expect("a number"));
    let runs = wanted.unwrap_or(OPERATIONS).div_ceil(u32::try_from(RUN).expect("small"));
    let config = ProptestConfig::with_cases(runs);
    // The same ones each time, unless more are wanted.
    let mut runner = match wanted {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let result = runner.run(&vec(step(), 1..2 * RUN), |steps| {
        let mut run = Run::new();
        for (at, step) in steps.iter().enumerate() {
            let frozen = run.controller.frozen().is_some();
            let before = run.controller.plane.states.clone();
            run.go(step);
            run.expire();
            run.controller.reconcile().unwrap();
            let silent = matches!(
                step,
                Step::Probes(_, Answer::Silent | Answer::Inconclusive, _) | Step::Outage(None, Answer::Silent, _)
            );
            let stays = frozen && silent && run.controller.frozen().is_some();
            let broken = run.model.broken(&run.controller, stays.then_some(&before)).or_else(|| run.tried.broken(&run));
            prop_assert!(broken.is_none(), "step {at}, {step:?}: {}", broken.unwrap_or_default());
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
