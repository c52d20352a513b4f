//! A controller reduced to its duties: it hands slots over, deletes redundant records, and ends transitions.
//!
//! The controller uses the real `select::pick` and the real `tables::handover`, except for the rule that the plan breaks.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use edge_common::{
    abi::{BackendNumber, FlowEnds, Slot, Tracking, Unrecorded},
    flow_table::Stage,
    host::{FlowRecord, Memory},
    maps::Maps as _,
    select,
    tables::handover::{Move, SlotState, SlotTimers, is_redundant},
};

use crate::{
    edge::{self, Edge, place},
    flow,
    plan::{Broken, ENDED, IDLE_TIMEOUT, LEARN, Plan, TICK},
    scene::{SLOTS, Scene},
    units,
};

pub(crate) struct Controller {
    plan: Plan,
    services: Vec<Care>,
    /// For a broken rule: the time since which a backend has been the pick of any slot of a service.
    waiting: BTreeMap<(usize, BackendNumber), u64>,
    pub(crate) done: Done,
}

/// Counts of the controller's actions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) moves: u64,
    pub(crate) collected: u64,
    pub(crate) stable: u64,
    pub(crate) shared: u64,
    pub(crate) restarts: u64,
    /// Slots of the services concerned that a change did not concern.
    pub(crate) spared: u64,
}

impl Done {
    pub(crate) fn add(&mut self, other: Self) {
        self.moves += other.moves;
        self.collected += other.collected;
        self.stable += other.stable;
        self.shared += other.shared;
        self.restarts += other.restarts;
        self.spared += other.spared;
    }
}

/// The controller's knowledge of a service.
#[derive(Default)]
struct Care {
    timers: Option<SlotTimers>,
    changes: u32,
    stability: Stability,
}

/// How far the end of a transition has been prepared, with slots and their owners; each change resets it to `Unknown`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Stability {
    #[default]
    Unknown,
    /// A pass found that these owners are their slots' picks.
    Looked(BTreeMap<u32, BackendNumber>),
    /// After the pass, a scan found no record of these slots.
    Scanned(BTreeMap<u32, BackendNumber>),
}

impl Controller {
    pub(crate) fn new(plan: Plan, services: usize) -> Self {
        let services = (0..services).map(|_| Care::default()).collect();
        Self { plan, services, waiting: BTreeMap::new(), done: Done::default() }
    }

    /// Kills the controller and starts it again, without any state.
    pub(crate) fn restart(&mut self) {
        for care in &mut self.services {
            *care = Care::default();
        }
        self.waiting.clear();
        self.done.restarts += 1;
    }

    /// Called before any change on which the picks of `services` depend. `after` has the maps as they will be after it,
    /// and the services among them whose picks are searched; `None` for a death, before which `look` is not set.
    pub(crate) fn before_change(&mut self, edge: &mut Edge, services: &[usize], after: Option<(&Memory, &[usize])>) {
        edge.write(|memory| services.iter().for_each(|service| memory.services[place(*service)].in_transition = 1));
        if let Some((after, searched)) = after.filter(|_| self.plan.broken != Broken::LookedAtLate) {
            self.done.spared += look_at_concerned(edge, searched, after);
        }
        if after.is_some() && self.plan.broken != Broken::SeparatedLate {
            edge.separate(services);
        }
        for service in services {
            self.services[*service].stability = Stability::Unknown;
        }
    }

    /// Called when a generation is staged: a packet of its rehearsal makes packets look at one slot of each service.
    pub(crate) fn rehearsed(&mut self, edge: &mut Edge, slot: u32) {
        edge.write(|memory| {
            for service in 0..self.services.len() {
                memory.services[place(service)].in_transition = 1;
                edge::set(memory, service, slot, |slot| slot.look = 1);
            }
        });
        self.services.iter_mut().for_each(|care| care.stability = Stability::Unknown);
    }

    /// Called after each change. With `looks`, packets must look at all slots from now on.
    pub(crate) fn changed(&mut self, edge: &mut Edge, services: &[usize], looks: bool) {
        if self.plan.broken != Broken::SeparatedLate {
            edge.separate(services);
        }
        if looks && self.plan.broken != Broken::LookedAtLate {
            look_at_all(edge, services);
        }
        for service in services {
            self.services[*service].changes += 1;
            self.services[*service].stability = Stability::Unknown;
        }
    }

    /// Makes a pass; called once a second.
    pub(crate) fn tick(&mut self, edge: &mut Edge, scene: &Scene, now: u64) {
        for service in 0..self.services.len() {
            if edge.is_in_transition(service) {
                // The writer that made the change may have died before.
                edge.separate(&[service]);
                self.look(edge, service, now);
            } else {
                self.services[service] = Care::default();
            }
        }
        self.collect(edge, scene, now);
    }

    fn look(&mut self, edge: &mut Edge, service: usize, now: u64) {
        let slots: Vec<SlotState> = (0..SLOTS).map(|slot| self.see(edge, service, slot)).collect();
        let care = &mut self.services[service];
        let idle_timeout = match (Scene::tracking(service), self.plan.broken) {
            (_, Broken::HandoverAtOnce | Broken::Stateless) | (Tracking::Stateless, _) => 0,
            (Tracking::Learn, _) => LEARN,
            (Tracking::Tcp | Tracking::Quic, _) => IDLE_TIMEOUT,
        };
        let changes = std::mem::take(&mut care.changes);
        let changes = if self.plan.broken == Broken::ChangesUncounted { changes.min(1) } else { changes };
        let time = Duration::from_millis(now);
        let timers = care.timers.get_or_insert_with(|| SlotTimers::new(Duration::from_millis(idle_timeout), time));
        let mut pass = timers.reconcile(time, changes, slots.iter().copied());
        if care.stability == Stability::Unknown || !pass.moves.is_empty() {
            let ending = (0..).zip(&slots).filter(|(_, seen)| seen.pick == Some(seen.owner));
            care.stability = Stability::Looked(ending.map(|(slot, seen)| (slot, seen.owner)).collect());
        }
        if self.plan.broken == Broken::HandoverPerBackend && idle_timeout > 0 {
            if changes > 1 {
                self.waiting.retain(|(of, _), _| *of != service);
            }
            pass.moves = self.moves_per_backend(service, &slots, now, idle_timeout);
        }
        self.done.moves += pass.moves.len() as u64;
        let overlooked = |(slot, seen): &(u32, &SlotState)| {
            seen.pick.unwrap_or_default() != seen.owner && edge.slot(service, *slot).look == 0
        };
        let overlooked: Vec<_> = (0..).zip(&slots).filter(overlooked).map(|(slot, _)| slot).collect();
        if !pass.moves.is_empty()
            || !overlooked.is_empty()
            || slots.iter().any(|seen| seen.unrecorded != Unrecorded::Nothing)
        {
            edge.write(|memory| {
                for slot in overlooked {
                    edge::set(memory, service, slot, |slot| slot.look = 1);
                }
                hand_over(memory, service, &pass.moves);
            });
        }
    }

    fn see(&self, edge: &Edge, service: usize, slot: u32) -> SlotState {
        let Slot { owner, unrecorded, .. } = edge.slot(service, slot);
        let is_ignored = self.plan.broken == Broken::UnrecordedIgnored;
        let unrecorded = if is_ignored { Unrecorded::Nothing } else { Unrecorded::from_raw(unrecorded) };
        let pick = select::pick(edge.memory(), edge.view(), edge.service(service), slot);
        SlotState { owner, pick, unrecorded }
    }

    /// For a broken rule: the slots that move if each only waits since its pick became the pick of any slot.
    fn moves_per_backend(&mut self, service: usize, slots: &[SlotState], now: u64, idle_timeout: u64) -> Vec<Move> {
        let picks: BTreeSet<_> = slots.iter().filter_map(|seen| seen.pick).collect();
        self.waiting.retain(|(of, pick), _| *of != service || picks.contains(pick));
        for pick in picks {
            self.waiting.entry((service, pick)).or_insert(now);
        }
        let due = |pick: &BackendNumber| now > self.waiting[&(service, *pick)] + idle_timeout;
        let differing = (0..).zip(slots).filter(|(_, seen)| seen.pick != Some(seen.owner));
        differing.filter_map(|(slot, seen)| Some(Move { slot, from: seen.owner, to: seen.pick.filter(due)? })).collect()
    }

    /// Deletes redundant records.
    fn collect(&mut self, edge: &mut Edge, scene: &Scene, now: u64) {
        // Records of all services expire by the longest idle timeout.
        let expiry = if self.plan.broken == Broken::ExpiredEarly {
            IDLE_TIMEOUT * 9 / 10
        } else {
            IDLE_TIMEOUT.max(LEARN) + TICK
        };
        let expired = |record: &FlowRecord| {
            let silent = units(now).wrapping_sub(record.seen);
            let is_short = matches!(record.stage, Stage::HalfOpen | Stage::Reset);
            silent > units(if is_short { expiry.min(ENDED) } else { expiry })
        };
        let is_done = |(ends, record): &(FlowEnds, FlowRecord)| {
            let (service, slot) = home(edge, scene, ends);
            let SlotState { owner, pick, .. } = self.see(edge, service, slot);
            expired(record) || is_redundant(record.backend, owner, pick)
        };
        let done: BTreeSet<_> = edge.records().into_iter().filter(is_done).map(|(ends, _)| ends).collect();
        if done.is_empty() {
            return;
        }
        self.done.collected += done.len() as u64;
        edge.write(|memory| done.iter().for_each(|ends| memory.remove_record(*ends)));
    }

    /// Takes one step towards the end of each transition that may end. Between two steps other packets run, including
    /// some that started before.
    pub(crate) fn end_transitions(&mut self, edge: &mut Edge, scene: &Scene) {
        for service in 0..self.services.len() {
            let scan = self.plan.broken != Broken::ClearedUnscanned;
            match std::mem::take(&mut self.services[service].stability) {
                Stability::Unknown => {}
                Stability::Looked(mut ending) => {
                    let recorded = recorded_slots(edge, scene, service);
                    ending.retain(|slot, _| !scan || !recorded.contains(slot));
                    self.services[service].stability = Stability::Scanned(ending);
                }
                Stability::Scanned(free) => {
                    edge.write(|memory| {
                        for (slot, owner) in free {
                            // Changes of the packet path since the scan are kept.
                            edge::set(memory, service, slot, |slot| {
                                if (slot.owner, slot.unrecorded) == (owner, 0) {
                                    slot.look = 0;
                                }
                            });
                        }
                    });
                    // The next pass handles the remaining slots.
                    let is_stable = (0..SLOTS).all(|slot| edge.slot(service, slot).look == 0);
                    if is_stable {
                        self.services[service] = Care::default();
                        edge.write(|memory| memory.services[place(service)].in_transition = 0);
                        self.done.stable += 1;
                        self.done.shared += u64::from(edge.share(service));
                    }
                }
            }
        }
    }

    /// The removed backends that neither an owner nor a record names.
    pub(crate) fn forgettable(&self, edge: &Edge, scene: &Scene) -> Vec<BackendNumber> {
        let mut removed = scene.removed();
        removed.retain(|number| !edge.owns(*number));
        if self.plan.broken != Broken::NumberGivenAway {
            let named: Vec<_> = edge.records().iter().map(|(_, record)| record.backend).collect();
            removed.retain(|number| !named.contains(number));
        }
        removed
    }
}

/// Slots of the service with a recorded flow.
pub(crate) fn recorded_slots(edge: &Edge, scene: &Scene, service: usize) -> BTreeSet<u32> {
    let homes = edge.records().into_iter().map(|(ends, _)| home(edge, scene, &ends));
    homes.filter(|(of, _)| *of == service).map(|(_, slot)| slot).collect()
}

/// Sets `look` in the slots whose owner will not be the pick, or is dead. Returns how many others were stable.
fn look_at_concerned(edge: &mut Edge, services: &[usize], after: &Memory) -> u64 {
    let view = after.view().expect("a world is published");
    let all = services.iter().flat_map(|service| (0..SLOTS).map(move |slot| (*service, slot)));
    let stable = all.filter(|(service, slot)| edge.slot(*service, *slot).look == 0);
    let stays = |&(service, slot): &(usize, u32)| {
        let owner = edge.owner(service, slot);
        edge.is_alive(owner) && select::pick(after, view, &after.services[place(service)], slot) == Some(owner)
    };
    let (spared, concerned): (Vec<_>, Vec<_>) = stable.partition(stays);
    if !concerned.is_empty() {
        edge.write(|memory| {
            for (service, slot) in concerned {
                edge::set(memory, service, slot, |slot| slot.look = 1);
            }
        });
    }
    spared.len() as u64
}

fn look_at_all(edge: &mut Edge, services: &[usize]) {
    edge.write(|memory| {
        for (service, slot) in services.iter().flat_map(|service| (0..SLOTS).map(move |slot| (*service, slot))) {
            edge::set(memory, service, slot, |slot| slot.look = 1);
        }
    });
}

/// The service and the slot of a recorded flow.
fn home(edge: &Edge, scene: &Scene, ends: &FlowEnds) -> (usize, u32) {
    let same = |plan: &edge_tests::world::ServicePlan| {
        (plan.vip, plan.port, plan.protocol) == (ends.vip, ends.port, ends.protocol)
    };
    let service = scene.world.services.iter().position(same).expect("a record of a service");
    (service, flow::slot(&edge.view().generation.hash_key, ends, &scene.world.services[service], SLOTS))
}

/// Clears the slots' marks of unrecorded flows, and makes the moves.
fn hand_over(memory: &Memory, service: usize, moves: &[Move]) {
    for slot in 0..SLOTS {
        edge::set(memory, service, slot, |slot| slot.unrecorded = 0);
    }
    for Move { slot, to, .. } in moves {
        edge::set(memory, service, *slot, |slot| slot.owner = *to);
    }
}
