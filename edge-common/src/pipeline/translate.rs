//! The path of a packet that is translated, or may be: a packet to a service in `nat`, or to an address that translated
//! packets come from.
//!
//! In the kernel this path is a program of its own, to which the load balancer's program hands packets over: the two
//! are verified apart, and packets without translation pay nothing for it.

use super::{Known, Subprograms, answer_and_count, location};
use crate::{
    abi::{BackendNumber, Exit, ServiceRef},
    lookup::Lookup,
    maps::{Maps, View},
    select::{self, flow},
    step::{Decision, FlowLocation, FlowRelation, Outcome, Seen, Step, StepResult},
    wire::{
        ethernet,
        ip::Transport,
        ipv4::V4,
        ipv6::V6,
        link::Link,
        packet::{Places, after},
        plain,
    },
};

/// Processes a packet that was handed over, and counts it.
///
/// # Errors
/// The exit of a packet that is not forwarded.
#[inline(always)]
pub fn process_with<P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    subprograms: &impl Subprograms<P, M>,
) -> Result<Outcome, Exit> {
    let decided = parse(packet, maps, subprograms).unwrap_or_else(Into::into);
    let decided = answer_and_count(packet, maps, subprograms, decided);
    let exit = decided.exit();
    if is_sent(exit) {
        // The detail of a sent packet is its egress interface.
        return Ok(Outcome { exit, egress: decided.detail() });
    }
    Err(exit)
}

/// Whether the packets of this exit are sent.
#[inline(always)]
const fn is_sent(exit: Exit) -> bool {
    matches!(exit, Exit::NatTx | Exit::NatRedirect | Exit::NatReplyTx | Exit::NatReplyRedirect)
}

#[inline(always)]
fn parse<P: Places, M: Maps>(packet: &mut P, maps: &M, subprograms: &impl Subprograms<P, M>) -> Result<Decision, Exit> {
    let link = Link::parse(packet).ok_or(Exit::NotOurs)?;
    let view = maps.view().ok_or(Exit::NotOurs)?;
    match link.ether_type {
        ethernet::IPV4 => network::<V4, P, M>(packet, maps, subprograms, view, link),
        ethernet::IPV6 => network::<V6, P, M>(packet, maps, subprograms, view, link),
        _ => Err(Exit::NotOurs),
    }
}

#[inline(always)]
fn network<F: Lookup, P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    subprograms: &impl Subprograms<P, M>,
    view: View<'_>,
    link: Link,
) -> Result<Decision, Exit> {
    let Some((header, start)) = packet.places::<F::Header, plain::Start>(link.l3) else {
        return Ok(slow(packet, maps, subprograms, view, link));
    };
    let (header, start): (&F::Header, _) = (packet.at(header), packet.at(start));
    let Some(protocol) = F::plain(header) else { return Ok(slow(packet, maps, subprograms, view, link)) };
    let Some(service_ref) = F::find_any(maps, view, F::destination(header), start.destination(), protocol) else {
        let location = location::<F>(link, view, protocol, false);
        let result = subprograms.back(packet, maps, location);
        if result != Exit::NotOurs.into() {
            return Ok(sent(packet, maps, subprograms, location, result));
        }
        let header: &F::Header = packet.view(link.l3).ok_or(Exit::NotOurs)?;
        return Ok(F::unserved(view, F::destination(header), Exit::NotOurs));
    };
    // Another generation was published in the meantime.
    if !service_ref.is_translated() {
        return Err(Exit::NatRaced);
    }
    let end = F::length(header).wrapping_sub(const { size_of::<F::Header>() - F::COUNTED });
    let syn = start.head(protocol).check(protocol, F::COUNTED, end).map_err(|_| Exit::Malformed)?;
    let at = Transport { protocol, offset: after(link.l3, size_of::<F::Header>()) };
    let starts = syn || flow::starts_quic(packet, service_ref, at);
    let known = Some((service_ref, flow::hash::<F>(view, service_ref, F::source(header), start.ports())));
    let location = location::<F>(link, view, protocol, starts);
    let result = found(packet, maps, subprograms, service_ref, known, location);
    Ok(sent(packet, maps, subprograms, location, result))
}

/// Processes a packet that is not plain.
#[inline(always)]
fn slow<P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    subprograms: &impl Subprograms<P, M>,
    view: View<'_>,
    link: Link,
) -> Decision {
    let classified = subprograms.classify_translated(packet, maps, link, view.bank);
    let (location, result) = match classified.step() {
        Step::Select(location) if matches!(location.relation, FlowRelation::IcmpQuote) => {
            (location, subprograms.quoted(packet, maps, location))
        }
        Step::Select(location) => {
            let service_ref = ServiceRef::from_word(subprograms.service_ref(packet, maps, location));
            let mut result = if service_ref.is_translated() {
                found(packet, maps, subprograms, service_ref, None, location)
            } else {
                subprograms.back(packet, maps, location)
            };
            if let (Step::Translate(_), FlowRelation::FirstFragment) = (result.step(), location.relation) {
                result = subprograms.remember(packet, maps, link, view.bank, result);
            }
            (location, result)
        }
        Step::Leave(_) | Step::Forward(_) | Step::Choose(_) | Step::Change(_) | Step::Translate(_) => {
            (later_fragment(link, view), classified)
        }
    };
    if result == Exit::NotOurs.into() {
        // The packet is classified as if no service were translated.
        return match subprograms.classify(packet, maps, link, view.bank).step() {
            Step::Leave(decided) => decided,
            Step::Select(FlowLocation { relation: FlowRelation::IcmpQuote | FlowRelation::TunnelQuote, .. }) => {
                Decision::unserved(Exit::IcmpError, view.bank)
            }
            Step::Forward(_) | Step::Select(_) | Step::Choose(_) | Step::Change(_) | Step::Translate(_) => {
                Decision::unserved(Exit::NotOurs, view.bank)
            }
        };
    }
    let result = match (result.step(), location.relation) {
        (Step::Translate(how), FlowRelation::IcmpQuote) if how.crosses => {
            match subprograms.cross_quote(packet, maps, location, how).step() {
                Step::Translate(how) => subprograms.cross_error(packet, maps, location, how),
                Step::Leave(decided) => decided.into(),
                Step::Forward(_) | Step::Select(_) | Step::Choose(_) | Step::Change(_) => Exit::BadTables.into(),
            }
        }
        (Step::Translate(how), FlowRelation::IcmpQuote) => subprograms.requote(packet, maps, location, how),
        _ => result,
    };
    let decided = sent(packet, maps, subprograms, location, result);
    if matches!(location.relation, FlowRelation::FirstFragment) && !is_sent(decided.exit()) {
        // A later fragment is of no use without the first one, and may be short enough to pass. If an answer is due, the
        // packet still has the ends by which it was recorded.
        subprograms.remember(packet, maps, link, view.bank, decided.into());
    }
    decided
}

/// The location of a later fragment, which has no ports.
#[inline(always)]
const fn later_fragment(link: Link, view: View<'_>) -> FlowLocation {
    let v6 = link.ether_type == ethernet::IPV6;
    FlowLocation { relation: FlowRelation::Whole, l3: link.l3, l4: 0, protocol: 0, bank: view.bank, starts: false, v6 }
}

/// The entry of a packet to a service in `nat`: the present one, or a new one with the backend that is chosen.
#[inline(always)]
fn found<P: Places, M: Maps>(
    packet: &P,
    maps: &M,
    subprograms: &impl Subprograms<P, M>,
    service_ref: ServiceRef,
    known: Known,
    location: FlowLocation,
) -> StepResult {
    let result = subprograms.forth(packet, maps, service_ref, location, 0);
    let Step::Select(_) = result.step() else { return result };
    let to = match chosen(packet, maps, subprograms, service_ref, known, location) {
        Ok(to) => to,
        Err(decided) => return decided.into(),
    };
    let result = subprograms.open(packet, maps, service_ref, location, to);
    // Another CPU has made the entry first.
    if let Step::Select(_) = result.step() {
        subprograms.forth(packet, maps, service_ref, location, to)
    } else {
        result
    }
}

/// The backend of a flow that starts, or starts anew.
#[inline(always)]
fn chosen<P: Places, M: Maps>(
    packet: &P,
    maps: &M,
    subprograms: &impl Subprograms<P, M>,
    service_ref: ServiceRef,
    known: Known,
    location: FlowLocation,
) -> Result<BackendNumber, Decision> {
    // A client whose address has changed goes on with its connection.
    if service_ref.is_by_connection()
        && known.is_some()
        && let Step::Forward(chosen) = subprograms.route(packet, maps, known, location).step()
    {
        return Ok(chosen.backend);
    }
    // An entry records its flow's backend: slots decide only for flows that start.
    if let Some((service_ref, flow)) = known
        && let Some((owner, _)) = select::stable_owner(maps, service_ref.stateless(), flow, true)
    {
        return Ok(owner);
    }
    // The choice is the one for a flow without a record.
    super::sent(subprograms.choose(packet, maps, known, location, Some(Seen::default()))).map(|to| to.backend)
}

/// Sends a packet if its entry was found; else returns the decision on the packet.
#[inline(always)]
fn sent<P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    subprograms: &impl Subprograms<P, M>,
    location: FlowLocation,
    result: StepResult,
) -> Decision {
    let result = if let Step::Translate(how) = result.step()
        && how.tells
    {
        subprograms.tell(packet, maps, location, how)
    } else {
        result
    };
    let how = match result.step() {
        Step::Translate(how) => how,
        Step::Leave(decided) => return decided,
        Step::Forward(_) | Step::Select(_) | Step::Choose(_) | Step::Change(_) => return Exit::BadTables.into(),
    };
    left(if how.crosses {
        subprograms.cross(packet, maps, location, how)
    } else {
        subprograms.send(packet, maps, location, how)
    })
}

/// The decision of a packet after its last step.
#[inline(always)]
const fn left(result: StepResult) -> Decision {
    match result.step() {
        Step::Leave(decided) => decided,
        Step::Translate(_) | Step::Forward(_) | Step::Select(_) | Step::Choose(_) | Step::Change(_) => {
            Decision::new(Exit::BadTables, 0)
        }
    }
}
