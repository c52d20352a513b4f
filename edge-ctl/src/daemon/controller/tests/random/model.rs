//! What must hold, from the operators' decisions and the probes' results; it is independent of how the controller gets there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{super::*, FakeDataPlane};
use crate::{
    control::{inventory::Member, selection::Counts},
    plan::Word,
};

/// A backend as people mean it: pool, name and address.
type Identity = (String, String, IpAddr);

/// Probes that make a backend down in the fixture.
const FALL: u32 = 3;

#[derive(Default)]
pub(super) struct Model {
    /// The decisions of operators about a backend, while it exists.
    words: BTreeMap<Identity, Word>,
    /// The pools that services are failed over to, and what was behind them in the list.
    failovers: BTreeMap<String, Vec<String>>,
    /// Bad answers in a row.
    bad: BTreeMap<BackendNumber, u32>,
    /// Those that have given cause to be down since they were seen unknown, or good.
    suspects: BTreeSet<BackendNumber>,
    cut_off: BTreeSet<BackendNumber>,
    generation: u64,
    repaired: u64,
    /// Whether something else has written than the controller.
    disturbed: bool,
}

fn identity(member: &Member<'_>) -> Identity {
    (member.pool.name.clone(), member.backend.name.clone(), member.backend.address)
}

fn identities(inventory: &Inventory) -> Vec<(Identity, BackendNumber)> {
    let configured = inventory.members().map(|member| (identity(&member), member.number));
    let retired = inventory.retired.iter();
    let retired =
        retired.map(|retired| ((retired.pool.clone(), retired.name.clone(), retired.address), retired.number));
    configured.chain(retired).collect()
}

impl Model {
    pub(super) fn new(inventory: &Inventory) -> Self {
        Self { generation: inventory.generation, ..Self::default() }
    }

    pub(super) fn probed(&mut self, controller: &Controller<FakeDataPlane>, backend: BackendNumber, is_bad: bool) {
        let is_probed = controller.judgement.probed.contains_key(&backend);
        let bad = self.bad.entry(backend).or_default();
        *bad = if is_bad && is_probed { *bad + 1 } else { 0 };
        if *bad >= FALL {
            self.suspects.insert(backend);
        }
    }

    pub(super) fn operated(&mut self, inventory: &Inventory, operation: &Operation, done: bool) {
        self.disturbed = true;
        if !done {
            return;
        }
        let mut change_word = |name: &str, change: &dyn Fn(&mut Word)| {
            let known = inventory.backend(name).expect("it was done");
            let identities = identities(inventory);
            let (identity, _) =
                identities.iter().find(|(_, number)| known.numbers.contains(number)).expect("it is known");
            change(self.words.entry(identity.clone()).or_default());
        };
        match operation {
            Operation::Drain { backend, .. } => change_word(backend, &|word| word.admin = Admin::Drained),
            Operation::Enable { backend, .. } => change_word(backend, &|word| word.admin = Admin::Enabled),
            Operation::Disable { backend, .. } => change_word(backend, &|word| word.admin = Admin::Disabled),
            Operation::Health { backend, health, .. } => change_word(backend, &|word| word.forced = *health),
            Operation::Failover { service, to, .. } => {
                let (service, _) = inventory.service(service).expect("it was done")[0];
                let pools = inventory.pool_names(service);
                let behind: Vec<_> = pools.iter().skip_while(|pool| *pool != to).cloned().collect();
                self.failovers.remove(&service.name);
                // To the first one is back to where it goes by itself.
                if pools.first() != Some(to) {
                    self.failovers.insert(service.name.clone(), behind);
                }
            }
            Operation::Failback { service } => drop(self.failovers.remove(service)),
        }
    }

    pub(super) fn reloaded(&mut self, before: &Inventory, inventory: &Inventory) {
        let known = identities(inventory);
        // An operator's word is about the name: it goes with it to another address.
        let words: Vec<_> =
            before.members().map(|member| (member.name(), self.words.get(&identity(&member)).copied())).collect();
        for member in inventory.members() {
            if let Some((_, word)) = words.iter().find(|(name, _)| *name == member.name()) {
                self.words.insert(identity(&member), word.unwrap_or_default());
            }
        }
        self.words.retain(|identity, _| known.iter().any(|(known, _)| known == identity));
        let numbers: BTreeSet<_> = known.iter().map(|(_, number)| *number).collect();
        self.cut_off.retain(|number| numbers.contains(number));
        self.bad.retain(|number, _| numbers.contains(number));
        self.suspects.retain(|number| numbers.contains(number));
        for service in &inventory.config.services {
            let pools = inventory.pool_names(service);
            if let Some(behind) = self.failovers.get_mut(&service.name) {
                // To the pool that it named, else to the next one behind it.
                behind.retain(|pool| pools.contains(pool));
                let to = behind.first().cloned();
                *behind = pools.iter().skip_while(|pool| Some(*pool) != to.as_ref()).cloned().collect();
                if to.is_none() || pools.first() == to.as_ref() {
                    self.failovers.remove(&service.name);
                }
            }
        }
        self.disturbed = true;
    }

    pub(super) fn restarted(&mut self) {
        self.bad.clear();
        // What was down stays down until its probes pass.
        self.suspects.append(&mut self.cut_off);
        (self.repaired, self.disturbed) = (0, true);
    }

    pub(super) fn reached(&mut self, backend: BackendNumber, is_cut_off: bool) {
        if is_cut_off {
            self.cut_off.insert(backend);
        } else {
            self.cut_off.remove(&backend);
        }
    }

    /// Which rule is broken, after the controller has compared what there is with what it believes.
    pub(super) fn broken(
        &mut self,
        controller: &Controller<FakeDataPlane>,
        stays: Option<&BTreeMap<BackendNumber, State>>,
    ) -> Option<String> {
        let Controller { inventory, plane, .. } = controller;
        if inventory.generation < self.generation {
            return Some("the generation has become less".to_owned());
        }
        self.generation = inventory.generation;
        if controller.repaired != self.repaired && !std::mem::take(&mut self.disturbed) {
            return Some(format!("repaired without a foreign write: {:?}", controller.events.kept().last()));
        }
        (self.repaired, self.disturbed) = (controller.repaired, false);
        let retired: BTreeSet<_> = inventory.retired.iter().map(|retired| retired.number).collect();
        for (identity, number) in identities(inventory) {
            let state = plane.states.get(&number).copied().unwrap_or_default();
            let broken = self.backend(controller, &identity, number, state, retired.contains(&number));
            if let Some(broken) = broken {
                return Some(format!("{identity:?}, {number}, {state:?}: {broken}"));
            }
            let is_good = !state.has_any(State::DOWN | State::DISABLED | State::FORCED_UP | State::FORCED_DOWN)
                && !self.cut_off.contains(&number);
            if is_good && self.bad.get(&number).is_none_or(|bad| *bad == 0) {
                self.suspects.remove(&number);
            }
        }
        if let Some(before) = stays {
            let moved = before.iter().find(|(number, before)| {
                // What packets see. That a backend is up may come into doubt: its probes could not be made.
                let mask = State::DOWN | State::NEW | State::ALIVE;
                plane.states.get(number).is_some_and(|now| {
                    // Unreachability is certain, and once other backends are given back there are replacements.
                    let is_taken_out = self.cut_off.contains(number) && now.0 & mask == State::DOWN;
                    now.0 & mask != before.0 & mask && !is_taken_out
                })
            });
            if let Some(moved) = moved {
                return Some(format!("frozen, and {moved:?} is another"));
            }
        }
        let counts = Counts::take(inventory, plane);
        inventory.services().find_map(|(service, number)| {
            let failover = plane.failovers.get(&number).copied().unwrap_or_default();
            let pools = inventory.pool_names(service);
            let wanted = self.failovers.get(&service.name).and_then(|behind| behind.first());
            let wanted = wanted.and_then(|to| pools.iter().position(|pool| pool == to)).unwrap_or(0);
            if usize::from(failover.first) != wanted {
                return Some(format!("{} is failed over to {failover:?}, not to {wanted}", service.name));
            }
            let takes = |pool: &usize| {
                let members = inventory.members_of(*pool).map(|member| plane.states.get(&member.number).copied());
                members.flatten().any(|state| state.has_all(State::NEW))
            };
            let serving = selection::serving(&counts, failover, service);
            match serving.position().and_then(|position| service.pools.get(position)) {
                Some(pool) if takes(pool) || !service.pools.iter().any(takes) => None,
                None if !service.pools.iter().any(takes) => None,
                _ => Some(format!("{} is not served, {serving:?}, and some backend takes new flows", service.name)),
            }
        })
    }

    fn backend(
        &self,
        controller: &Controller<FakeDataPlane>,
        identity: &Identity,
        number: BackendNumber,
        state: State,
        retired: bool,
    ) -> Option<&'static str> {
        let word = self.words.get(identity).copied().unwrap_or_default();
        if plan::word(state) != word {
            return Some("not as its operator has set it");
        }
        let (admin, forced) = (word.admin, word.forced.filter(|_| word.admin != Admin::Disabled));
        if retired != state.has_all(State::RETIRED) {
            return Some("retired, or not");
        }
        let takes = state.has_all(State::NEW);
        if takes && (retired || admin != Admin::Enabled) {
            return Some("it takes new flows");
        }
        if admin == Admin::Disabled && state.has_any(State::ALIVE | State::ENABLED) {
            return Some("disabled, and it has flows");
        }
        if admin == Admin::Drained && !state.has_any(State::DOWN) && !state.has_all(State::ALIVE) {
            return Some("drained, and it has lost its flows");
        }
        let is_cut_off = self.cut_off.contains(&number);
        if forced == Some(Health::Down) && (!state.has_all(State::DOWN) || state.has_any(State::NEW | State::ALIVE)) {
            return Some("forced down by its operator, and it gets packets");
        }
        if forced == Some(Health::Up) && !is_cut_off && state.has_all(State::DOWN) {
            return Some("forced up by its operator, and down");
        }
        let has_cause = is_cut_off || forced == Some(Health::Down);
        if state.has_all(State::DOWN) && !has_cause && !self.suspects.contains(&number) {
            return Some("down without a cause");
        }
        if admin == Admin::Enabled && !retired && !is_cut_off && !state.has_all(State::DOWN) && !takes {
            return Some("not down, and it does not serve");
        }
        if controller.judgement.health(number) == Health::Unknown && state.has_all(State::DOWN) && !is_cut_off {
            return Some("unknown, and down");
        }
        None
    }
}
