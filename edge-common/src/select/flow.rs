//! Reads a packet's flow, that is its service and its hash, and chooses its backend.

use crate::{
    abi::{BackendNumber, Exit, FlowCount, Service, ServiceRef, Tracking, WhenExhausted},
    flow_table::Flow,
    hash::Hash,
    lookup::Lookup,
    maps::{Maps, View},
    select::{self, Choice, FlowQuery, Recorded, Sign},
    step::{Change, Chosen, Decision, FlowLocation, FlowRelation, Seen, StepResult},
    wire::{
        ip::Transport,
        ipv4::V4,
        ipv6::V6,
        packet::{Packet, after},
        protocol, quic,
    },
};

/// The flow's hash, which determines its slot.
#[inline(always)]
pub(crate) fn hash<F: Lookup>(view: View<'_>, service_ref: ServiceRef, client: &F::Address, ports: u32) -> Hash {
    let key = &view.generation.hash_key;
    if service_ref.is_hashed_by_ports() {
        F::flow(key, client, ports)
    } else {
        F::flow_of_source(key, client, service_ref.affinity_prefix())
    }
}

/// Whether a packet is a QUIC packet that starts a flow.
#[inline(always)]
pub(crate) fn starts_quic<P: Packet>(packet: &P, service_ref: ServiceRef, at: Transport) -> bool {
    at.protocol == protocol::UDP && service_ref.tracks(Tracking::Quic) && quic::is_initial(packet, at.offset)
}

/// Chooses the backend of the flow at `location` by its connection ID; [`StepResult::LOOK_UP`] if the ID does not decide.
#[inline(always)]
pub fn route<P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    known: Option<(ServiceRef, Hash)>,
    location: FlowLocation,
) -> StepResult {
    let Some(view) = maps.view_of(location.bank) else { return Exit::BadTables.into() };
    let is_first = known.is_none();
    let known = match known {
        Some(known) => Ok(known),
        None => read(packet, maps, view, None, location).map(|Read { service_ref, hash, .. }| (service_ref, hash)),
    };
    let (service_ref, hash) = match known {
        Ok(known) => known,
        Err(decided) => return decided.into(),
    };
    // The entry of a translated flow is looked up first.
    let is_early = is_first && service_ref.is_translated();
    if is_early || !is_own(location) || !service_ref.tracks(Tracking::Quic) {
        return StepResult::LOOK_UP;
    }
    let Some(service) = maps.service(view.bank, service_ref.service()) else { return Exit::BadTables.into() };
    let query = query(packet, location, service_ref, hash);
    match select::connection::named(packet, maps, view, service, &query, location.l4) {
        Some(backend) => chosen(&query, backend),
        None => StepResult::LOOK_UP,
    }
}

/// Chooses a backend for the flow at `location`. `seen` is the content of the flow's record; `None` if the record was
/// not looked up yet.
#[inline(always)]
pub fn choose<P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    known: Option<(ServiceRef, Hash)>,
    location: FlowLocation,
    seen: Option<Seen>,
) -> StepResult {
    let Some(view) = maps.view_of(location.bank) else { return Exit::BadTables.into() };
    let known = match known {
        Some(known) => Ok(known),
        None => read(packet, maps, view, None, location).map(|Read { service_ref, hash, .. }| (service_ref, hash)),
    };
    let (service_ref, hash) = match known {
        Ok(known) => known,
        Err(decided) => return decided.into(),
    };
    // A translated flow gets here with `seen` only if it has no usable entry: its slot decides, as for a flow that
    // starts.
    let service_ref = match seen {
        Some(_) if service_ref.is_translated() => service_ref.stateless(),
        None if service_ref.is_translated() => return Decision::HANDED_OVER.into(),
        Some(_) | None => service_ref,
    };
    let Some(service) = maps.service(view.bank, service_ref.service()) else { return Exit::BadTables.into() };
    let query = query(packet, location, service_ref, hash);
    match select::choose(maps, view, service, &query, seen) {
        Ok(Choice::LookUp) => StepResult::LOOK_UP,
        Ok(Choice::Changes(change)) => change.into(),
        Ok(Choice::Goes { to, recorded }) => {
            if recorded {
                maps.count_flow(service_ref.service(), FlowCount::Hits);
            }
            chosen(&query, to)
        }
        Err(Exit::Exhausted) => exhausted(service, location).into(),
        Err(exit) => exit.into(),
    }
}

/// The service of the flow at `location`, as [`ServiceRef::word`]; 0 if there is none.
#[inline(always)]
pub fn service_ref<P: Packet, M: Maps>(packet: &P, maps: &M, location: FlowLocation) -> u64 {
    let Some(view) = maps.view_of(location.bank) else { return 0 };
    read(packet, maps, view, None, location).map_or(0, |read| read.service_ref.word())
}

/// Chooses the backend of the flow at `location` by its record, and notes in the record that a packet was seen now.
/// Returns the content of the record if it does not decide.
#[inline(always)]
pub fn look_up<P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    known: Option<(ServiceRef, Hash)>,
    location: FlowLocation,
) -> StepResult {
    let Some(view) = maps.view_of(location.bank) else { return Exit::BadTables.into() };
    let Read { service_ref, hash, flow, end } = match read(packet, maps, view, known, location) {
        Ok(read) => read,
        Err(decided) => return decided.into(),
    };
    let Some(service) = maps.service(view.bank, service_ref.service()) else { return Exit::BadTables.into() };
    let query = query(packet, location, service_ref, hash);
    if service_ref.tracks(Tracking::Stateless) {
        return Seen::default().into();
    }
    let Some(sign) = sign(packet, location, end) else { return Exit::Malformed.into() };
    let Some(recorded) = Recorded::new(maps, view, &flow, sign) else { return Exit::BadTables.into() };
    let seen = recorded.see(&query);
    maps.count_flow(service_ref.service(), FlowCount::Lookups);
    if select::follows(maps, service, seen) {
        maps.count_flow(service_ref.service(), FlowCount::Hits);
        return chosen(&query, seen.backend);
    }
    seen.into()
}

/// Changes the record of the flow at `location`, and returns the packet's backend.
#[inline(always)]
pub fn amend<P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    known: Option<(ServiceRef, Hash)>,
    location: FlowLocation,
    change: Change,
) -> StepResult {
    let Some(view) = maps.view_of(location.bank) else { return Exit::BadTables.into() };
    let Read { service_ref, hash, flow, end } = match read(packet, maps, view, known, location) {
        Ok(read) => read,
        Err(decided) => return decided.into(),
    };
    let query = query(packet, location, service_ref, hash);
    let Some(service) = maps.service(view.bank, service_ref.service()) else { return Exit::BadTables.into() };
    let Some(sign) = sign(packet, location, end) else { return Exit::Malformed.into() };
    let Some(recorded) = Recorded::new(maps, view, &flow, sign) else { return Exit::BadTables.into() };
    chosen(&query, recorded.amend(service, &query, change))
}

/// Adds a record of the flow at `location`, and returns the packet's backend.
#[inline(always)]
pub fn add<P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    known: Option<(ServiceRef, Hash)>,
    location: FlowLocation,
    change: Change,
) -> StepResult {
    let Some(view) = maps.view_of(location.bank) else { return Exit::BadTables.into() };
    let Read { service_ref, hash, flow, end } = match read(packet, maps, view, known, location) {
        Ok(read) => read,
        Err(decided) => return decided.into(),
    };
    let query = query(packet, location, service_ref, hash);
    let Some(service) = maps.service(view.bank, service_ref.service()) else { return Exit::BadTables.into() };
    let Some(sign) = sign(packet, location, end) else { return Exit::Malformed.into() };
    let Some(recorded) = Recorded::new(maps, view, &flow, sign) else { return Exit::BadTables.into() };
    chosen(&query, recorded.add(view, service, &query, change))
}

#[inline(always)]
fn chosen(query: &FlowQuery, backend: BackendNumber) -> StepResult {
    let FlowQuery { service_ref, hash, starts, .. } = *query;
    Chosen::new(service_ref, backend, hash.flow_label(), starts).into()
}

/// Whether a packet belongs to the flow itself, and does not quote it.
#[inline(always)]
const fn is_own(location: FlowLocation) -> bool {
    matches!(location.relation, FlowRelation::Whole | FlowRelation::FirstFragment)
}

#[inline(always)]
fn query<P: Packet>(packet: &P, location: FlowLocation, service_ref: ServiceRef, hash: Hash) -> FlowQuery {
    let at = Transport { protocol: location.protocol, offset: location.l4 };
    let own = is_own(location);
    let starts = location.starts || own && starts_quic(packet, service_ref, at);
    let flags = packet.merge_paths(usize::from(own) | usize::from(starts) << 1, 3);
    FlowQuery { service_ref, hash, starts: flags & 2 != 0, may_record: flags & 1 != 0 }
}

#[inline(always)]
fn sign<P: Packet>(packet: &P, location: FlowLocation, end: usize) -> Option<Sign> {
    let at = Transport { protocol: location.protocol, offset: location.l4 };
    if is_own(location) { Sign::of(packet, at, end) } else { Some(Sign::NONE) }
}

/// A flow, as read from a packet.
struct Read {
    service_ref: ServiceRef,
    hash: Hash,
    flow: Flow,
    /// Offset of the packet's end.
    end: usize,
}

/// The flow at `location`.
#[inline(always)]
fn read<P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    view: View<'_>,
    known: Option<(ServiceRef, Hash)>,
    location: FlowLocation,
) -> Result<Read, Decision> {
    if location.v6 {
        read_of::<V6, P, M>(packet, maps, view, known, location)
    } else {
        read_of::<V4, P, M>(packet, maps, view, known, location)
    }
}

#[inline(always)]
fn read_of<F: Lookup, P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    view: View<'_>,
    known: Option<(ServiceRef, Hash)>,
    location: FlowLocation,
) -> Result<Read, Decision> {
    let ports = u32::from_le_bytes(packet.load(location.l4).ok_or(Exit::Malformed)?);
    let header: &F::Header = packet.view(location.l3).ok_or(Exit::Malformed)?;
    let (source, destination) = (F::source(header), F::destination(header));
    // A backend's packet has source and destination swapped.
    let (client, vip, ports) = match location.relation {
        FlowRelation::IcmpQuote => (destination, source, ports.rotate_left(16)),
        FlowRelation::Whole | FlowRelation::FirstFragment | FlowRelation::TunnelQuote => (source, destination, ports),
    };
    let (service_ref, hash) = if let Some(known) = known {
        known
    } else {
        let port = ((ports >> 16) as u16).to_le_bytes();
        let none = || F::unserved(view, vip, Exit::NotOurs);
        let service_ref = F::find_any(maps, view, vip, port, location.protocol).ok_or_else(none)?.by_address();
        (service_ref, hash::<F>(view, service_ref, client, ports))
    };
    let flow = F::flow_between(client, vip, ports, location.protocol);
    Ok(Read { service_ref, hash, flow, end: after(location.l3, F::length(header)) })
}

/// The exit of a packet whose service has no backend left. With `Open` this only happens if all backends are disabled;
/// such clients are refused at once, too.
#[inline(always)]
fn exhausted(service: &Service, location: FlowLocation) -> Decision {
    let exit = match WhenExhausted::from_raw(service.when_exhausted) {
        WhenExhausted::Drop => Exit::Exhausted,
        WhenExhausted::Open | WhenExhausted::Reject if location.protocol == protocol::TCP => Exit::RejectReset,
        WhenExhausted::Open | WhenExhausted::Reject => Exit::RejectUnreachable,
    };
    Decision::new(exit, location.l4 as u32)
}
