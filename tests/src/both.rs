//! Runs each packet through the host pipeline and through the real program, and compares all observable results.

use std::collections::BTreeMap;

use edge_common::{
    abi::{BackendNumber, DecapExit, Exit, FlowEnds, Verdict, program},
    decap,
    host::{FlowRecord, Frame, Memory, Nat, Translated},
    maps::Maps as _,
    pipeline,
};

use crate::{
    kernel::{self, Arrival},
    shared::Shared,
    world::World,
};

/// An exit of one of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramExit {
    Edge(Exit),
    Decap(DecapExit),
}

/// One of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Edge,
    Decap,
}

impl Program {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Edge => program::EDGE,
            Self::Decap => program::DECAP,
        }
    }
}

impl ProgramExit {
    pub const fn program(self) -> Program {
        match self {
            Self::Edge(_) => Program::Edge,
            Self::Decap(_) => Program::Decap,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Edge(exit) => exit.name(),
            Self::Decap(exit) => exit.name(),
        }
    }

    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Edge(exit) => exit.verdict(),
            Self::Decap(exit) => exit.verdict(),
        }
    }
}

/// The result of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub exit: ProgramExit,
    /// Interface index of a forwarded packet according to the host pipeline; 0 for any other packet.
    pub egress: u32,
    pub frame: Vec<u8>,
}

/// Sends a frame through the host pipeline.
pub fn on_host(memory: &Memory, program: Program, frame: &[u8], arrival: Arrival) -> Seen {
    let room = kernel::HEADROOM - arrival.metadata;
    let mut frame = Frame::with_headroom(frame, room).from_interface(arrival.ingress);
    let (exit, egress) = match program {
        Program::Edge => {
            let outcome = pipeline::process(&mut frame, memory);
            (ProgramExit::Edge(outcome.exit), outcome.egress)
        }
        Program::Decap => (ProgramExit::Decap(decap::process(&mut frame, memory)), 0),
    };
    Seen { exit, egress, frame: frame.bytes().to_vec() }
}

/// A world in the host pipeline's memory and in the kernel's maps.
pub struct Both {
    pub world: World,
    pub memory: Memory,
    pub kernel: Shared,
}

impl Both {
    pub fn new(world: World) -> Self {
        let memory = world.memory();
        Self::with_memory(world, memory)
    }

    /// The pair for a memory that differs from the world's.
    pub fn with_memory(world: World, memory: Memory) -> Self {
        let kernel = Shared::load(&memory);
        Self { world, memory, kernel }
    }

    /// The pair of a world and the object for traces, by which each packet is traced.
    pub fn traced(world: World) -> Self {
        let memory = world.memory();
        let kernel = Shared::load_traced(&memory);
        Self { world, memory, kernel }
    }

    /// Changes the world; owners, records and counters stay. The world decides which services are in transition.
    pub fn change(&mut self, change: impl FnOnce(&mut World)) {
        change(&mut self.world);
        let new = self.world.memory_after(&self.memory);
        self.memory.published = new.published;
        (self.memory.service_index_v4, self.memory.service_index_v6) = (new.service_index_v4, new.service_index_v6);
        (self.memory.services, self.memory.slots) = (new.services, new.slots);
        self.memory.in_transition.borrow_mut().clear();
        self.memory.pools = new.pools;
        self.memory.backends = new.backends;
        self.memory.candidates = new.candidates;
        self.kernel.copy(&self.memory);
    }

    /// Sends a frame through the host pipeline and the program.
    ///
    /// # Errors
    /// The difference between the results, or an abort of the program.
    pub fn try_run(&self, program: Program, frame: &[u8], arrival: Arrival) -> Result<Seen, String> {
        if frame.len() < kernel::SHORTEST {
            // A test run takes no frame this short. The host runs on a copy, so that its counters stay equal to the
            // kernel's.
            return Ok(on_host(&self.memory.clone(), program, frame, arrival));
        }
        let learnt = self.memory.path_mtus.take();
        let seen = on_host(&self.memory, program, frame, arrival);
        let ran = self.kernel.run(program.name(), frame, arrival);
        self.learnt(learnt, seen.exit == ProgramExit::Edge(Exit::PathMtu))?;
        let expected = match seen.exit.verdict() {
            Verdict::Pass => kernel::PASS,
            Verdict::Drop => kernel::DROP,
            Verdict::Tx => kernel::TX,
            Verdict::Redirect => kernel::REDIRECT,
        };
        if ran.verdict != expected {
            let exit = seen.exit;
            return Err(format!("verdict {} in the kernel, {expected} ({exit:?}) on the host", ran.verdict));
        }
        if ran.frame != seen.frame {
            return Err(format!("{:?}: {}", seen.exit, difference(&ran.frame, &seen.frame)));
        }
        Ok(seen)
    }

    /// Checks that the kernel learnt the same path MTU as the host from the last packet, if any, and restores the old
    /// MTU in the kernel, since only a test's own changes may alter a backend. `before` is what had been learnt
    /// earlier.
    fn learnt(&self, before: BTreeMap<BackendNumber, u16>, learns: bool) -> Result<(), String> {
        let now = self.memory.path_mtus.replace(before);
        if now.len() != usize::from(learns) {
            return Err(format!("{} path MTUs learnt from one packet", now.len()));
        }
        for (number, mtu) in now {
            let mut expected = self.memory.backends[usize::from(number)];
            let restored = self.kernel.restore(number, &expected);
            expected.path_mtu = if expected.path_mtu == 0 { mtu } else { mtu.min(expected.path_mtu) };
            same("backends' path MTUs", &[restored], &[expected])?;
            self.memory.learn_path_mtu(number, mtu);
        }
        Ok(())
    }

    /// Sends a frame that came in by `lo` through the load balancer, on the host and in the kernel.
    ///
    /// # Panics
    /// If the results differ.
    pub fn run(&self, frame: &[u8]) -> Seen {
        let seen = self.try_run(Program::Edge, frame, Arrival::by(1));
        seen.unwrap_or_else(|error| panic!("{error}\n{}", hex(frame)))
    }

    /// Whether each service, of either bank, is in transition in the memory.
    fn in_transition(&self) -> Vec<bool> {
        let in_transition =
            |(number, service): (u32, &_)| self.memory.is_in_transition(number % 2, number / 2, service);
        (0..).zip(&self.memory.services).map(in_transition).collect()
    }

    /// Compares all counters since the start, and everything that the packet path writes: slots and records.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn compare_state(&self) -> Result<(), String> {
        let exits = Exit::ALL.iter().map(|exit| self.memory.exit_count(*exit)).collect::<Vec<_>>();
        same("exits", &self.kernel.exits(), &exits)?;
        let exits = DecapExit::ALL.iter().map(|exit| self.memory.decap_exit_count(*exit)).collect::<Vec<_>>();
        same("exits of decap", &self.kernel.decap_exits(), &exits)?;
        let services = self.kernel.service_traffic();
        let host = (0..).zip(&services).map(|(number, _)| self.memory.service_traffic(number)).collect::<Vec<_>>();
        same("services", &services, &host)?;
        let backends = self.kernel.backend_traffic();
        let host = (0..).zip(&backends).map(|(number, _)| self.memory.backend_traffic(number)).collect::<Vec<_>>();
        same("backends", &backends, &host)?;
        let flows = self.kernel.flow_counts();
        let host = (0..).zip(&flows).map(|(number, _)| self.memory.flow_counts(number)).collect::<Vec<_>>();
        same("counts of flow records", &flows, &host)?;
        let backends =
            (0..).zip(&self.memory.backends).map(|(number, _)| self.kernel.backend(number)).collect::<Vec<_>>();
        same("backends' entries", &backends, &self.memory.backends)?;
        let evidence = self.kernel.evidence();
        let host = (0..).zip(&evidence).map(|(number, _)| self.memory.evidence.borrow().get(&number).copied());
        same("evidence", &evidence, &host.map(Option::unwrap_or_default).collect::<Vec<_>>())?;
        same("services in transition", &self.kernel.in_transition(), &self.in_transition())?;
        same("records", &places(&self.kernel.records(&self.memory)), &places(&self.memory.records()))?;
        let nat = self.kernel.nat(&self.memory);
        same("translated flows", &unseen(&nat), &unseen(&self.memory.nat))?;
        same("NAT hops", &nat.hops(), &self.memory.nat.hops())?;
        same("slots", &self.kernel.slots(), &self.memory.slots.borrow())
    }
}

/// Records without their times, which come from two different clocks.
fn places(records: &BTreeMap<FlowEnds, FlowRecord>) -> Vec<(FlowEnds, FlowRecord)> {
    records.iter().map(|(ends, record)| (*ends, FlowRecord { since: 0, seen: 0, ..*record })).collect()
}

/// Translated flows without their times, which come from two different clocks.
fn unseen(nat: &Nat) -> Vec<(FlowEnds, Translated)> {
    nat.flows().into_iter().map(|(ends, flow)| (ends, Translated { seen: 0, ..flow })).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, kernel: &[T], host: &[T]) -> Result<(), String> {
    if kernel == host {
        return Ok(());
    }
    let at = kernel.iter().zip(host).position(|(kernel, host)| kernel != host).unwrap_or(kernel.len().min(host.len()));
    Err(format!("{what} differ at {at}: kernel {:?}, host {:?}", kernel.get(at), host.get(at)))
}

/// The first difference between two frames, followed by the frames themselves.
pub fn difference(found: &[u8], expected: &[u8]) -> String {
    let at = found.iter().zip(expected).position(|(found, expected)| found != expected);
    let at = at.unwrap_or(found.len().min(expected.len()));
    format!(
        "frames differ at byte {at} of {} (expected {})\nfound    {}\nexpected {}",
        found.len(),
        expected.len(),
        hex(found),
        hex(expected)
    )
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).expect("half a byte");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// The bytes that hexadecimal digits stand for.
///
/// # Panics
/// If `digits` are not hexadecimal, or odd in number.
pub fn unhex(digits: &str) -> Vec<u8> {
    let digits: Vec<_> = digits.chars().map(|digit| digit.to_digit(16).expect("a hexadecimal digit")).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("two digits")).collect()
}
