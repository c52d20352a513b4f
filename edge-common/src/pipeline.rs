//! A packet's whole way, from frame to exit.
//!
//! ```text
//! frame -> link -> network -> transport -> service -> slot -> owner -> rewrite -> exit
//!            |        |           |           |         |                 |
//!         not ours    +-----------+        not ours   choose: record,   time exceeded, too big,
//!                         slow                         owner, pick(NEW)  no next hop, no room
//! ```
//!
//! What nearly all packets need stands here. Three ways off it are functions of their own in the kernel ([`Subprograms`]): to
//! choose a backend when the service is in transition, to look longer at an slow-path packet, and to answer one.

use crate::{
    abi::{Backend, BackendNumber, Service, Target},
    exit::Exit,
    flow,
    forward::{self, Received},
    frame::{self, Link},
    hash::Hash,
    ip::{Transport, V4, V6},
    packet::Packet,
    reply::{self, Reply},
    select, slow,
    tables::{Tables, View},
    transport,
};

/// How a packet left, and by which interface if by [`Verdict::Redirect`](crate::exit::Verdict::Redirect).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub exit: Exit,
    /// Interface index; 0 unless the packet was forwarded.
    pub egress: u32,
}

/// How a packet that is not forwarded is to leave, before it is answered: an exit and what its answer needs, in one word,
/// which a function can take in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision(pub u64);

impl Decision {
    /// `detail` is, of a packet to answer, the offset of its transport header; of one that is too big the MTU. It is below
    /// 2^30.
    #[inline(always)]
    pub const fn new(exit: Exit, detail: u32) -> Self {
        Self((detail as u64) << 32 | exit as u64)
    }

    #[inline(always)]
    pub const fn exit(self) -> Exit {
        Exit::from_raw(self.0 as u32)
    }

    #[inline(always)]
    pub const fn detail(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether the packet is to be answered.
    #[inline(always)]
    pub const fn wants_answer(self) -> bool {
        matches!(
            self.exit(),
            Exit::EchoReply | Exit::RejectReset | Exit::RejectUnreachable | Exit::TtlExceeded | Exit::TooBig
        )
    }

    /// Whether the answer is an ICMP or ICMPv6 error.
    #[inline(always)]
    pub const fn is_error(self) -> bool {
        matches!(self.exit(), Exit::RejectUnreachable | Exit::TtlExceeded | Exit::TooBig)
    }
}

impl From<Exit> for Decision {
    #[inline(always)]
    fn from(exit: Exit) -> Self {
        Self::new(exit, 0)
    }
}

/// What a subprogram found, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepResult(pub u64);

/// What a subprogram found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The packet leaves otherwise than to a backend.
    Leave(Decision),
    /// It goes to a backend.
    Forward(Chosen),
    /// A backend is to be chosen for a flow.
    Select(FlowLocation),
}

/// A service and its backend for one packet. Of whole words, as the eBPF stack aligns them.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Service number; below 2^16.
    pub service: u32,
    /// Twenty bits for an outer header to tell the flow by.
    pub label: u32,
    pub backend: BackendNumber,
    /// Whether the packet starts a flow.
    pub starts: bool,
}

/// Where in a frame a flow is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLocation {
    pub relation: FlowRelation,
    /// Offset of the network header; below 256.
    pub l3: usize,
    /// Offset of the transport header; below 2^14.
    pub l4: usize,
    pub protocol: u8,
    /// Half of the maps that the packet has seen published.
    pub bank: u32,
    /// Whether the packet starts a flow, by all that can be told without knowing its service.
    pub starts: bool,
    /// Whether the network header is one of IPv6.
    pub v6: bool,
}

/// What a packet has to do with the flow that is read in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowRelation {
    /// It is one of the flow.
    Whole,
    /// It is the first fragment of one of the flow.
    FirstFragment,
    /// It is an ICMP error that quotes an answer of the flow's backend to the client.
    IcmpQuote,
    /// It is an ICMP error that quotes one of the flow in a tunnel of ours.
    TunnelQuote,
}

impl StepResult {
    const TO: u64 = 1 << 63;
    const CHOOSE: u64 = 1 << 62;
    const STARTS: u64 = 1 << 61;
    const V6: u64 = 1 << 60;

    #[inline(always)]
    pub const fn step(self) -> Step {
        if self.0 & Self::TO != 0 {
            return Step::Forward(Chosen {
                service: (self.0 >> 16) as u32 & 0xffff,
                backend: self.0 as u16,
                label: (self.0 >> 32) as u32 & 0xf_ffff,
                starts: self.0 & Self::STARTS != 0,
            });
        }
        if self.0 & Self::CHOOSE != 0 { Step::Select(self.location()) } else { Step::Leave(Decision(self.0)) }
    }

    #[inline(always)]
    pub const fn location(self) -> FlowLocation {
        FlowLocation {
            relation: match self.0 >> 32 & 3 {
                1 => FlowRelation::FirstFragment,
                2 => FlowRelation::IcmpQuote,
                3 => FlowRelation::TunnelQuote,
                _ => FlowRelation::Whole,
            },
            l3: self.0 as usize & 0xff,
            l4: (self.0 >> 16) as usize & 0x3fff,
            protocol: (self.0 >> 8) as u8,
            bank: (self.0 >> 34) as u32 & 1,
            starts: self.0 & Self::STARTS != 0,
            v6: self.0 & Self::V6 != 0,
        }
    }

    const fn flag(is: bool, flag: u64) -> u64 {
        if is { flag } else { 0 }
    }
}

impl From<Decision> for StepResult {
    #[inline(always)]
    fn from(Decision(out): Decision) -> Self {
        Self(out & (Self::CHOOSE - 1))
    }
}

impl From<Exit> for StepResult {
    #[inline(always)]
    fn from(exit: Exit) -> Self {
        Decision::from(exit).into()
    }
}

impl From<Chosen> for StepResult {
    #[inline(always)]
    fn from(Chosen { service, label, backend, starts }: Chosen) -> Self {
        let (label, service) = (u64::from(label & 0xf_ffff), u64::from(service & 0xffff));
        Self(Self::TO | Self::flag(starts, Self::STARTS) | label << 32 | service << 16 | u64::from(backend))
    }
}

impl From<FlowLocation> for StepResult {
    #[inline(always)]
    fn from(FlowLocation { relation, l3, l4, protocol, bank, starts, v6 }: FlowLocation) -> Self {
        let flags = Self::CHOOSE | Self::flag(starts, Self::STARTS) | Self::flag(v6, Self::V6);
        let word = u64::from(bank & 1) << 34 | (relation as u64) << 32 | (l4 as u64 & 0x3fff) << 16;
        Self(flags | word | u64::from(protocol) << 8 | l3 as u64 & 0xff)
    }
}

/// The parts of the way that the kernel has as functions of their own: the verifier looks at each once, not once for each
/// way that leads to it, and its variables are not on the stack of a packet that does not need it. None calls another: their
/// stacks together would be too deep.
pub trait Subprograms<P> {
    /// Finds out what an slow-path packet is.
    fn classify(&self, packet: &P, link: Link, bank: u32) -> StepResult;
    /// Chooses a backend for the flow at `location`; its service and hash are looked up where they are not known yet.
    fn choose(&self, packet: &P, known: Option<(Target, Hash)>, location: FlowLocation) -> StepResult;
    /// Does what follows for an slow-path packet from the backend that was found for it.
    fn finish(&self, packet: &P, link: Link, location: FlowLocation, result: StepResult) -> StepResult;
    /// Makes the answer; how the packet leaves in the end.
    fn answer(&self, packet: &mut P, decided: Decision) -> Exit;
}

/// The subprograms, taken by plain calls.
pub struct Inlined<'a, T>(pub &'a T);

impl<P: Packet, T: Tables> Subprograms<P> for Inlined<'_, T> {
    fn classify(&self, packet: &P, link: Link, bank: u32) -> StepResult {
        slow::classify(packet, self.0, link, bank)
    }

    fn choose(&self, packet: &P, known: Option<(Target, Hash)>, location: FlowLocation) -> StepResult {
        flow::choose(packet, self.0, known, location)
    }

    fn finish(&self, packet: &P, link: Link, location: FlowLocation, result: StepResult) -> StepResult {
        slow::finish(packet, self.0, link, location, result)
    }

    fn answer(&self, packet: &mut P, decided: Decision) -> Exit {
        reply::answer(packet, self.0, decided)
    }
}

/// Takes one packet all its way, and counts it.
pub fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Outcome {
    process_with(packet, tables, &Inlined(tables))
}

/// The same with subprograms of the caller's.
#[inline(always)]
pub fn process_with<P: Packet, T: Tables>(packet: &mut P, tables: &T, subprograms: &impl Subprograms<P>) -> Outcome {
    let outcome = match route(packet, tables, subprograms) {
        Ok(forwarded) => forwarded,
        Err(decided) if decided.wants_answer() => Outcome { exit: subprograms.answer(packet, decided), egress: 0 },
        Err(decided) => Outcome { exit: decided.exit(), egress: 0 },
    };
    tables.count_exit(outcome.exit);
    outcome
}

/// The packets that are forwarded are its result, all others its errors.
#[inline(always)]
fn route<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    subprograms: &impl Subprograms<P>,
) -> Result<Outcome, Decision> {
    let link = Link::parse(packet).ok_or(Exit::NotOurs)?;
    let view = tables.view().ok_or(Exit::NotOurs)?;
    match link.ether_type {
        frame::IPV4 => network::<V4, P, T>(packet, tables, subprograms, view, link),
        frame::IPV6 => network::<V6, P, T>(packet, tables, subprograms, view, link),
        _ => Err(Exit::NotOurs.into()),
    }
}

/// A packet that goes to a backend, and what is known of it by then.
struct Forwarded<'a> {
    service: &'a Service,
    backend: &'a Backend,
    chosen: Chosen,
}

#[inline(always)]
fn network<F: Reply, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    subprograms: &impl Subprograms<P>,
    view: View<'_>,
    link: Link,
) -> Result<Outcome, Decision> {
    let header: &F::Header = packet.view(link.l3).ok_or(Exit::NotOurs)?;
    let length = F::length(header);
    let plain = match F::plain(packet, link.l3, header) {
        Some(at) => transport::Head::read(packet, at.protocol, at.offset).map(|head| (at, head)),
        None => None,
    };
    let Forwarded { service, backend, chosen } = match plain {
        Some((at, head)) => fast_packet::<F, P, T>(packet, tables, subprograms, view, link, at, head)?,
        None => slow_packet::<P, T>(packet, tables, subprograms, view, link)?,
    };
    let received = Received { link, length, label: chosen.label };
    let forwarded = forward::forward::<F, P, T>(packet, tables, view, received, service, backend)?;
    tables.count_forwarded(chosen.service, chosen.backend, length as u64, chosen.starts);
    Ok(forwarded)
}

/// A whole TCP or UDP packet.
#[inline(always)]
fn fast_packet<'a, F: Reply, P: Packet, T: Tables>(
    packet: &P,
    tables: &'a T,
    subprograms: &impl Subprograms<P>,
    view: View<'_>,
    link: Link,
    at: Transport,
    head: transport::Head,
) -> Result<Forwarded<'a>, Decision> {
    let header: &F::Header = packet.view(link.l3).ok_or(Exit::NotOurs)?;
    let target = F::find(tables, view, F::destination(header), head.destination(), at.protocol).ok_or(Exit::NotOurs)?;
    let service = tables.service(view.bank, target.service).ok_or(Exit::BadTables)?;
    let Ok(syn) = head.check(at.protocol, at.offset, link.l3 + F::length(header)) else {
        return Err(Exit::Malformed.into());
    };
    let starts = syn || flow::starts_quic(packet, service, at);
    let flow = flow::hash::<F>(view, target, service, F::source(header), head.ports);
    if let Some((number, backend)) = select::stable_owner(tables, view, target, service, flow, starts) {
        let chosen = Chosen { service: target.service, backend: number, label: flow.flow_label(), starts };
        return Ok(Forwarded { service, backend, chosen });
    }
    let location = FlowLocation {
        relation: FlowRelation::Whole,
        l3: link.l3,
        l4: at.offset,
        protocol: at.protocol,
        bank: view.bank,
        starts,
        v6: F::ETHER_TYPE == frame::IPV6,
    };
    let chosen = sent(subprograms.choose(packet, Some((target, flow)), location))?;
    let backend = tables.backend(chosen.backend).ok_or(Exit::BadTables)?;
    Ok(Forwarded { service, backend, chosen })
}

/// A packet that needs a longer look.
#[inline(always)]
fn slow_packet<'a, P: Packet, T: Tables>(
    packet: &P,
    tables: &'a T,
    subprograms: &impl Subprograms<P>,
    view: View<'_>,
    link: Link,
) -> Result<Forwarded<'a>, Decision> {
    let mut result = subprograms.classify(packet, link, view.bank);
    if let Step::Select(location) = result.step() {
        result = subprograms.choose(packet, None, location);
        if location.relation != FlowRelation::Whole {
            result = subprograms.finish(packet, link, location, result);
        }
    }
    let chosen = sent(result)?;
    let service = tables.service(view.bank, chosen.service).ok_or(Exit::BadTables)?;
    let backend = tables.backend(chosen.backend).ok_or(Exit::BadTables)?;
    Ok(Forwarded { service, backend, chosen })
}

/// The backend that was found, or how else the packet leaves.
#[inline(always)]
const fn sent(result: StepResult) -> Result<Chosen, Decision> {
    match result.step() {
        Step::Forward(chosen) => Ok(chosen),
        Step::Leave(decided) => Err(decided),
        // Whoever chooses does not ask for it.
        Step::Select(_) => Err(Decision::new(Exit::BadTables, 0)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_hold_what_was_put_in(
            service in 0u32..1 << 16, backend: u16, label in 0u32..1 << 20, starts: bool,
            detail in 0u32..1 << 30, exit in 0..Exit::COUNT,
        ) {
            let chosen = Chosen { service, label, backend, starts };
            prop_assert_eq!(StepResult::from(chosen).step(), Step::Forward(chosen));
            let decided = Decision::new(Exit::from_raw(exit), detail);
            prop_assert_eq!(StepResult::from(decided).step(), Step::Leave(decided));
            prop_assert_eq!((decided.exit() as u32, decided.detail()), (exit, detail));
        }

        #[test]
        fn places_are_packed_whole(
            l3 in 0usize..256, l4 in 0usize..1 << 14, protocol: u8, bank in 0u32..2, starts: bool, v6: bool,
        ) {
            for relation in [FlowRelation::Whole, FlowRelation::FirstFragment, FlowRelation::IcmpQuote, FlowRelation::TunnelQuote] {
                let location = FlowLocation { relation, l3, l4, protocol, bank, starts, v6 };
                prop_assert_eq!(StepResult::from(location).step(), Step::Select(location));
                prop_assert_eq!(StepResult::from(location).location(), location);
            }
        }
    }
}
