//! Changes of backends, pools, weights and failovers; the order in which their parts are stored, and where the
//! controller dies in between.

use edge_common::abi::{BackendNumber, State};

use crate::{
    edge::Part,
    flow::Flow,
    plan::Broken,
    run::Run,
    scene::{SLOTS, Scene, Turn},
};

/// One change.
#[derive(Clone, Copy, Debug)]
enum Change {
    Backend(BackendNumber, Turn),
    Added(u16, u32),
    Weighed(BackendNumber, u32),
    FailedOver(usize, usize, bool),
    MinHealthy(u16, u16),
}

impl Run {
    /// Makes a change, or several, one after the other before the next pass.
    pub(crate) fn change(&mut self) {
        let changes = self.draw();
        for change in changes {
            if !self.make(change) {
                return;
            }
        }
    }

    /// Makes a change and undoes it before the next pass; flows start in between.
    pub(crate) fn blink(&mut self) {
        let mut drained = self.scene.drained();
        drained.retain(|number| self.edge.owns(*number));
        let Some(number) = self.random.choose(&drained) else { return self.change() };
        if !self.make(Change::Backend(number, Turn::Undrained)) {
            return;
        }
        // In slots that the backend owns, flows start without a record.
        let its: Vec<Flow> = (0..60).map(|_| self.flows.any(&mut self.random, &self.scene)).collect();
        for flow in its {
            if self.edge.owner(flow.service, self.slot(&flow)) == number {
                self.begin(flow);
            }
        }
        self.make(Change::Backend(number, Turn::Drained));
    }

    /// After a controller's death, a change may be stored incompletely: the new controller stores everything.
    pub(crate) fn repair(&mut self) {
        let all: Vec<_> = (0..self.scene.world.services.len()).collect();
        let after = self.edge.foresee(&self.scene, &self.plan);
        self.controller.before_change(&mut self.edge, &all, Some((&after, &all)));
        self.store(Part::Backends);
        self.store(Part::Generation);
        self.torn = false;
        self.controller.changed(&mut self.edge, &all, false);
    }

    /// Makes a change step by step; `false` if the controller died meanwhile.
    fn make(&mut self, change: Change) -> bool {
        self.report.changes += 1;
        self.report.steps += 1;
        let concerned = self.concerned(change);
        // A death is published immediately.
        let death = if let Change::Backend(number, Turn::Dies | Turn::Disabled) = change {
            Some(self.scene.world.backends[usize::from(number)].pool)
        } else {
            None
        };
        let mut next = self.scene.clone();
        apply(&mut next, change);
        let searched = self.searched(change);
        if is_published(change) {
            let slot = u32::try_from(self.random.below(SLOTS.into())).expect("a slot");
            self.controller.rehearsed(&mut self.edge, slot);
            self.meanwhile();
        }
        let after = death.is_none().then(|| self.edge.foresee(&next, &self.plan));
        self.controller.before_change(&mut self.edge, &concerned, after.as_ref().map(|after| (after, &*searched)));
        if self.random.chance(20) {
            self.kill();
            return false;
        }
        self.meanwhile();
        apply(&mut self.scene, change);
        // A new backend is stored before its publication; a removed one may disappear before or after it.
        let mut parts = [Part::Backends, Part::Generation];
        if matches!(change, Change::Backend(..)) && self.random.chance(300) {
            parts.reverse();
        }
        self.torn = true;
        self.store(parts[0]);
        if self.random.chance(300) {
            self.meanwhile();
        }
        if self.random.chance(20) {
            self.kill();
            return false;
        }
        self.store(parts[1]);
        self.torn = false;
        // In a pool that has enough backends without it, the death moves no flows of other slots.
        let looks = death.is_some_and(|pool| !self.serves(pool));
        self.controller.changed(&mut self.edge, &concerned, looks);
        self.meanwhile();
        true
    }

    /// Whether a pool has enough backends to serve.
    fn serves(&self, pool: u16) -> bool {
        let pool = &self.scene.world.pools[usize::from(pool)];
        let takes =
            |number: &&BackendNumber| State(self.scene.world.backends[usize::from(**number)].state).has_all(State::NEW);
        pool.members.iter().filter(takes).count() >= usize::from(pool.min_healthy)
    }

    fn store(&mut self, part: Part) {
        self.edge.publish(&mut self.scene, &self.plan, part);
        self.truth.observe(&self.edge, &self.scene);
    }

    /// The services whose picks may change.
    fn concerned(&self, change: Change) -> Vec<usize> {
        match change {
            Change::Backend(number, turn) if turn != Turn::Removed && !self.torn => {
                self.scene.services_of(self.scene.world.backends[usize::from(number)].pool)
            }
            Change::FailedOver(service, ..) if !self.torn => vec![service],
            // A new generation, or the completion of an unfinished one.
            Change::Backend(..)
            | Change::Added(..)
            | Change::Weighed(..)
            | Change::FailedOver(..)
            | Change::MinHealthy(..) => (0..self.scene.world.services.len()).collect(),
        }
    }

    /// The services whose picks are searched before a change: a publication does so only where a pool is another one.
    fn searched(&self, change: Change) -> Vec<usize> {
        match change {
            _ if is_published(change) && self.plan.broken == Broken::PublishedUnforeseen => Vec::new(),
            Change::Backend(number, _) | Change::Weighed(number, _) if !self.torn => {
                self.scene.services_of(self.scene.world.backends[usize::from(number)].pool)
            }
            Change::Added(pool, _) | Change::MinHealthy(pool, _) if !self.torn => self.scene.services_of(pool),
            Change::Backend(..)
            | Change::Added(..)
            | Change::Weighed(..)
            | Change::FailedOver(..)
            | Change::MinHealthy(..) => self.concerned(change),
        }
    }

    /// The next changes: mostly one, sometimes many at once.
    fn draw(&mut self) -> Vec<Change> {
        let members = self.scene.members();
        let of = |pool: u16| {
            let members = &self.scene.world.pools[usize::from(pool)].members;
            members.iter().map(|member| Change::Backend(*member, Turn::Dies)).collect::<Vec<_>>()
        };
        let pool = u16::try_from(self.random.below(3)).expect("one of three pools");
        match self.random.below(100) {
            0..6 => members.iter().map(|member| Change::Backend(*member, Turn::Recovers)).collect(),
            6..9 => of(pool),
            9..11 => [of(0), of(1), of(2)].concat(),
            _ => {
                let count = if self.random.chance(800) { 1 } else { 3 };
                (0..count).filter_map(|_| self.draw_one(pool)).collect()
            }
        }
    }

    fn draw_one(&mut self, pool: u16) -> Option<Change> {
        let all = self.scene.all();
        let member = self.random.choose(&self.scene.members())?;
        let weight = [50, 100, 200, 300][self.random.place(4)];
        let service = self.random.place(self.scene.world.services.len());
        let state = |number: &BackendNumber| State(self.scene.world.backends[usize::from(*number)].state);
        let with = |bits| all.iter().copied().filter(|number| state(number).has_all(bits)).collect::<Vec<_>>();
        let (dead, drained, disabled) = (with(State::DOWN), with(State::DRAINED), with(State::DISABLED));
        Some(match self.random.below(100) {
            // Removed backends are probed as well.
            0..15 => Change::Backend(self.random.choose(&all)?, Turn::Dies),
            15..35 => Change::Backend(self.random.choose(&dead)?, Turn::Recovers),
            35..45 => Change::Backend(member, Turn::Drained),
            45..52 => Change::Backend(self.random.choose(&drained)?, Turn::Undrained),
            52..54 => Change::Backend(member, Turn::Disabled),
            54..60 => Change::Backend(self.random.choose(&disabled)?, Turn::Enabled),
            60..68 => Change::Added(pool, weight),
            68..76 => {
                let pool = self.scene.world.backends[usize::from(member)].pool;
                let many = self.scene.world.pools[usize::from(pool)].members.len() > 2;
                return many.then_some(Change::Backend(member, Turn::Removed));
            }
            76..84 => Change::Weighed(member, weight),
            84..95 => {
                let evacuate = self.random.chance(300);
                Change::FailedOver(service, self.random.place(3), evacuate)
            }
            _ => Change::MinHealthy(pool, 1 + u16::try_from(self.random.below(3)).expect("a few")),
        })
    }
}

/// Whether a change is another generation's.
const fn is_published(change: Change) -> bool {
    match change {
        Change::Backend(_, turn) => matches!(turn, Turn::Removed),
        Change::Added(..) | Change::Weighed(..) | Change::MinHealthy(..) => true,
        Change::FailedOver(..) => false,
    }
}

fn apply(scene: &mut Scene, change: Change) {
    match change {
        Change::Backend(number, turn) => scene.turn(number, turn),
        Change::Added(pool, weight) => {
            scene.add(pool, weight);
        }
        Change::Weighed(number, weight) => scene.weigh(number, weight),
        Change::FailedOver(service, first, evacuate) => scene.fail_over(service, first, evacuate),
        Change::MinHealthy(pool, count) => scene.world.pools[usize::from(pool)].min_healthy = count,
    }
}
