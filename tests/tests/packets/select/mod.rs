//! Fixtures of the selection tests: a model, and worlds with known source ports for each slot.

pub(crate) mod model;

mod common_table;
mod property;
mod shares;
mod states;

use std::collections::BTreeMap;

use edge_common::{
    abi::{Exit, Mode, SLOTS_PER_CELL, Slot, Verdict, slot_address},
    host::Memory,
    maps::Maps as _,
};
use edge_tests::{
    both::{ProgramExit, Seen},
    packet::{Frame, Ip, Payload, Tcp, protocol},
    world::{CLIENT_MAC, EDGE_MAC, Side, World},
};

pub(crate) const SLOTS: u32 = 64;
pub(crate) const PORT: u16 = 443;

/// A world with pools of `sizes` backends and two services on all pools, TCP (0) and UDP (1).
pub(crate) fn world(sizes: &[usize]) -> World {
    let mut world = World::new(SLOTS);
    let pools: Vec<_> = sizes
        .iter()
        .map(|size| {
            let members: Vec<_> = (0..*size).map(|_| world.backend(Side::V4, 1)).collect();
            world.pool(&members, 1)
        })
        .collect();
    for protocol in [protocol::TCP, protocol::UDP] {
        world.service(Side::V4.vip(), PORT, protocol, Mode::Dsr, &pools);
    }
    world
}

/// For each slot, a source port of the client whose flow is in the slot.
pub(crate) fn ports(world: &World) -> Vec<u16> {
    more_ports(world, 0)
}

/// As [`ports`], but without the first `before` ports of each slot: flows that are new.
pub(crate) fn more_ports(world: &World, before: usize) -> Vec<u16> {
    let mut ports: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for port in 1024..=u16::MAX {
        ports.entry(world.slot(Side::V4.client(), port, PORT)).or_default().push(port);
    }
    assert_eq!(ports.len(), world.slots as usize, "every slot has a port");
    ports.into_values().map(|of_slot| of_slot[before]).collect()
}

/// The backend that the record of the client's flow from port `source` names.
pub(crate) fn recorded(memory: &Memory, protocol: u8, source: u16) -> Option<u16> {
    let of_flow = memory
        .records()
        .into_iter()
        .find(|(ends, _)| (ends.protocol, ends.client_port, ends.client) == (protocol, source, Side::V4.client()));
    of_flow.map(|(_, record)| record.backend)
}

/// A slot of a service.
pub(crate) fn slot_of(memory: &Memory, service: u32, slot: u32) -> Slot {
    memory.slot(slot_address(service * SLOTS / SLOTS_PER_CELL, slot)).expect("it is there")
}

/// A frame from the client to the VIP.
pub(crate) fn frame(payload: Payload) -> Vec<u8> {
    Frame::new(EDGE_MAC, CLIENT_MAC, Ip::new(Side::V4.client(), Side::V4.vip(), payload)).bytes()
}

pub(crate) fn tcp(source: u16, flags: u8) -> Vec<u8> {
    frame(Payload::Tcp(Tcp { source, destination: PORT, flags, ..Tcp::default() }.in_order()))
}

/// Exit of a packet, and the backend that it reached, according to the frame's last MAC byte.
pub(crate) fn reached(seen: &Seen) -> (Exit, Option<u16>) {
    let ProgramExit::Edge(exit) = seen.exit else { panic!("the wrong program") };
    let forwarded = exit == Exit::DsrTx;
    assert!(!forwarded || exit.verdict() == Verdict::Tx);
    (exit, forwarded.then(|| u16::from(seen.frame[5])))
}
