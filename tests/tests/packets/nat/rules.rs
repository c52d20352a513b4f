//! The rules of translation, as a judge that only sees the packets that leave, and the tuples of flows.

use std::collections::{BTreeMap, BTreeSet};

use edge_common::{
    abi::{Exit, FlowEnds, HashKey, Mac, State, Tracking},
    flow_table::{Life, Stage, UNIT, Word, units},
    host::{Memory, Translated},
};
use edge_tests::{
    both::{Program, Seen, on_host},
    kernel::Arrival,
    namespace::LO,
    packet::{ACK, FIN, Frame, Ip, Payload, RST, SYN, Tcp, Udp, protocol, verify},
    world::{CLIENT_MAC, DOWN, DRAINED, EDGE_MAC, Side, UP, World},
};
use proptest::{prelude::*, sample};

use super::{BACKEND_PORT, Client, FIRST_PORT, TCP, UDP, address, exit, proofs::Proofs, segment, world};

/// An event of a history.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happens {
    /// A packet of a client, with these flags and numbers.
    Sends { client: u16, service: u32, flags: u8, sequence: u32, acknowledgment: u32 },
    /// A packet of the client's backend, if there is a flow.
    Answers { client: u16, service: u32, flags: u8, sequence: u32 },
    /// A forged packet to a port of a source.
    Forged { backend: u8, port: u16, flags: u8, udp: bool },
    /// A backend's state changes.
    State { backend: usize, state: u32 },
    /// A second or a minute passes.
    Passes { units: u64 },
}

pub(super) fn happens() -> impl Strategy<Value = Happens> {
    let flags = || sample::select(vec![SYN, SYN, ACK, ACK, ACK, FIN | ACK, RST, SYN | ACK]);
    let numbers = || sample::select(vec![0u32, 1, 101, 102, 200, u32::MAX, 1 << 31]);
    let service = || sample::select(vec![TCP, TCP, UDP]);
    prop_oneof![
        10 => (0u16..24, service(), flags(), numbers(), numbers()).prop_map(|(client, service, flags, sequence, acknowledgment)| {
            Happens::Sends { client, service, flags, sequence, acknowledgment }
        }),
        8 => (0u16..24, service(), flags(), numbers())
            .prop_map(|(client, service, flags, sequence)| Happens::Answers { client, service, flags, sequence }),
        3 => (1u8..6, 0u16..20, flags(), any::<bool>()).prop_map(|(backend, port, flags, udp)| Happens::Forged { backend, port, flags, udp }),
        1 => (1usize..5, sample::select(vec![UP, UP, DRAINED, DOWN])).prop_map(|(backend, state)| Happens::State { backend, state }),
        1 => sample::select(vec![1u64, 5, 20, 90, 300]).prop_map(|units| Happens::Passes { units }),
    ]
}

/// Sequence number of forged segments.
pub(super) const FORGED: u32 = 7;

pub(super) fn client(side: Side, number: u16, service: u32) -> Client {
    Client { side, port: 40_000 + number, service }
}

pub(super) fn answer(memory: &Memory, client: Client, tcp: Tcp) -> Option<Frame> {
    let flow = memory.nat.flows().remove(&client.ends())?;
    let payload = match client.service {
        TCP => Payload::Tcp(Tcp { source: BACKEND_PORT, destination: flow.port, ..tcp }),
        _ => Payload::Udp(Udp { source: BACKEND_PORT, destination: flow.port, ..Udp::default() }),
    };
    let ip = Ip::new(address(client.side, flow.translation.backend), client.side.source(), payload);
    Some(Frame::new(EDGE_MAC, [2; 6], ip))
}

pub(super) fn forged(side: Side, backend: u8, port: u16, flags: u8, udp: bool) -> Frame {
    let destination = FIRST_PORT + port;
    let payload = if udp {
        Payload::Udp(Udp { source: BACKEND_PORT, destination, ..Udp::default() })
    } else {
        Payload::Tcp(Tcp { source: BACKEND_PORT, destination, ..segment(flags, FORGED, 8) })
    };
    Frame::new(EDGE_MAC, [2; 6], Ip::new(address(side, backend.into()), side.source(), payload))
}

/// A rule that is broken, or a precondition of a rule that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Nothing,
    /// Established flows make room for others.
    EstablishedTaken,
    /// A closed connection makes room immediately.
    TimeWaitTaken,
    /// Entries' positions are computed differently than when the entries were made.
    OtherLanes,
    /// The table's hash key differs from the one with which the entries were made.
    OtherKey,
    /// The number of a source in use is given to another address.
    SourceGivenAway,
    /// The number of a backend with flows is given to another backend.
    BackendGivenAway,
    /// A hop that flows use is changed to another one.
    HopGivenAway,
    /// The maps do not contain a backend's death.
    DeathUntold,
    /// Flows of a dead backend stick to it, where they must be reset.
    Waits,
    /// Flows that are half open become established by themselves.
    Unproven,
}

/// Parameters of a history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) side: Side,
    pub(super) sticks: bool,
    pub(super) lanes: u32,
    pub(super) broken: Broken,
}

/// The state of a history.
struct History {
    manner: Manner,
    world: World,
    memory: Memory,
    /// The backends' true states, whatever the maps contain.
    states: Vec<u32>,
    proofs: Proofs,
}

/// Plays a history; the error is the first broken rule.
pub(super) fn play(manner: Manner, happening: &[Happens]) -> Result<(), String> {
    let mut world = world(manner.side, 16, manner.lanes, LO);
    let sticks = manner.sticks || manner.broken == Broken::Waits;
    world.services.iter_mut().for_each(|service| service.sticks = sticks);
    let memory = world.memory();
    let states = world.backends.iter().map(|backend| backend.state).collect();
    let mut history = History { manner, world, memory, states, proofs: Proofs::default() };
    history.change_timeouts();
    for (number, what) in happening.iter().enumerate() {
        if number == happening.len() / 2 {
            history.tamper();
        }
        history.step(*what).map_err(|rule| format!("{rule} after {number} steps, by {what:?}"))?;
    }
    Ok(())
}

impl History {
    fn change_timeouts(&mut self) {
        let stage = match self.manner.broken {
            Broken::EstablishedTaken => Stage::Established,
            Broken::TimeWaitTaken => Stage::Closed,
            Broken::Nothing
            | Broken::OtherLanes
            | Broken::OtherKey
            | Broken::SourceGivenAway
            | Broken::BackendGivenAway
            | Broken::HopGivenAway
            | Broken::DeathUntold
            | Broken::Waits
            | Broken::Unproven => return,
        };
        let flows = &mut self.memory.nat.head.flows;
        for tracking in [Tracking::Stateless, Tracking::Tcp, Tracking::Quic, Tracking::Learn] {
            flows.timeouts = flows.timeouts.with_stage(tracking.into(), stage, 300_000_000_000, Some(0));
        }
    }

    /// In the middle of a history, makes a change that correct code never makes.
    fn tamper(&mut self) {
        let nat = &mut self.memory.nat;
        match self.manner.broken {
            Broken::OtherLanes => nat.head.lanes = 1,
            Broken::OtherKey => nat.head.hash_key = HashKey([7; 12]),
            Broken::SourceGivenAway => nat.head.sources.iter_mut().for_each(|source| source.address[3] ^= 1),
            Broken::BackendGivenAway => {
                let world = self.world.backends.iter_mut();
                let (shape, last) = if self.manner.side == Side::V4 { (3, 0x40) } else { (15, 0x40) };
                world.chain(&mut self.memory.backends).for_each(|backend| backend.address[shape] ^= last);
            }
            Broken::HopGivenAway => {
                for [peer, ..] in nat.hops.iter().filter(|[peer, ..]| Word::load(peer) != 0) {
                    Word::store(peer, Mac::new([2, 9, 9, 9, 9, 9]).0);
                }
            }
            Broken::Unproven => {
                let table = nat.table(units(self.memory.clock_ns.get()));
                for (found, entry, _) in (0..=nat.head.flows.mask).filter_map(|number| table.at(number)) {
                    let after = |life: Life| {
                        if life.stage() == Stage::HalfOpen {
                            life.seen_again(Stage::Established, table.now)
                        } else {
                            life
                        }
                    };
                    table.advance(&found, entry, after, None);
                }
            }
            Broken::Nothing
            | Broken::EstablishedTaken
            | Broken::TimeWaitTaken
            | Broken::DeathUntold
            | Broken::Waits => {}
        }
    }

    fn client(&self, number: u16, service: u32) -> Client {
        client(self.manner.side, number, service)
    }

    fn is_alive(&self, backend: u16) -> bool {
        State(self.states[usize::from(backend)]).has_all(State::ALIVE)
    }

    fn frame(&mut self, what: Happens) -> Option<Frame> {
        match what {
            Happens::Sends { client: number, service, flags, sequence, acknowledgment } => {
                Some(self.client(number, service).sends(segment(flags, sequence, acknowledgment)))
            }
            Happens::Answers { client: number, service, flags, sequence } => {
                answer(&self.memory, self.client(number, service), segment(flags, sequence, 1))
            }
            Happens::Forged { backend, port, flags, udp } => Some(forged(self.manner.side, backend, port, flags, udp)),
            Happens::State { backend, state } => {
                self.states[backend] = state;
                if self.manner.broken != Broken::DeathUntold {
                    self.world.backends[backend].state = state;
                    self.world.services.iter_mut().for_each(|service| service.in_transition = true);
                    let new = self.world.memory_after(&self.memory);
                    let memory = &mut self.memory;
                    (memory.services, memory.pools, memory.backends) = (new.services, new.pools, new.backends);
                    (memory.candidates, memory.slots) = (new.candidates, new.slots);
                }
                None
            }
            Happens::Passes { units } => {
                self.memory.clock_ns.set(self.memory.clock_ns.get() + (units << UNIT));
                None
            }
        }
    }

    fn step(&mut self, what: Happens) -> Result<(), String> {
        let before = self.memory.nat.flows();
        let Some(frame) = self.frame(what) else { return Ok(()) };
        let bytes = frame.bytes();
        let seen = on_host(&self.memory, Program::Edge, &bytes, Arrival::by(LO));
        verify::checksums(&seen.frame)?;
        let after = self.memory.nat.flows();
        if !are_distinct(&after) {
            return Err(format!("two flows have one tuple: {after:?}"));
        }
        self.others_keep_theirs(what, &before, &after)?;
        self.closed_ones_rest(what, &before, &after)?;
        self.proofs.judge(self.manner.side, what, &before, &after)?;
        if exit(&seen) == Exit::NotOurs && seen.frame != bytes {
            return Err("what is nobody's left changed".to_owned());
        }
        if exit(&seen) == Exit::NatReplyTx && seen.frame[..6] != CLIENT_MAC {
            return Err("an answer goes another way than its client came".to_owned());
        }
        if let Happens::Sends { client: number, service, flags, .. } = what {
            let client = self.client(number, service);
            let own = [&before, &after].map(|flows| flows.get(&client.ends()).copied());
            self.goes_on(client.protocol(), flags, own, &seen)?;
            if exit(&seen) == Exit::NatTx {
                self.comes_back(client)?;
            }
        }
        Ok(())
    }

    /// Checks that a packet does not take the entry of another established flow.
    fn others_keep_theirs(
        &self,
        what: Happens,
        before: &BTreeMap<FlowEnds, Translated>,
        after: &BTreeMap<FlowEnds, Translated>,
    ) -> Result<(), String> {
        let own = match what {
            Happens::Sends { client, service, .. } | Happens::Answers { client, service, .. } => {
                Some(self.client(client, service).ends())
            }
            Happens::Forged { .. } | Happens::State { .. } | Happens::Passes { .. } => None,
        };
        let established = before.iter().filter(|(_, flow)| flow.stage == Stage::Established);
        for (ends, flow) in established.filter(|(ends, _)| own != Some(**ends)) {
            let silent = units(self.memory.clock_ns.get()).wrapping_sub(flow.seen);
            let now = after.get(ends).map(|flow| (flow.translation.backend, flow.port));
            if silent < 1000 && now != Some((flow.translation.backend, flow.port)) {
                return Err(format!("{ends:?} lost its tuple {flow:?}"));
            }
        }
        Ok(())
    }

    /// Checks that the tuple of a closed connection is not reused within a second, unless the backend accepts the new one
    /// by its sequence number; and not at once in any case.
    fn closed_ones_rest(
        &self,
        what: Happens,
        before: &BTreeMap<FlowEnds, Translated>,
        after: &BTreeMap<FlowEnds, Translated>,
    ) -> Result<(), String> {
        let tuple = |ends: &FlowEnds, flow: &Translated| (ends.protocol, flow.translation.backend, flow.port);
        for (ends, flow) in after.iter().filter(|(ends, _)| !before.contains_key(*ends)) {
            let Happens::Sends { sequence, .. } = what else { return Err(format!("{ends:?} began by {what:?}")) };
            let old = before.iter().find(|(other, old)| tuple(other, old) == tuple(ends, flow));
            let Some((_, old)) = old.filter(|(_, old)| old.stage == Stage::Closed) else { continue };
            let silent = units(self.memory.clock_ns.get()).wrapping_sub(old.seen);
            let is_accepted = sequence.wrapping_sub(old.sequence).cast_signed() > 0;
            if silent < if is_accepted { 1 } else { 4 } {
                return Err(format!("{ends:?} has the tuple that {old:?} left {silent} units ago"));
            }
        }
        Ok(())
    }

    /// Checks that an established flow stays at its backend while the backend lives, and that no flow goes to a dead
    /// backend while another one lives.
    fn goes_on(
        &self,
        protocol: u8,
        flags: u8,
        [before, after]: [Option<Translated>; 2],
        seen: &Seen,
    ) -> Result<(), String> {
        let left = exit(seen);
        if let Some(flow) = before.filter(|flow| flow.stage == Stage::Established && flags == ACK) {
            let backend = flow.translation.backend;
            if self.is_alive(backend) {
                let same = after.is_some_and(|after| after.translation.backend == backend && after.port == flow.port);
                if left != Exit::NatTx || !same {
                    return Err(format!("a flow of a backend that lives left by {left:?}: {before:?}, {after:?}"));
                }
            }
        }
        let Some(flow) = after.filter(|_| left == Exit::NatTx) else { return Ok(()) };
        let (to, from) = (address(self.manner.side, flow.translation.backend), self.manner.side.source());
        if ends(&seen.frame) != (octets(from), octets(to)) {
            return Err(format!("it left from or to somebody else than {from} and {to}"));
        }
        let others = (1..self.states.len()).any(|number| State(self.states[number]).has_all(UP));
        // Only connections of which the backend knows wait for it.
        let waits = self.manner.sticks && protocol == protocol::TCP && flow.stage != Stage::HalfOpen;
        if !waits && others && !self.is_alive(flow.translation.backend) {
            return Err(format!("it went to a dead backend: {flow:?}"));
        }
        Ok(())
    }

    /// Checks that an answer to the translated packet, with exchanged ends, is the client's packet again.
    fn comes_back(&self, client: Client) -> Result<(), String> {
        let back = answer(&self.memory, client, segment(ACK, 9, 9)).ok_or("no flow")?;
        let came = on_host(&self.memory.clone(), Program::Edge, &back.bytes(), Arrival::by(LO));
        if exit(&came) != Exit::NatReplyTx {
            return Err(format!("its answer leaves by {:?}", exit(&came)));
        }
        let (reversed, sent) = (exchanged(&came.frame), client.sends(segment(ACK, 9, 9)).bytes());
        let (at, length) = if self.manner.side == Side::V4 { (26, 12) } else { (22, 36) };
        if reversed[at..at + length] != sent[at..at + length] {
            return Err("its answer is not from whom it was sent to, or to somebody else".to_owned());
        }
        Ok(())
    }
}

/// Whether the tuples of backend, its port, source and source port are distinct.
fn are_distinct(flows: &BTreeMap<FlowEnds, Translated>) -> bool {
    let tuple = |(ends, flow): (&FlowEnds, &Translated)| {
        (ends.protocol, flow.translation.backend, flow.translation.port, flow.translation.source, flow.port)
    };
    flows.iter().map(tuple).collect::<BTreeSet<_>>().len() == flows.len()
}

fn octets(address: std::net::IpAddr) -> Vec<u8> {
    match address {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The addresses of a frame.
fn ends(frame: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (at, length) = if frame[14] >> 4 == 4 { (26, 4) } else { (22, 16) };
    (frame[at..at + length].to_vec(), frame[at + length..at + 2 * length].to_vec())
}

/// A frame with exchanged addresses and ports.
fn exchanged(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let (addresses, length, ports) = if frame[14] >> 4 == 4 { (26, 4, 34) } else { (22, 16, 54) };
    let (source, destination) = frame[addresses..addresses + 2 * length].split_at_mut(length);
    source.swap_with_slice(destination);
    let (source, destination) = frame[ports..ports + 4].split_at_mut(2);
    source.swap_with_slice(destination);
    frame
}
