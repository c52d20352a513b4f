//! The direction from the client to the backend: the flow's entry, and whether its backend still serves the flow.

use super::{
    hop::{self, Came},
    read::Read,
    sign::{Handshake, Sign, Stamp},
    stage::{after_client, is_accepted},
    table::{Translation, table_at},
    tell::has_data,
};
use crate::{
    abi::{Backend, BackendNumber, Exit, Family, Service, ServiceRef, Sign as EvidenceSign, State},
    evidence,
    flow_table::{Life, Signal, Stage},
    maps::Maps,
    select,
    step::{Decision, FlowLocation, Seen, StepResult, Translate},
    wire::{link::Link, packet::Packet, protocol},
};

/// Finds the entry of the packet's flow, at `location`, and updates the entry by the packet. Returns
/// [`Step::Select`](crate::step::Step::Select) if a backend is to be chosen: there is no entry and the packet starts a
/// flow, or the entry's backend no longer serves the flow. `chosen` is the backend that was chosen already, or 0.
#[inline(always)]
pub fn forth<P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    service_ref: ServiceRef,
    location: FlowLocation,
    chosen: BackendNumber,
) -> StepResult {
    found(packet, maps, service_ref, location, chosen).unwrap_or_else(StepResult::from)
}

#[inline(always)]
fn found<P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    service_ref: ServiceRef,
    location: FlowLocation,
    chosen: BackendNumber,
) -> Result<StepResult, Decision> {
    let view = maps.view_of(location.bank).ok_or(Exit::BadTables)?;
    let head = maps.nat_head().ok_or(Exit::BadTables)?;
    let came = came_by(packet).ok_or(Exit::Malformed)?;
    let read = Read::at(packet, location).ok_or(Exit::Malformed)?;
    if read.ttl <= 1 {
        return Err(Exit::TtlExceeded.into());
    }
    let now_ns = maps.now_ns();
    let (flow, sign, table) = (read.flow(), read.sign, table_at(maps, head, now_ns));
    let Some((found, entry)) = table.look(&flow, flow.hash(&head.hash_key)) else {
        return opened(location, sign);
    };
    let served = Translation::of(found.served);
    let backend = maps.backend(served.backend).ok_or(Exit::BadTables)?;
    maps.concerns(served.service.into(), served.backend);
    let service = maps.service(view.bank, service_ref.service()).ok_or(Exit::BadTables)?;
    let stage = found.life.stage();
    if chosen != served.backend && !serves(maps, service, backend, served, stage, sign, location.protocol) {
        return Ok(location.into());
    }
    let confirmed = Handshake(found.served.sequence).is_confirmed_by(sign.acknowledged);
    let is_told = service.tells_client != 0 && location.protocol == protocol::TCP;
    let after = |life: Life| {
        let (was, now) = (life.stage(), after_client(life.stage(), sign.signal, confirmed));
        // The backend may have lost the connection of which the entry is, so any SYN may begin another one.
        let begins = !is_accepted(was) || !is_accepted(now) || matches!(sign.signal, Signal::Syn);
        (now, is_told && (begins || life.is_untold()))
    };
    let (now, is_untold) = after(found.life);
    // The value by which the backend will judge the next connection with the same tuple. As long as the backend is told
    // the client's address, the handshake is remembered in its place.
    let last = if closes(now) && !is_untold { Stamp::of_running(packet, location.l4, served.is_stamped) } else { None };
    let changed = |life: Life| {
        let (now, is_untold) = after(life);
        life.seen_again(now, table.now).with_untold(is_untold)
    };
    if !table.advance(&found, entry, changed, None) {
        return Err(Exit::NatRaced.into());
    }
    if let Some(last) = last {
        table.remember(entry, last);
    }
    // Merged, or the verifier would follow the rest once for each kind of packet.
    if packet.merge_paths(demands_answer(packet, location, sign).into(), 1) != 0 {
        evidence::asks(maps, served.backend, backend, now_ns);
    }
    if matches!((stage, sign.signal), (Stage::HalfOpen, Signal::Syn)) && chosen == 0 {
        let client = evidence::client_bit(read.client(&head.hash_key));
        maps.add_sign(served.backend, EvidenceSign::Repeated(client));
    }
    if !hop::is_by(maps, served.hop, came) {
        let hop = hop::learn(packet, maps, view, came);
        // If another packet has changed the hop in the meantime, that hop is as good.
        let _other = table.serve(&found, Translation { hop, ..served }.served(found.served.sequence));
    }
    let crosses = (backend.family == Family::V6 as u8) != location.v6;
    let tells = is_untold && !matches!(sign.signal, Signal::Reset);
    Ok(Translate { entry: found.number, back: false, starts: false, crosses, tells }.into())
}

/// The result for a packet of a flow without an entry: the packet may start a flow, or is refused.
#[inline(always)]
fn opened(location: FlowLocation, sign: Sign) -> Result<StepResult, Decision> {
    if location.protocol != protocol::TCP || matches!(sign.signal, Signal::Syn) && location.starts {
        Ok(location.into())
    } else {
        Err(Decision::new(Exit::NatNoFlow, location.l4 as u32))
    }
}

/// Whether the flow's backend serves this packet.
#[inline(always)]
fn serves<M: Maps>(
    maps: &M,
    service: &Service,
    backend: &Backend,
    served: Translation,
    stage: Stage,
    sign: Sign,
    protocol: u8,
) -> bool {
    let starts = if protocol == protocol::TCP {
        matches!(sign.signal, Signal::Syn) && stage.is_over()
    } else {
        // A sender that gets no answer would otherwise never reach the backend of new flows.
        matches!(stage, Stage::HalfOpen)
    };
    if starts && !State(backend.state).has_all(State::NEW | State::ALIVE) {
        return false;
    }
    // Only a connection loses something if it does not wait for its backend.
    let waits = service.sticks != 0 && protocol == protocol::TCP && !matches!(stage, Stage::HalfOpen);
    waits || select::follows(maps, service, Seen { backend: served.backend, is_forged: false })
}

/// Whether the backend has to answer the packet: a SYN, a FIN or data of TCP.
#[inline(always)]
fn demands_answer<P: Packet>(packet: &P, location: FlowLocation, sign: Sign) -> bool {
    location.protocol == protocol::TCP
        && match sign.signal {
            Signal::Syn | Signal::Fin => true,
            Signal::Reset => false,
            Signal::Bare | Signal::Data => has_data(packet, location).unwrap_or(false),
        }
}

/// Whether the connection was closed by both sides, or by the client alone.
#[inline(always)]
const fn closes(stage: Stage) -> bool {
    matches!(stage, Stage::Closed | Stage::Finished | Stage::ClientClosed)
}

/// The hop by which a frame arrived; `None` for a frame with two tags, which has no return route.
#[inline(always)]
pub(super) fn came_by<P: Packet>(packet: &P) -> Option<Came> {
    let (station, from, link) = Link::parse_with_ends(packet)?;
    let vlan = link.vlan(packet)?;
    Some(Came { station, from, vlan })
}
