//! The direction from the backend to the client: the entry's place follows from the packet.

use super::{
    read::Read,
    sign::{Handshake, Sign},
    stage::{after_backend, is_accepted},
    table::{Outside, Translation, table},
    tell::has_data,
};
use crate::{
    abi::{Exit, Sign as EvidenceSign},
    evidence,
    flow_table::{Life, Signal, Stage},
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
    let (found, entry, flow, backend) = outside.entry_and_backend(maps, head, &table).ok_or(Exit::NotOurs)?;
    let served = Translation::of(found.served);
    maps.concerns(served.service.into(), served.backend);
    if matches!((found.life.stage(), sign.signal), (Stage::HalfOpen, Signal::Reset)) {
        maps.add_sign(served.backend, EvidenceSign::Refused);
    } else {
        evidence::hears(maps, served.backend, backend);
    }
    if ttl <= 1 {
        return Err(Exit::TtlExceeded.into());
    }
    let is_tcp = protocol == protocol::TCP;
    // The number that the client has to acknowledge to prove that it receives the backend's packets.
    let opens = matches!(sign.signal, Signal::Syn) && (!is_accepted(found.life.stage()) || found.life.is_untold());
    let is_told = found.life.is_untold() && shows_acceptance(packet, location, sign, found.served.sequence);
    let after = |life: Life| {
        let now = life.seen_again(after_backend(life.stage(), sign.signal, is_tcp), table.now);
        now.with_untold(life.is_untold() && !(is_told && is_accepted(life.stage())))
    };
    if !table.advance(&found, entry, after, None) {
        return Err(Exit::NatRaced.into());
    }
    if opens {
        table.remember(entry, Handshake::of(sign).0);
    }
    Ok(Translate { entry: found.number, back: true, starts: false, crosses: flow.is_v6() != v6, tells: false })
}

/// Whether a packet of the backend shows that its server has the connection, and so has read the options of the packet
/// that completed the handshake. An ACK of no more than the client's SYN does not: it is also the answer to a packet
/// outside the window, which anybody can send, while the backend still waits for the end of the handshake (RFC 9293,
/// section 3.10.7.4).
#[inline(always)]
fn shows_acceptance<P: Packet>(packet: &P, location: FlowLocation, sign: Sign, sequence: u32) -> bool {
    match sign.signal {
        Signal::Syn | Signal::Reset => false,
        Signal::Fin => true,
        Signal::Bare | Signal::Data => {
            !Handshake(sequence).is_repeated_by(sign.acknowledged) || has_data(packet, location).unwrap_or(false)
        }
    }
}
