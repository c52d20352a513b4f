//! The reference model: the backend of each flow, and whether that backend has lived. It is simple and shares no code
//! with the rules under test.
//!
//! A flow belongs to the backend that its first packet reached. A backend is distinguished from earlier and later ones
//! with the same number. Moments are counted, not measured: each packet and each store is one moment.

use std::collections::BTreeMap;

use edge_common::{
    abi::{BackendNumber, CELL, Failover, Pool, Service, State, WhenExhausted},
    host::Memory,
};

use crate::{
    edge::Edge,
    scene::{Incarnation, Scene},
};

#[derive(Default)]
pub(crate) struct Truth {
    moment: u64,
    /// The last moment at which a backend was not alive from the view of a service.
    died: BTreeMap<(usize, Incarnation), u64>,
}

impl Truth {
    /// Advances to the next moment.
    pub(crate) fn next(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// Records which backends are not alive; called after each store.
    pub(crate) fn observe(&mut self, edge: &Edge, scene: &Scene) {
        let moment = self.next();
        for number in scene.all() {
            for service in 0..scene.world.services.len() {
                if !is_alive(edge, service, number) {
                    self.died.insert((service, scene.incarnation(number)), moment);
                }
            }
        }
    }

    /// Whether a backend is alive, and has been since the moment `since`.
    pub(crate) fn lived(&self, service: usize, home: Incarnation, since: u64) -> bool {
        self.died.get(&(service, home)).is_none_or(|died| *died < since)
    }

    /// Drops the history of a forgotten backend, which is not queried any more.
    pub(crate) fn forget(&mut self, home: Incarnation) {
        self.died.retain(|(_, of), _| *of != home);
    }
}

/// The pools of a service.
fn pools<'a>(memory: &'a Memory, service: &'a Service) -> impl Iterator<Item = &'a Pool> {
    let all = service.pools[..service.pool_count.into()].iter();
    all.map(|number| &memory.pools[2 * usize::from(*number) + 1])
}

/// Whether no backend takes new flows, and the service uses all that are not disabled.
fn is_open(memory: &Memory, service: &Service) -> bool {
    WhenExhausted::from_raw(service.when_exhausted) == WhenExhausted::Open
        && pools(memory, service).all(|pool| pool.available == 0)
        && pools(memory, service).any(|pool| pool.enabled > 0)
}

pub(crate) fn is_alive(edge: &Edge, service: usize, number: BackendNumber) -> bool {
    let (memory, service) = (edge.memory(), edge.service(service));
    let backend = &memory.backends[usize::from(number)];
    let state = State(backend.state);
    let Failover { first, evacuate } = Failover::from_raw(service.failover);
    let evacuated = evacuate && service.pools[..first.into()].contains(&backend.pool);
    !evacuated && (state.has_all(State::ALIVE) || is_open(memory, service) && state.has_all(State::ENABLED))
}

/// Backends that may take a new flow of a slot. If all of the slot's own candidates are gone, these are all backends of
/// the pool that take new flows.
pub(crate) fn takers(edge: &Edge, service: usize, slot: u32) -> Vec<BackendNumber> {
    let (memory, service) = (edge.memory(), edge.service(service));
    let failover = Failover::from_raw(service.failover);
    let with = |pool: &Pool, bits| {
        let cells = &memory.candidates[pool.member_list as usize..];
        let members = cells.iter().flat_map(|cell| cell.0).take(pool.members.into());
        members.filter(|number| State(memory.backends[usize::from(*number)].state).has_all(bits)).collect::<Vec<_>>()
    };
    let all: Vec<_> = pools(memory, service).collect();
    let (passed_over, ahead) = all.split_at(failover.first.into());
    let healthy = |pool: &&&Pool| pool.available > 0 && pool.available >= pool.min_healthy.into();
    let any = || ahead.iter().chain(passed_over);
    let (pool, bits) = match ahead.iter().find(healthy).or_else(|| any().find(|pool| pool.available > 0)) {
        Some(pool) => (*pool, State::NEW),
        None if is_open(memory, service) => {
            (*any().find(|pool| pool.enabled > 0).expect("an open pool"), State::ENABLED)
        }
        None => return Vec::new(),
    };
    let all = with(pool, bits);
    let own: [BackendNumber; CELL] = memory.candidates[(pool.table_of(super::scene::SLOTS - 1) + slot) as usize].0;
    own.into_iter().find(|candidate| all.contains(candidate)).map_or(all, |best| vec![best])
}
