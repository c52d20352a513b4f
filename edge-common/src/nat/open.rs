//! Makes an entry for a flow that starts.

use super::{
    forth::came_by,
    hop,
    read::Read,
    sign::Stamp,
    stage::after_client,
    table::{Ports, Translation, scaled, source, table_at, tuple},
};
use crate::{
    abi::{BackendNumber, Exit, Family, NAT_SOURCES, ServiceRef},
    evidence,
    flow_table::{Birth, Certainty, Life, Refused, Signal, Stage, words_of},
    maps::Maps,
    step::{Decision, FlowLocation, StepResult, Translate},
    wire::{packet::Packet, protocol},
};

/// Makes an entry for the flow at `location`, with the backend `to`; returns
/// [`Step::Select`](crate::step::Step::Select) if there is an entry with this backend already.
#[inline(always)]
pub fn open<P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    service_ref: ServiceRef,
    location: FlowLocation,
    to: BackendNumber,
) -> StepResult {
    opened(packet, maps, service_ref, location, to).unwrap_or_else(StepResult::from)
}

#[inline(always)]
fn opened<P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    service_ref: ServiceRef,
    location: FlowLocation,
    to: BackendNumber,
) -> Result<StepResult, Decision> {
    let view = maps.view_of(location.bank).ok_or(Exit::BadTables)?;
    let head = maps.nat_head().ok_or(Exit::BadTables)?;
    let came = came_by(packet).ok_or(Exit::Malformed)?;
    let read = Read::at(packet, location).ok_or(Exit::Malformed)?;
    let (flow, sign, ports) = (read.flow(), read.sign, read.ports);
    let now_ns = maps.now_ns();
    let (table, hash) = (table_at(maps, head, now_ns), flow.hash(&head.hash_key));
    let is_tcp = location.protocol == protocol::TCP;
    if let Some((found, entry)) = table.look(&flow, hash) {
        let stays = Translation::of(found.served).backend == to && !found.life.stage().is_over();
        if stays {
            return Ok(location.into());
        }
        if is_tcp && !matches!(sign.signal, Signal::Syn) {
            // The flow's backend is gone: the client has to connect anew.
            let after = |life: Life| life.seen_again(after_client(life.stage(), Signal::Reset, false), table.now);
            table.advance(&found, entry, after, None);
            return Err(Decision::new(Exit::NatBackendDown, location.l4 as u32));
        }
        table.remove(&found);
    }
    let backend = maps.backend(to).ok_or(Exit::BadTables)?;
    let service = maps.service(view.bank, service_ref.service()).ok_or(Exit::BadTables)?;
    let choice = head.choice(backend.family);
    let number = choice.numbers[scaled(hash.0 as u32, choice.count) as usize & const { NAT_SOURCES - 1 }];
    let own = [backend.port, service.backend_port].map(u16::from_ne_bytes);
    let port = if own[0] != 0 {
        own[0]
    } else if own[1] != 0 {
        own[1]
    } else {
        // The port of the packet, in the byte order of the header.
        (ports >> 16) as u16
    };
    let v6 = backend.family == Family::V6 as u8;
    // Merged, or the verifier would check all that follows once for each IP version of the backend.
    let merged = |words: [u64; 2]| words.map(|word| packet.merge_paths(word as usize, usize::MAX) as u64);
    let from = merged(words_of(backend.address, v6));
    let source = merged(words_of(source(head, number).address, v6));
    let crosses = packet.merge_paths((v6 != location.v6).into(), 1) != 0;
    let stamp = if is_tcp { Stamp::of(packet, location.l4) } else { None };
    let claim =
        Ports { head, tuple: tuple(head, from, source, port, location.protocol), flow: hash, stamp, now: table.now };
    let served = Translation {
        backend: to,
        source: number,
        is_stamped: stamp.is_some_and(|stamp| stamp.is_timestamp),
        hop: hop::learn(packet, maps, view, came),
        service: service_ref.service() as u16,
        port,
    };
    let birth = Birth {
        stage: Stage::HalfOpen,
        class: service_ref.tracking().into(),
        certainty: Certainty::Certain,
        served: served.served(0),
    };
    maps.concerns(served.service.into(), served.backend);
    match table.insert(&flow, hash, &birth, &claim) {
        Ok(entry) => {
            if is_tcp {
                evidence::asks(maps, to, backend, now_ns);
            }
            let tells = is_tcp && service.tells_client != 0;
            Ok(Translate { entry, back: false, starts: true, crosses, tells }.into())
        }
        Err(Refused::Raced) => Err(Exit::NatRaced.into()),
        Err(Refused::Full) if is_tcp => Err(Decision::new(Exit::NatExhausted, location.l4 as u32)),
        Err(Refused::Full) => Err(Exit::NatExhaustedSilent.into()),
    }
}
