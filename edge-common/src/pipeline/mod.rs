//! The whole path of a packet, from frame to exit.
//!
//! ```text
//! frame -> link -> network -> transport -> service -> slot -> owner -> rewrite -> exit
//!            |        |           |           |         |                 |
//!         not ours    +-----------+        not ours   choose: record,   time exceeded, too big,
//!                      slow path                      owner, pick(NEW)  no next hop, no room
//! ```
//!
//! This file has the fast path. The rarer parts are functions of their own in the kernel ([`Subprograms`]): choosing a
//! backend while the service is in transition, the slow path, and answers.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, reason = "a packet's numbers can be anything"))]

mod subprograms;
pub mod translate;

pub use self::subprograms::{Inlined, Subprograms};

use crate::{
    abi::{Backend, BackendNumber, Exit, ServiceRef},
    forward::{self, Received},
    hash::Hash,
    lookup::Lookup,
    maps::{Maps, View},
    select::{self, flow},
    step::{Chosen, Decision, FlowLocation, FlowRelation, Outcome, Step, StepResult, What},
    wire::{
        ethernet,
        ip::Transport,
        ipv4::V4,
        ipv6::V6,
        link::Link,
        packet::{Places, after},
        plain, protocol,
    },
};

/// A flow's service, and the hash that determines its slot.
type Known = Option<(ServiceRef, Hash)>;

/// The continuation of packets that are to be translated.
pub trait HandOver<P: Places, M: Maps>: Subprograms<P, M> + Sized {
    /// Hands the packet over. In the kernel the translation is a program of its own, which does not return here; `None`
    /// if there is no such program.
    #[inline(always)]
    fn hand_over(&self, packet: &mut P, maps: &M) -> Option<Result<Outcome, Exit>> {
        Some(translate::process_with(packet, maps, self))
    }
}

impl<P: Places, M: Maps> HandOver<P, M> for Inlined {}

/// Processes one packet, and counts it.
pub fn process<P: Places, M: Maps>(packet: &mut P, maps: &M) -> Outcome {
    process_with(packet, maps, &Inlined).unwrap_or_else(|exit| Outcome { exit, egress: 0 })
}

/// Like [`process`], with the caller's subprograms. Forwarded packets are `Ok`, all others `Err`: two paths to the end,
/// so that neither has code for cases of the other.
#[inline(always)]
pub fn process_with<P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    subprograms: &impl HandOver<P, M>,
) -> Result<Outcome, Exit> {
    match parse(packet, maps, subprograms) {
        Ok(forwarded) => {
            maps.count_exit(forwarded.exit);
            Ok(forwarded)
        }
        // Most packets that are not forwarded belong to no service, and leave at once.
        Err(decided) if decided == Exit::NotOurs.into() => {
            maps.count_exit(Exit::NotOurs);
            Err(Exit::NotOurs)
        }
        Err(mut decided) => {
            if is_translations(maps, decided) {
                decided = subprograms.established(packet, maps, decided);
                if let Some(sent) = decided.outcome() {
                    maps.count_exit(sent.exit);
                    return Ok(sent);
                }
                if decided.goes_on()
                    && let Some(left) = subprograms.hand_over(packet, maps)
                {
                    return left;
                }
            }
            Err(answer_and_count(packet, maps, subprograms, decided).exit())
        }
    }
}

/// Whether the translation may continue the packet's path: the packet was handed over, or it belongs to no service and
/// the published generation translates.
#[inline(always)]
fn is_translations<M: Maps>(maps: &M, decided: Decision) -> bool {
    let translates = |bank| maps.view_of(bank).is_some_and(|view| view.generation.translates != 0);
    decided.is_handed_over() || decided.unserved_in().is_some_and(translates)
}

/// Ends the path of a packet that is not forwarded: answers the packet, if an answer is due and permitted, and counts
/// it.
#[inline(always)]
fn answer_and_count<P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    subprograms: &impl Subprograms<P, M>,
    mut decided: Decision,
) -> Decision {
    if decided.is_pending() {
        decided = subprograms.judge(packet, maps, decided);
    }
    if decided.is_pending() {
        decided = subprograms.answer(packet, maps, decided).into();
    }
    maps.count_exit(decided.exit());
    decided
}

/// Forwarded packets are `Ok`, all others `Err`.
#[inline(always)]
fn parse<P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    subprograms: &impl Subprograms<P, M>,
) -> Result<Outcome, Decision> {
    let (station, link) = Link::parse_at_station(packet).ok_or(Exit::NotOurs)?;
    let view = maps.view().ok_or(Exit::NotOurs)?;
    // Switches flood, and bridges and promiscuous interfaces pass on frames for other stations; a packet that two edges
    // accept would be duplicated.
    if !view.takes(station) {
        return Err(Exit::OtherStation.into());
    }
    match link.ether_type {
        ethernet::IPV4 => network::<V4, P, M>(packet, maps, subprograms, view, link),
        ethernet::IPV6 => network::<V6, P, M>(packet, maps, subprograms, view, link),
        _ => Err(Exit::NotOurs.into()),
    }
}

/// A packet that goes to a backend.
struct Forwarded<'a> {
    /// Only its service and mode are used. They are extracted where they are needed, as the label is from the hash:
    /// combining values for another step costs a packet more than passing their sources.
    service_ref: ServiceRef,
    hash: Hash,
    backend: &'a Backend,
    number: u32,
    /// Whether the packet starts a flow.
    starts: bool,
}

impl<'a> Forwarded<'a> {
    #[inline(always)]
    fn new<M: Maps>(maps: &'a M, chosen: Chosen) -> Result<Self, Exit> {
        let Chosen { service, mode, label, backend: number, starts } = chosen;
        let backend = maps.backend(number).ok_or(Exit::BadTables)?;
        let service_ref = ServiceRef::new(service as u16, 1, 0).with_mode(mode);
        Ok(Self { service_ref, hash: Hash::of_label(label), backend, number: number.into(), starts })
    }
}

#[inline(always)]
fn network<F: Lookup, P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    subprograms: &impl Subprograms<P, M>,
    view: View<'_>,
    link: Link,
) -> Result<Outcome, Decision> {
    let fast = match packet.places::<F::Header, plain::Start>(link.l3) {
        Some((header, start)) => match F::plain(packet.at(header)) {
            Some(protocol) if packet.has_from(header, F::length(packet.at(header))) => {
                let plain = Plain { header, start, protocol };
                fast_packet::<F, P, M>(packet, maps, subprograms, view, link, plain)?
                    .map(|forwarded| (header, forwarded))
            }
            Some(_) | None => None,
        },
        None => None,
    };
    let (header, Forwarded { service_ref, hash, backend, number, starts }) = if let Some(forwarded) = fast {
        forwarded
    } else {
        let forwarded = slow_packet::<P, M>(packet, maps, subprograms, view, link)?;
        (packet.place(link.l3).ok_or(Exit::Malformed)?, forwarded)
    };
    maps.concerns(service_ref.service(), number as BackendNumber);
    let length = F::length(packet.at(header));
    let received = Received { link, header, length, label: hash.flow_label() };
    let spread = |packet: &mut P, spread| subprograms.spread(packet, maps, view.generation, backend, spread).egress();
    let forwarded = forward::forward::<F, P, M>(packet, maps, view, received, service_ref, backend, spread)?;
    maps.count_forwarded(service_ref.service(), number as BackendNumber, length as u64, starts);
    Ok(forwarded)
}

/// A plain packet, as nearly all are: whole, with TCP or UDP directly behind a network header without options.
struct Plain<H, S> {
    header: H,
    start: S,
    protocol: u8,
}

/// Processes a plain packet; `None` if it may be for a service that takes every port.
#[inline(always)]
fn fast_packet<'a, F: Lookup, P: Places, M: Maps>(
    packet: &mut P,
    maps: &'a M,
    subprograms: &impl Subprograms<P, M>,
    view: View<'_>,
    link: Link,
    Plain { header, start, protocol }: Plain<P::Place<F::Header>, P::Place<plain::Start>>,
) -> Result<Option<Forwarded<'a>>, Decision> {
    let (header, start): (&F::Header, _) = (packet.at(header), packet.at(start));
    let vip = F::destination(header);
    let Some(service_ref) = F::find(maps, view, vip, start.destination(), protocol) else {
        if !F::may_be_vip(view.generation, vip) {
            return Err(Exit::NotOurs.into());
        }
        return unknown::<F>(view, header);
    };
    // The end within the bytes that the length field counts, which do not include the link layer.
    let end = F::length(header).wrapping_sub(const { size_of::<F::Header>() - F::COUNTED });
    let Ok(syn) = start.head(protocol).check(protocol, F::COUNTED, end) else {
        return Err(Exit::Malformed.into());
    };
    let at = Transport { protocol, offset: after(link.l3, size_of::<F::Header>()) };
    let starts = syn || flow::starts_quic(packet, service_ref, at);
    let flow = flow::hash::<F>(view, service_ref, F::source(header), start.ports());
    if let Some((number, backend)) = select::stable_owner(maps, service_ref, flow, starts) {
        return Ok(Some(Forwarded { service_ref, hash: flow, backend, number: number.into(), starts }));
    }
    maps.concerns(service_ref.service(), 0);
    let location = location::<F>(link, view, protocol, starts);
    if service_ref.is_translated() {
        return Err(Decision::to_service(service_ref.service(), view.bank));
    }
    let chosen = sent(choose(packet, maps, subprograms, Some((service_ref, flow)), location))?;
    Ok(Some(Forwarded::new(maps, chosen)?))
}

/// The location of a plain packet's flow.
#[inline(always)]
const fn location<F: Lookup>(link: Link, view: View<'_>, protocol: u8, starts: bool) -> FlowLocation {
    FlowLocation {
        relation: FlowRelation::Whole,
        l3: link.l3,
        l4: after(link.l3, size_of::<F::Header>()),
        protocol,
        bank: view.bank,
        starts,
        v6: F::ETHER_TYPE == ethernet::IPV6,
    }
}

/// The result of [`fast_packet`] for a packet whose port has no service: `None` if the packet may be for a service that
/// takes every port.
#[inline(always)]
fn unknown<'a, F: Lookup>(view: View<'_>, header: &F::Header) -> Result<Option<Forwarded<'a>>, Decision> {
    let whole = F::length(header) >= size_of::<F::Header>();
    if !whole || view.generation.any_port != 0 {
        Ok(None)
    } else {
        Err(F::unserved(view, F::destination(header), Exit::NotOurs))
    }
}

/// Processes a packet of the slow path.
#[inline(always)]
fn slow_packet<'a, P: Places, M: Maps>(
    packet: &P,
    maps: &'a M,
    subprograms: &impl Subprograms<P, M>,
    view: View<'_>,
    link: Link,
) -> Result<Forwarded<'a>, Decision> {
    let mut result = subprograms.classify(packet, maps, link, view.bank);
    if let Step::Select(location) = result.step() {
        result = choose(packet, maps, subprograms, None, location);
        if location.relation != FlowRelation::Whole {
            result = subprograms.finish(packet, maps, link, location, result);
        }
    }
    let chosen = sent(result)?;
    Ok(Forwarded::new(maps, chosen)?)
}

/// Chooses a backend for a flow at `location` for which the slot's owner alone does not decide.
#[inline(always)]
fn choose<P: Places, M: Maps>(
    packet: &P,
    maps: &M,
    subprograms: &impl Subprograms<P, M>,
    known: Known,
    location: FlowLocation,
) -> StepResult {
    // A caller that knows the flow's service has checked the slot already, unless a connection ID comes first.
    let (known, by_connection) = match known {
        Some((service_ref, hash)) => (Some((service_ref.by_address(), hash)), service_ref.is_by_connection()),
        None => (None, location.protocol == protocol::UDP),
    };
    let mut result = StepResult::LOOK_UP;
    if by_connection {
        result = subprograms.route(packet, maps, known, location);
    }
    if result == StepResult::LOOK_UP && (by_connection || known.is_none()) {
        result = subprograms.choose(packet, maps, known, location, None);
    }
    if result == StepResult::LOOK_UP {
        result = subprograms.look_up(packet, maps, known, location);
    }
    if let Step::Choose(seen) = result.step() {
        result = subprograms.choose(packet, maps, known, location, Some(seen));
    }
    match result.step() {
        Step::Change(change) if matches!(change.what, What::Add) => {
            subprograms.add(packet, maps, known, location, change)
        }
        Step::Change(change) => subprograms.amend(packet, maps, known, location, change),
        Step::Leave(_) | Step::Forward(_) | Step::Select(_) | Step::Choose(_) | Step::Translate(_) => result,
    }
}

/// The chosen backend, or the exit of a packet without a backend.
#[inline(always)]
const fn sent(result: StepResult) -> Result<Chosen, Decision> {
    match result.step() {
        Step::Forward(chosen) => Ok(chosen),
        Step::Leave(decided) => Err(decided),
        // No choice leads to another one.
        Step::Select(_) | Step::Choose(_) | Step::Change(_) | Step::Translate(_) => {
            Err(Decision::new(Exit::BadTables, 0))
        }
    }
}
