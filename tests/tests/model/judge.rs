//! Judges a run: where each packet should have gone, and states that must never occur.

use edge_common::{
    abi::{BackendNumber, Slot, Tracking},
    flow_table::UNIT,
};

use crate::{
    controller::recorded_slots,
    flow::Flow,
    plan::{CLOSED_KEPT, HALF_OPEN_KEPT},
    population::Life,
    run::Run,
    scene::{SLOTS, Scene},
    truth,
};

impl Run {
    /// The main rule: a packet of a running flow reaches the flow's backend.
    pub(crate) fn judge(&mut self, life: Life, reached: Option<BackendNumber>) {
        // When the flow's backend was forgotten, no flow may have been left, which was judged then.
        let is_known = self.scene.incarnation(life.home) == life.incarnation;
        let lived = is_known && self.truth.lived(life.flow.service, life.incarnation, life.moment);
        let life = Life { yielded: life.yielded || self.is_weak(&life), ..life };
        let same = reached.is_some_and(|number| self.scene.incarnation(number) == life.incarnation);
        if same {
            let life = self.at_home(Life { started: false, shaken: life.shaken || !lived, ..life }, life.home);
            self.flows.sent(&mut self.random, life);
            return;
        }
        if life.yielded {
            self.report.yielded += 1;
        } else if lived {
            let what = self.describe(&life, reached);
            if life.shaken { &mut self.report.shaken } else { &mut self.report.moved }.push(what);
        } else {
            self.report.orphaned += 1;
        }
        // The backend that received the packet resets the flow, unless flows of this kind have no start.
        if let Some(home) = reached.filter(|_| Scene::tracking(life.flow.service) == Tracking::Learn) {
            let life = self.at_home(Life { started: false, shaken: false, yielded: false, ..life }, home);
            self.flows.sent(&mut self.random, life);
        }
    }

    /// Whether the record of a flow may have given way to others in a full table, since the flow sent nothing after its
    /// start or its FIN. The table counts whole units of time.
    fn is_weak(&self, life: &Life) -> bool {
        let kept = if life.closed { CLOSED_KEPT } else { HALF_OPEN_KEPT };
        let unit = 1 + (1 << UNIT) / 1_000_000;
        (life.started || life.closed) && !self.plan.has_room() && self.now + unit > life.sent + kept
    }

    fn describe(&self, life: &Life, reached: Option<BackendNumber>) -> String {
        let service = life.flow.service;
        let slot = self.slot(&life.flow);
        let (owner, takers) = (self.edge.owner(service, slot), truth::takers(&self.edge, service, slot));
        format!("{}: to {reached:?}, slot {slot} of {owner}, new to {takers:?}, {life:?}", self.now)
    }

    /// Checks that a new flow went to the backend that receives new flows or, if it can't be recorded, to the slot's
    /// owner.
    pub(crate) fn check_start(&mut self, flow: &Flow, reached: Option<BackendNumber>) {
        if Scene::tracking(flow.service) == Tracking::Learn {
            return;
        }
        let slot = self.slot(flow);
        let takers = truth::takers(&self.edge, flow.service, slot);
        let may_be_unrecorded = has_home(flow.service) && !self.plan.has_room();
        let right = match reached {
            Some(number) => {
                // While a death is being stored, its pool may be passed over already, and packets do not look at other
                // slots yet.
                let may_stay = may_be_unrecorded || self.torn && self.edge.slot(flow.service, slot).look == 0;
                takers.contains(&number) || may_stay && number == self.edge.owner(flow.service, slot)
            }
            None => takers.is_empty() || self.torn,
        };
        if !right {
            let what = format!("{}: {flow:?} starts at {reached:?}, not at one of {takers:?}", self.now);
            self.report.misplaced.push(what);
        }
    }

    pub(crate) fn at_home(&mut self, life: Life, home: BackendNumber) -> Life {
        let incarnation = self.scene.incarnation(home);
        Life { home, incarnation, sent: self.now, moment: self.truth.next(), ..life }
    }

    /// Checks that each slot with a clear `look` has no record, and that its owner takes the new flows, if it is alive.
    pub(crate) fn check_stable(&mut self) {
        for service in 0..self.scene.world.services.len() {
            let recorded = recorded_slots(&self.edge, &self.scene, service);
            let is_wrong = |slot: &u32| {
                let Slot { owner, look, .. } = self.edge.slot(service, *slot);
                let takers = truth::takers(&self.edge, service, *slot);
                let right = takers.contains(&owner) || owner == 0 || !self.edge.is_alive(owner);
                look == 0 && (!right || recorded.contains(slot))
            };
            let wrong = (0..SLOTS).filter(is_wrong).count();
            if wrong != 0 {
                let what = format!("{}: service {service}: packets should look at {wrong} slots, and do not", self.now);
                self.report.misplaced.push(what);
            }
        }
    }

    /// Forgets a backend, whose number becomes free.
    pub(crate) fn forget(&mut self, number: BackendNumber) {
        let incarnation = self.scene.incarnation(number);
        let must_stay = |life: &Life| {
            !life.yielded && !self.is_weak(life) && self.truth.lived(life.flow.service, incarnation, life.moment)
        };
        let left: Vec<_> = self.flows.of(incarnation).copied().filter(must_stay).collect();
        for life in left {
            if has_home(life.flow.service) {
                self.report.moved.push(format!("{}: backend {number} is forgotten, and has {life:?}", self.now));
            }
        }
        self.truth.forget(incarnation);
        self.scene.forget(number);
        self.report.forgotten += 1;
    }
}

/// Whether a service's flows are bound to a backend.
pub(crate) fn has_home(service: usize) -> bool {
    Scene::tracking(service) != Tracking::Stateless
}
