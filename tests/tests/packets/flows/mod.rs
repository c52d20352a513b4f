//! The fixture of flow tests: a slot whose owner and candidates have roles, a flow's record, and others that fill the
//! table.

pub(crate) mod cases;

mod affinity;
mod connection;
mod rate_limit;
mod failover;
mod forged;
mod decided;
mod kept;
mod starts;
mod times;

use std::{collections::BTreeMap, net::IpAddr};

use edge_common::{
    abi::{BackendNumber, Exit, FlowCount, FlowCounts, FlowEnds, Mode, SLOTS_PER_CELL, Slot, Tracking, slot_address},
    flow_table::{Life, Word, units},
    host::{FlowRecord, Flows, Memory},
};
use edge_tests::{
    both::{Both, ProgramExit, Seen},
    packet::{ACK, Extension, Frame, Icmp, Ip, Payload, SYN, Tcp, Udp, protocol},
    world::{CLIENT_MAC, EDGE_MAC, Side, World},
};

pub(crate) const SLOTS: u32 = 64;
pub(crate) const PORT: u16 = 443;
/// Capacity of the flow table, in records of either family.
pub(crate) const ROOM: usize = 4;
/// Numbers of the services.
pub(crate) const TCP: u32 = 0;
pub(crate) const UDP: u32 = 1;

/// A backend's role for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Candidates of the first pool, in the slot's order.
    First,
    Second,
    Third,
    /// First candidate of the second pool.
    Behind,
    /// Number 0, no backend.
    Nobody,
    /// A number without a backend.
    Absent,
}

/// The meaning of a packet for its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Starts,
    Runs,
    /// An ICMP error that quotes an answer to the client; no packet of the flow.
    Concerns,
}

/// Two pools of three backends, and a TCP and a UDP service on both pools.
pub(crate) fn world(side: Side) -> World {
    let mut world = World::new(SLOTS);
    let mut pool = || {
        let members = [0; 3].map(|_| world.backend(side, 1));
        world.pool(&members, 1)
    };
    let pools = [pool(), pool()];
    for protocol in [protocol::TCP, protocol::UDP] {
        world.service(side.vip(), PORT, protocol, Mode::Dsr, &pools);
    }
    world
}

/// The world on host and kernel, with little room for records.
pub(crate) fn both(world: World) -> Both {
    both_with_room(world, ROOM)
}

pub(crate) fn both_with_room(world: World, room: usize) -> Both {
    let mut memory = world.memory();
    memory.flows = Flows::new(room);
    Both::with_memory(world, memory)
}

/// A flow of a service, from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) client: IpAddr,
    pub(crate) source: u16,
    pub(crate) service: u32,
}

impl Flow {
    /// The client's flow number `nth` in `slot`.
    pub(crate) fn into_slot(world: &World, side: Side, service: u32, slot: u32, nth: usize) -> Self {
        let falls = |source: &u16| world.slot(side.client(), *source, PORT) == slot;
        let source = (1024..=u16::MAX).filter(falls).nth(nth).expect("a thousand ports for each slot");
        Self { client: side.client(), source, service }
    }

    pub(crate) fn ends(&self) -> FlowEnds {
        let (vip, protocol) = match self.client {
            IpAddr::V4(_) => (Side::V4.vip(), self.protocol()),
            IpAddr::V6(_) => (Side::V6.vip(), self.protocol()),
        };
        FlowEnds { client: self.client, client_port: self.source, vip, port: PORT, protocol }
    }

    const fn protocol(&self) -> u8 {
        if self.service == TCP { protocol::TCP } else { protocol::UDP }
    }

    /// The tracking of the flow's service, as far as it matters for the table.
    const fn tracking(&self) -> Tracking {
        if self.service == TCP { Tracking::Tcp } else { Tracking::Quic }
    }

    /// A packet of the flow, or about it. In UDP, a first packet is QUIC's Initial, whether or not the service tracks
    /// QUIC.
    pub(crate) fn packet(&self, meaning: Meaning) -> Ip {
        if meaning == Meaning::Concerns {
            return self.error(usize::MAX);
        }
        let (source, destination) = (self.source, PORT);
        let payload = if self.service == TCP {
            let flags = if meaning == Meaning::Starts { SYN } else { ACK };
            Payload::Tcp(Tcp { source, destination, flags, ..Tcp::default() }.in_order())
        } else {
            let (form, length) = if meaning == Meaning::Starts { (0xc0, 1200) } else { (0x40, 45) };
            let mut data = vec![0x55; length];
            data[..5].copy_from_slice(&[form, 0, 0, 0, 1]);
            Payload::Udp(Udp { source, destination, data, ..Udp::default() })
        };
        Ip::new(self.client, self.ends().vip, payload)
    }

    /// A port unreachable error from the client's own host that quotes `quoted` bytes of the answer.
    fn error(&self, quoted: usize) -> Ip {
        let (source, destination) = (PORT, self.source);
        let payload = if self.service == TCP {
            Payload::Tcp(Tcp { source, destination, ..Tcp::default() })
        } else {
            Payload::Udp(Udp { source, destination, ..Udp::default() })
        };
        let vip = self.ends().vip;
        let answer = Ip::new(vip, self.client, payload).bytes();
        let (kind, code) = if vip.is_ipv4() { (3, 3) } else { (1, 4) };
        let error = Icmp::error(kind, code, 0, &answer[..quoted.min(answer.len())]);
        Ip::new(self.client, vip, Payload::Icmp(error))
    }

    pub(crate) fn frame(&self, meaning: Meaning) -> Vec<u8> {
        framed(self.packet(meaning))
    }

    /// The packet behind an option or extension header without meaning. An error quotes the minimum.
    pub(crate) fn slow_frame(&self, meaning: Meaning) -> Vec<u8> {
        let mut packet = self.packet(meaning);
        if meaning == Meaning::Concerns {
            packet = self.error(if self.client.is_ipv4() { 28 } else { 48 });
        }
        match self.client {
            IpAddr::V4(_) => packet.options = vec![1; 4],
            IpAddr::V6(_) => packet.extensions = vec![Extension::filler(protocol::DESTINATION, 0)],
        }
        framed(packet)
    }
}

pub(crate) fn framed(packet: Ip) -> Vec<u8> {
    Frame::new(EDGE_MAC, CLIENT_MAC, packet).bytes()
}

/// Exit of a packet, and the backend that it reached, according to the frame's last MAC byte.
pub(crate) fn reached(seen: &Seen) -> (Exit, Option<u16>) {
    let ProgramExit::Edge(exit) = seen.exit else { panic!("the wrong program") };
    (exit, (exit == Exit::DsrTx).then(|| u16::from(seen.frame[5])))
}

/// A record at `backend`, made and last seen when the clock started.
pub(crate) fn recorded_at(backend: BackendNumber) -> FlowRecord {
    FlowRecord { backend, ..FlowRecord::default() }
}

/// All records, by their ends.
pub(crate) fn records(memory: &Memory) -> BTreeMap<FlowEnds, FlowRecord> {
    memory.records()
}

/// Replaces all records.
pub(crate) fn put_records(memory: &mut Memory, records: &[(Flow, FlowRecord)]) {
    memory.flows.clear();
    for (flow, record) in records {
        memory.put_record(flow.tracking(), flow.ends(), record).expect("room for a record");
    }
}

/// The record of a flow.
pub(crate) fn record(memory: &Memory, flow: &Flow) -> Option<FlowRecord> {
    records(memory).get(&flow.ends()).copied()
}

/// Frees the records whose flows have been silent for longer than their timeouts, as the controller does.
pub(crate) fn free_expired(memory: &Memory) {
    let table = memory.flows.table(units(memory.clock_ns.get()));
    for (number, life) in (0..).zip(memory.flows.arrays.entries.iter().map(|entry| Life(Word::load(&entry.life)))) {
        if life.is_live() && life.is_gone(table.now, table.timeouts) {
            table.forget(number, life);
        }
    }
}

/// The counters of a service that were incremented between two readings, each as often as it was.
pub(crate) fn counted(before: FlowCounts, after: FlowCounts) -> Vec<FlowCount> {
    let times = |what: &FlowCount| usize::try_from(after.0[*what as usize] - before.0[*what as usize]).expect("a few");
    FlowCount::ALL.into_iter().flat_map(|what| std::iter::repeat_n(what, times(&what))).collect()
}

/// Sets the owner of a service's slot.
pub(crate) fn set_owner(memory: &Memory, service: u32, slot: u32, owner: BackendNumber) {
    write_slot(memory, service, slot, |slot| slot.owner = owner);
}

/// Writes a service's slot.
pub(crate) fn write_slot(memory: &Memory, service: u32, slot: u32, write: impl FnOnce(&mut Slot)) {
    memory.write_slot(slot_address(service * SLOTS / SLOTS_PER_CELL, slot), write);
}

/// The backend in a role for a slot.
pub(crate) fn number(memory: &Memory, slot: u32, who: Who) -> BackendNumber {
    // The published bank is the one with odd numbers.
    let candidate = |pool: usize, rank: usize| {
        memory.candidates[(memory.pools[2 * pool + 1].table_of(SLOTS - 1) + slot) as usize].0[rank]
    };
    match who {
        Who::First => candidate(0, 0),
        Who::Second => candidate(0, 1),
        Who::Third => candidate(0, 2),
        Who::Behind => candidate(1, 0),
        Who::Nobody => 0,
        Who::Absent => 60,
    }
}
