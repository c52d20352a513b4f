//! The direction from the backend to the client: the entry's place follows from the packet.

use super::{
    read::Read,
    stage::after_backend,
    table::{Outside, table},
};
use crate::{
    abi::Exit,
    flow_table::{Signal, Stage},
    maps::Maps,
    step::{Decision, FlowLocation, StepResult, Translate},
    wire::{packet::Packet, protocol},
};

/// Finds the entry of the flow that the packet at `location` answers, and updates the entry's stage; [`Exit::NotOurs`]
/// if the packet is no answer.
#[inline(always)]
pub fn back<P: Packet, M: Maps>(packet: &P, maps: &M, location: FlowLocation) -> StepResult {
    found(packet, maps, location).map_or_else(StepResult::from, StepResult::from)
}

#[inline(always)]
fn found<P: Packet, M: Maps>(packet: &P, maps: &M, location: FlowLocation) -> Result<Translate, Decision> {
    let head = maps.nat_head().ok_or(Exit::NotOurs)?;
    let Read { source: from, destination: to, ports, protocol, v6, ttl, sign, .. } =
        Read::at(packet, location).ok_or(Exit::NotOurs)?;
    let outside = Outside {
        backend: from,
        backend_port: ports as u16,
        source: to,
        source_port: (ports >> 16) as u16,
        protocol,
        v6,
    };
    let table = table(maps, head);
    let (found, entry, flow) = outside.entry(maps, head, &table).ok_or(Exit::NotOurs)?;
    if ttl <= 1 {
        return Err(Exit::TtlExceeded.into());
    }
    let is_tcp = protocol == protocol::TCP;
    // The number that the client has to acknowledge to prove that it receives the backend's packets.
    let opens = matches!(sign.signal, Signal::Syn) && matches!(found.life.stage(), Stage::HalfOpen | Stage::Answered);
    if !table.advance(&found, entry, |stage| after_backend(stage, sign.signal, is_tcp), None) {
        return Err(Exit::NatRaced.into());
    }
    if opens {
        table.remember(entry, sign.sequence.wrapping_add(1));
    }
    Ok(Translate { entry: found.number, back: true, starts: false, crosses: flow.is_v6() != v6 })
}
