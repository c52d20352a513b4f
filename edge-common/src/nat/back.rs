//! From the backend to the client: the entry's place follows from the packet.

use super::{
    read::Read,
    stage::after_backend,
    table::{Translation, place, source, table, tuple},
};
use crate::{
    abi::{Exit, Family},
    flow_table::{Signal, Stage, words_of},
    maps::Maps,
    step::{Decision, FlowLocation, StepResult, Translate},
    wire::{packet::Packet, protocol},
};

/// Finds the entry of the flow that the packet at `location` is an answer of, and notes there what it shows; [`Exit::NotOurs`] if it
/// is none.
#[inline(always)]
pub fn back<P: Packet, M: Maps>(packet: &P, maps: &M, location: FlowLocation) -> StepResult {
    found(packet, maps, location).map_or_else(StepResult::from, StepResult::from)
}

#[inline(always)]
fn found<P: Packet, M: Maps>(packet: &P, maps: &M, location: FlowLocation) -> Result<Translate, Decision> {
    let head = maps.nat_head().ok_or(Exit::NotOurs)?;
    let Read { source: from, destination: to, ports, protocol, v6, ttl, sign } =
        Read::at(packet, location).ok_or(Exit::NotOurs)?;
    let offset = u32::from(((ports >> 16) as u16).swap_bytes()).wrapping_sub(head.first_port);
    if offset >= head.ports {
        return Err(Exit::NotOurs.into());
    }
    let from_port = ports as u16;
    let tuple = tuple(head, from, to, from_port, protocol);
    let table = table(maps, head);
    let (found, entry, flow) = table.at(place(head, tuple, offset)).ok_or(Exit::NotOurs)?;
    let served = Translation::of(found.served);
    let backend = maps.backend(served.backend).ok_or(Exit::NotOurs)?;
    let own = source(head, served.source);
    let (peer, here) = (words_of(backend.address, v6), words_of(own.address, v6));
    let family = if v6 { Family::V6 } else { Family::V4 };
    let is_its = backend.family == family as u8
        && own.family == family as u32
        && peer[0] == from[0]
        && peer[1] == from[1]
        && here[0] == to[0]
        && here[1] == to[1]
        && served.port == from_port
        && flow.protocol() == protocol;
    if !is_its {
        return Err(Exit::NotOurs.into());
    }
    if ttl <= 1 {
        return Err(Exit::TtlExceeded.into());
    }
    let is_tcp = protocol == protocol::TCP;
    // What the client has to quote before it counts as one that hears.
    let opens = matches!(sign.signal, Signal::Syn) && matches!(found.life.stage(), Stage::HalfOpen | Stage::Answered);
    if !table.advance(&found, entry, |stage| after_backend(stage, sign.signal, is_tcp), None) {
        return Err(Exit::NatRaced.into());
    }
    if opens {
        table.remember(entry, sign.sequence.wrapping_add(1));
    }
    Ok(Translate { entry: found.number, back: true, starts: false })
}
