//! From a packet to its flow: its service, its hash, and by these its backend.

use crate::{
    abi::{Exit, Service, Target, Tracking, WhenExhausted},
    lookup::Lookup,
    lookup::hash::Hash,
    maps::{FlowKey, Maps, View},
    select::{self, FlowQuery},
    step::{Chosen, Decision, FlowLocation, FlowRelation, StepResult},
    wire::{ip::Transport, ipv4::V4, ipv6::V6, packet::Packet, protocol, quic},
};

/// The flow's hash, by which it has its slot.
#[inline(always)]
pub(crate) fn hash<F: Lookup>(view: View<'_>, target: Target, client: &F::Address, ports: u32) -> Hash {
    let key = &view.generation.hash_key;
    if target.is_hashed_by_ports() {
        F::flow(key, client, ports)
    } else {
        F::flow_of_source(key, client, target.affinity_prefix())
    }
}

/// Whether a packet is one of QUIC, and starts a flow.
#[inline(always)]
pub(crate) fn starts_quic<P: Packet>(packet: &P, target: Target, at: Transport) -> bool {
    at.protocol == protocol::UDP && target.tracks(Tracking::Quic) && quic::is_initial(packet, at.offset)
}

/// Chooses a backend for the flow that is read at `location`, by all that is known of it.
#[inline(always)]
pub fn choose<P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    known: Option<(Target, Hash)>,
    location: FlowLocation,
) -> StepResult {
    let Some(view) = maps.view_of(location.bank) else { return Exit::BadTables.into() };
    let at = Transport { protocol: location.protocol, offset: location.l4 };
    // Of either family, in its own variable, so that what follows is there once for both.
    let (v4, v6);
    let (target, hash, key) = if location.v6 {
        match read::<V6, P, M>(packet, maps, view, known, location) {
            Ok((target, hash, key)) => {
                v6 = key;
                (target, hash, FlowKey::V6(&v6))
            }
            Err(decided) => return decided.into(),
        }
    } else {
        match read::<V4, P, M>(packet, maps, view, known, location) {
            Ok((target, hash, key)) => {
                v4 = key;
                (target, hash, FlowKey::V4(&v4))
            }
            Err(decided) => return decided.into(),
        }
    };
    let Some(service) = maps.service(view.bank, target.service()) else { return Exit::BadTables.into() };
    let own = matches!(location.relation, FlowRelation::Whole | FlowRelation::FirstFragment);
    let starts = location.starts || known.is_none() && own && starts_quic(packet, target, at);
    let flags = packet.merge_paths(usize::from(own) | usize::from(starts) << 1, 3);
    let (own, starts) = (flags & 1 != 0, flags & 2 != 0);
    match select::choose(maps, view, service, &FlowQuery { target, hash, key, starts, may_record: own }) {
        Ok(backend) => Chosen::new(target, backend, hash.flow_label(), starts).into(),
        Err(Exit::Exhausted) => exhausted(service, at).into(),
        Err(exit) => exit.into(),
    }
}

/// Service, hash and key of the flow at `location`.
#[inline(always)]
fn read<F: Lookup, P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    view: View<'_>,
    known: Option<(Target, Hash)>,
    location: FlowLocation,
) -> Result<(Target, Hash, F::FlowKey), Decision> {
    let ports = u32::from_le_bytes(packet.load(location.l4).ok_or(Exit::Malformed)?);
    let header: &F::Header = packet.view(location.l3).ok_or(Exit::Malformed)?;
    let (source, destination) = (F::source(header), F::destination(header));
    // What a backend sent has both ends the other way round.
    let (client, vip, ports) = match location.relation {
        FlowRelation::IcmpQuote => (destination, source, ports.rotate_left(16)),
        FlowRelation::Whole | FlowRelation::FirstFragment | FlowRelation::TunnelQuote => (source, destination, ports),
    };
    let (target, hash) = if let Some(known) = known {
        known
    } else {
        let port = ((ports >> 16) as u16).to_le_bytes();
        let none = || F::unserved(view, vip, Exit::NotOurs);
        let target = F::find_any(maps, view, vip, port, location.protocol).ok_or_else(none)?;
        (target, hash::<F>(view, target, client, ports))
    };
    Ok((target, hash, F::flow_key(client, vip, ports, location.protocol)))
}

/// The exit of a packet whose service has no backend left. With `Open` that is only when all are disabled; its clients, too,
/// learn it at once.
#[inline(always)]
fn exhausted(service: &Service, at: Transport) -> Decision {
    let exit = match WhenExhausted::from_raw(service.when_exhausted) {
        WhenExhausted::Drop => Exit::Exhausted,
        WhenExhausted::Open | WhenExhausted::Reject if at.protocol == protocol::TCP => Exit::RejectReset,
        WhenExhausted::Open | WhenExhausted::Reject => Exit::RejectUnreachable,
    };
    Decision::new(exit, at.offset as u32)
}
