//! The edge under test: the host pipeline, alone or together with the real program.

use edge_common::{
    abi::{
        BackendNumber, Cell, Exit, FlowCount, FlowCounts, FlowEnds, Service, Slot, State, Timeouts, Tracking, banked,
        slot_address,
    },
    flow_table::{self, UNIT},
    host::{FlowRecord, Flows, Memory},
    maps::{Maps as _, View},
};
use edge_tests::{
    both::{Both, Program, ProgramExit, Seen, hex, on_host},
    kernel::Arrival,
};

use crate::{
    plan::{IDLE_TIMEOUT, LEARN, PLENTY, Plan, TICK},
    scene::Scene,
    shared, units,
};

/// The bank of the maps that a [`World`](edge_tests::world::World) publishes.
const BANK: u32 = 1;
/// Number of candidate cells in the maps.
const CELLS: usize = 1 << 10;

pub(crate) enum Edge {
    Host(Box<Memory>),
    Both(Box<Both>),
}

impl Edge {
    pub(crate) fn new(scene: &Scene, plan: &Plan, kernel: bool) -> Self {
        let mut memory = scene.world.memory();
        memory.flows = Flows::new(plan.room);
        let ns = u64::from(units(IDLE_TIMEOUT.max(LEARN) + TICK)) << UNIT;
        // The real program's clock differs from the run's: in the kernel no flow times out before the controller
        // decides so.
        memory.flows.head.timeouts = Timeouts::all(if kernel { [i32::MAX; 4] } else { Timeouts::of_idle(ns) });
        if kernel {
            memory.flows.head.timeouts.0[4..].iter_mut().for_each(|limits| limits.kept = i32::MAX);
        }
        complete(&mut memory, plan);
        shared::add_tables(&mut memory);
        if kernel {
            Self::Both(Box::new(Both::with_memory(scene.world.clone(), memory)))
        } else {
            Self::Host(Box::new(memory))
        }
    }

    pub(crate) fn memory(&self) -> &Memory {
        match self {
            Self::Host(memory) => memory,
            Self::Both(both) => &both.memory,
        }
    }

    /// Sends a frame; returns the backend that it reached.
    ///
    /// # Panics
    /// If the real program and the host pipeline differ.
    pub(crate) fn send(&self, now: u64, frame: &[u8]) -> Option<BackendNumber> {
        // Each packet has its own time.
        let clock = &self.memory().clock_ns;
        let before = clock.replace((now * 1_000_000).max(clock.get() + 1));
        if let Self::Both(both) = self
            && both.memory.flows.arrays.entries.len() < PLENTY
            && (flow_table::units(before) != flow_table::units(clock.get()) || both.kernel.flows_age())
        {
            // The flow that gives way is chosen by age, so the ages must be equal on both sides.
            both.compare_state().unwrap_or_else(|error| panic!("{error}"));
            both.kernel.copy_flows(&both.memory);
        }
        let Seen { exit, frame, .. } = match self {
            Self::Host(memory) => on_host(memory, Program::Edge, frame, Arrival::by(1)),
            Self::Both(both) => {
                let seen = both.try_run(Program::Edge, frame, Arrival::by(1));
                seen.unwrap_or_else(|error| panic!("{error}\n{}", hex(frame)))
            }
        };
        match exit {
            ProgramExit::Edge(Exit::DsrTx) => Some(frame[5].into()),
            ProgramExit::Edge(Exit::Exhausted | Exit::RejectReset | Exit::RejectSilent | Exit::RejectUnreachable) => {
                None
            }
            ProgramExit::Edge(_) | ProgramExit::Decap(_) => panic!("a packet left by {exit:?}"),
        }
    }

    /// Writes maps as the controller does.
    ///
    /// # Panics
    /// If earlier packets have left different states in the real program and on the host.
    pub(crate) fn write<T>(&mut self, write: impl FnOnce(&mut Memory) -> T) -> T {
        let memory = match self {
            Self::Host(memory) => memory,
            Self::Both(both) => {
                both.compare_state().unwrap_or_else(|error| panic!("{error}"));
                &mut both.memory
            }
        };
        for (bank, service) in memory.in_transition.take() {
            memory.services[banked(bank, service) as usize].in_transition = 1;
        }
        let result = write(memory);
        if let Self::Both(both) = self {
            both.kernel.copy(&both.memory);
        }
        result
    }

    /// Publishes the backends of the scene; or everything else, which one store makes active.
    pub(crate) fn publish(&mut self, scene: &mut Scene, plan: &Plan, part: Part) {
        for service in 0..scene.world.services.len() {
            scene.world.services[service].in_transition = self.is_in_transition(service);
        }
        let new = self.foresee(scene, plan);
        self.write(|memory| {
            if part == Part::Backends {
                memory.backends = new.backends;
            } else {
                memory.published = new.published;
                memory.services = new.services;
                memory.pools = new.pools;
                memory.candidates = new.candidates;
            }
        });
    }

    /// The maps after a publication of the scene, without flows.
    pub(crate) fn foresee(&self, scene: &Scene, plan: &Plan) -> Memory {
        let mut after = scene.world.memory_after(self.memory());
        complete(&mut after, plan);
        after
    }

    pub(crate) fn view(&self) -> View<'_> {
        self.memory().view().expect("a world is published")
    }

    pub(crate) fn service(&self, service: usize) -> &Service {
        &self.memory().services[place(service)]
    }

    pub(crate) fn is_in_transition(&self, service: usize) -> bool {
        let number = u32::try_from(service).expect("a few services");
        self.memory().is_in_transition(BANK, number, self.service(service))
    }

    pub(crate) fn owner(&self, service: usize, slot: u32) -> BackendNumber {
        self.slot(service, slot).owner
    }

    pub(crate) fn slot(&self, service: usize, slot: u32) -> Slot {
        self.memory().slot(slot_address(self.service(service).slots, slot)).expect("it is there")
    }

    /// Number of lookups in the flow table by packets of a service.
    pub(crate) fn lookups(&self, service: usize) -> u64 {
        let number = u32::try_from(service).expect("a few services");
        self.memory().flow_counts(number).0[FlowCount::Lookups as usize]
    }

    pub(crate) fn takes_new(&self, number: BackendNumber) -> bool {
        State(self.memory().backends[usize::from(number)].state).has_all(State::NEW)
    }

    pub(crate) fn is_alive(&self, number: BackendNumber) -> bool {
        State(self.memory().backends[usize::from(number)].state).has_all(State::ALIVE)
    }

    /// All records.
    pub(crate) fn records(&self) -> Vec<(FlowEnds, FlowRecord)> {
        self.memory().records().into_iter().collect()
    }

    /// Changes a flow's record, if it has one: for a broken rule.
    pub(crate) fn rewrite(&mut self, ends: FlowEnds, change: impl FnOnce(&mut FlowRecord)) {
        let Some(mut record) = self.memory().records().get(&ends).copied() else { return };
        change(&mut record);
        self.write(|memory| {
            memory.remove_record(ends);
            memory.put_record(Tracking::Tcp, ends, &record).expect("its own room");
        });
    }

    /// Whether a backend owns any slot of a service.
    pub(crate) fn owns(&self, number: BackendNumber) -> bool {
        self.memory()
            .slots
            .borrow()
            .iter()
            .take(shared::first_table())
            .flat_map(|cell| cell.0)
            .any(|slot| slot.owner == number)
    }

    /// Counts of the operations on records, over all services.
    pub(crate) fn flow_counts(&self, services: usize) -> FlowCounts {
        let mut sum = FlowCounts::default();
        for service in (0..).take(services) {
            let counts = self.memory().flow_counts(service);
            sum.0.iter_mut().zip(counts.0).for_each(|(sum, count)| *sum += count);
        }
        sum
    }
}

/// The part of the maps that is written at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The states of backends, and their addresses.
    Backends,
    /// Services, pools and candidates.
    Generation,
}

/// Position of a service in the published bank.
pub(crate) fn place(service: usize) -> usize {
    2 * service + BANK as usize
}

/// Changes a slot of a service.
pub(crate) fn set(memory: &Memory, service: usize, slot: u32, change: impl FnOnce(&mut Slot)) {
    memory.write_slot(slot_address(memory.services[place(service)].slots, slot), change);
}

/// Sets what a world leaves open: the rate limit, and the number of candidate cells.
fn complete(memory: &mut Memory, plan: &Plan) {
    memory.published.generations[BANK as usize].records_per_second = plan.records_per_second;
    assert!(memory.candidates.len() <= CELLS, "the maps have no room for the candidates");
    memory.candidates.resize(CELLS, Cell::default());
}
