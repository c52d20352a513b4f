//! A packet's whole way, from frame to exit.
//!
//! ```text
//! frame -> link -> network -> transport -> service -> slot -> owner -> rewrite -> exit
//!            |        |           |           |         |                 |
//!         not ours    +-----------+        not ours   choose: record,   time exceeded, too big,
//!                         odd                         owner, pick(NEW)  no next hop, no room
//! ```
//!
//! What nearly all packets need stands here. Three ways off it are functions of their own in the kernel ([`Detours`]): to
//! choose a backend when the service is not settled, to look longer at an odd packet, and to answer one.

use crate::{
    abi::{Backend, BackendNumber, Service, Target, Tracking, WhenExhausted},
    exit::Exit,
    forward::{self, Received},
    frame::{self, Link},
    hash::Hash,
    ip::{Transport, V4, V6, protocol},
    odd,
    packet::Packet,
    quic,
    reply::{self, Reply},
    select::{self, Asked},
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
    /// 2^31.
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
}

impl From<Exit> for Decision {
    #[inline(always)]
    fn from(exit: Exit) -> Self {
        Self::new(exit, 0)
    }
}

/// What a detour found, in one word: the backend that the packet goes to, or how else it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found(pub u64);

/// A service and its backend for one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Service number; below 2^16.
    pub service: u32,
    pub backend: BackendNumber,
    /// Twenty bits for an outer header to tell the flow by.
    pub label: u32,
    /// Whether the packet starts a flow.
    pub starts: bool,
}

impl Found {
    const FORWARDED: u64 = 1 << 63;
    const STARTS: u64 = 1 << 62;

    #[inline(always)]
    pub const fn split(self) -> Result<Chosen, Decision> {
        if self.0 & Self::FORWARDED == 0 {
            return Err(Decision(self.0));
        }
        Ok(Chosen {
            service: (self.0 >> 16) as u32 & 0xffff,
            backend: self.0 as u16,
            label: (self.0 >> 32) as u32 & 0xf_ffff,
            starts: self.0 & Self::STARTS != 0,
        })
    }
}

impl From<Result<Chosen, Decision>> for Found {
    #[inline(always)]
    fn from(found: Result<Chosen, Decision>) -> Self {
        match found {
            Ok(Chosen { service, backend, label, starts }) => {
                let starts = if starts { Self::STARTS } else { 0 };
                let label = u64::from(label & 0xf_ffff) << 32;
                Self(Self::FORWARDED | starts | label | u64::from(service & 0xffff) << 16 | u64::from(backend))
            }
            Err(Decision(out)) => Self(out & !Self::FORWARDED),
        }
    }
}

/// Where in a frame the flow of a packet is to be read, and what is known of it, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset of the network header; below 256.
    pub l3: usize,
    pub protocol: u8,
    /// As [`Head`](transport::Head) has them, from the client's side.
    pub ports: u32,
    pub half: u32,
    pub starts: bool,
    /// Whether it is an IPv6 header.
    pub v6: bool,
    /// Whether the header is that of a packet from the backend to the client, which an ICMP error quotes.
    pub quoted: bool,
}

impl Place {
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        let flags =
            self.half as u64 & 1 | (self.starts as u64) << 1 | (self.v6 as u64) << 2 | (self.quoted as u64) << 3;
        (self.ports as u64) << 32 | flags << 16 | (self.protocol as u64) << 8 | self.l3 as u64 & 0xff
    }

    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        let flags = word >> 16;
        Self {
            l3: word as usize & 0xff,
            protocol: (word >> 8) as u8,
            ports: (word >> 32) as u32,
            half: flags as u32 & 1,
            starts: flags & 2 != 0,
            v6: flags & 4 != 0,
            quoted: flags & 8 != 0,
        }
    }
}

/// The parts of the way that the kernel has as functions of their own: the verifier looks at each once, not once for each
/// way that leads to it, and its variables are not on the stack of a packet that does not need it.
pub trait Detours<P> {
    /// Chooses a backend by all that is known of the flow.
    fn choose(&self, packet: &P, target: Target, flow: Hash, place: Place) -> Found;
    /// Finds out about a packet that is not plain.
    fn odd(&self, packet: &P, link: Link, half: u32) -> Found;
    /// Makes the answer; how the packet leaves in the end.
    fn answer(&self, packet: &mut P, decided: Decision) -> Exit;
}

/// The detours, taken by plain calls.
pub struct Direct<'a, T>(pub &'a T);

impl<P: Packet, T: Tables> Detours<P> for Direct<'_, T> {
    fn choose(&self, packet: &P, target: Target, flow: Hash, place: Place) -> Found {
        choose(packet, self.0, target, flow, place)
    }

    fn odd(&self, packet: &P, link: Link, half: u32) -> Found {
        odd::find(packet, self.0, self, link, half)
    }

    fn answer(&self, packet: &mut P, decided: Decision) -> Exit {
        reply::answer(packet, decided)
    }
}

/// Takes one packet all its way, and counts it.
pub fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Outcome {
    process_with(packet, tables, &Direct(tables))
}

/// The same with detours of the caller's.
#[inline(always)]
pub fn process_with<P: Packet, T: Tables>(packet: &mut P, tables: &T, detours: &impl Detours<P>) -> Outcome {
    let outcome = match route(packet, tables, detours) {
        Ok(forwarded) => forwarded,
        Err(decided) if decided.wants_answer() => Outcome { exit: detours.answer(packet, decided), egress: 0 },
        Err(decided) => Outcome { exit: decided.exit(), egress: 0 },
    };
    tables.count_exit(outcome.exit);
    outcome
}

/// The packets that are forwarded are its result, all others its errors.
#[inline(always)]
fn route<P: Packet, T: Tables>(packet: &mut P, tables: &T, detours: &impl Detours<P>) -> Result<Outcome, Decision> {
    let link = Link::parse(packet).ok_or(Exit::NotOurs)?;
    let view = tables.view().ok_or(Exit::NotOurs)?;
    match link.ether_type {
        frame::IPV4 => network::<V4, P, T>(packet, tables, detours, view, link),
        frame::IPV6 => network::<V6, P, T>(packet, tables, detours, view, link),
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
    detours: &impl Detours<P>,
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
        Some((at, head)) => plain_packet::<F, P, T>(packet, tables, detours, view, link, at, head)?,
        None => odd_packet::<P, T>(packet, tables, detours, view, link)?,
    };
    let received = Received { link, length, label: chosen.label };
    let forwarded = forward::forward::<F, P, T>(packet, tables, view, received, service, backend)?;
    tables.count_forwarded(chosen.service, chosen.backend, length as u64, chosen.starts);
    Ok(forwarded)
}

/// A whole TCP or UDP packet.
#[inline(always)]
fn plain_packet<'a, F: Reply, P: Packet, T: Tables>(
    packet: &P,
    tables: &'a T,
    detours: &impl Detours<P>,
    view: View<'_>,
    link: Link,
    at: Transport,
    head: transport::Head,
) -> Result<Forwarded<'a>, Decision> {
    let header: &F::Header = packet.view(link.l3).ok_or(Exit::NotOurs)?;
    let target = F::find(tables, view, header, head.destination(), at.protocol).ok_or(Exit::NotOurs)?;
    let service = tables.service(view.half, target.service).ok_or(Exit::BadTables)?;
    let Ok(syn) = head.check(at.protocol, at.offset, link.l3 + F::length(header)) else {
        return Err(Exit::Malformed.into());
    };
    let starts = syn || at.protocol == protocol::UDP && starts_quic(packet, service, at);
    let flow = flow_of::<F>(view, target, service, header, head.ports);
    if let Some((number, backend)) = select::settled(tables, view, target, service, flow, starts) {
        let chosen = Chosen { service: target.service, backend: number, label: flow.flow_label(), starts };
        return Ok(Forwarded { service, backend, chosen });
    }
    let place = Place {
        l3: link.l3,
        protocol: at.protocol,
        ports: head.ports,
        half: view.half,
        starts,
        v6: F::ETHER_TYPE == frame::IPV6,
        quoted: false,
    };
    match detours.choose(packet, target, flow, place).split() {
        Ok(chosen) => {
            let backend = tables.backend(chosen.backend).ok_or(Exit::BadTables)?;
            Ok(Forwarded { service, backend, chosen })
        }
        Err(decided) => Err(exhausted(service, decided, at)),
    }
}

/// A packet that needs a longer look.
#[inline(always)]
fn odd_packet<'a, P: Packet, T: Tables>(
    packet: &P,
    tables: &'a T,
    detours: &impl Detours<P>,
    view: View<'_>,
    link: Link,
) -> Result<Forwarded<'a>, Decision> {
    let chosen = detours.odd(packet, link, view.half).split()?;
    let service = tables.service(view.half, chosen.service).ok_or(Exit::BadTables)?;
    let backend = tables.backend(chosen.backend).ok_or(Exit::BadTables)?;
    Ok(Forwarded { service, backend, chosen })
}

/// The flow's hash, by which it has its slot.
#[inline(always)]
pub(crate) fn flow_of<F: Reply>(
    view: View<'_>,
    target: Target,
    service: &Service,
    header: &F::Header,
    ports: u32,
) -> Hash {
    if target.by_source() {
        F::source_flow(&view.generation.hash_key, header, service.affinity_prefix)
    } else {
        F::flow(&view.generation.hash_key, header, ports)
    }
}

/// Whether a UDP packet of the service starts a flow.
#[inline(always)]
pub(crate) fn starts_quic<P: Packet>(packet: &P, service: &Service, at: Transport) -> bool {
    service.tracking == Tracking::Quic as u8 && quic::is_initial(packet, at.offset)
}

/// Chooses a backend by all that is known of the flow that is read at `place`.
#[inline(always)]
pub fn choose<P: Packet, T: Tables>(packet: &P, tables: &T, target: Target, flow: Hash, place: Place) -> Found {
    if place.v6 {
        choose_in::<V6, P, T>(packet, tables, target, flow, place)
    } else {
        choose_in::<V4, P, T>(packet, tables, target, flow, place)
    }
}

#[inline(always)]
fn choose_in<F: Reply, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    target: Target,
    flow: Hash,
    place: Place,
) -> Found {
    let Place { l3, protocol, ports, half, starts, quoted, .. } = place;
    let (Some(header), Some(published)) = (packet.view::<F::Header>(l3), tables.published()) else {
        return Err(Exit::BadTables.into()).into();
    };
    let view = View { half, generation: &published.0.generations[half as usize & 1] };
    let key = if quoted { F::quoted_flow_key(header, ports, protocol) } else { F::flow_key(header, ports, protocol) };
    let asked = Asked { service: target.service, owners: target.owners(), flow, key, starts, records: !quoted };
    match select::choose::<F, T>(tables, view, &asked) {
        Ok(backend) => Ok(Chosen { service: target.service, backend, label: flow.flow_label(), starts }).into(),
        Err(exit) => Err(exit.into()).into(),
    }
}

/// How a packet leaves whose service has no backend left, once its service's word counts. `Open` has none left either only
/// when all are disabled; its clients, too, learn it at once.
#[inline(always)]
pub(crate) fn exhausted(service: &Service, decided: Decision, at: Transport) -> Decision {
    if decided.exit() != Exit::Exhausted {
        return decided;
    }
    let exit = match WhenExhausted::from_raw(service.when_exhausted) {
        WhenExhausted::Drop => Exit::Exhausted,
        WhenExhausted::Open | WhenExhausted::Reject if at.protocol == protocol::TCP => Exit::RejectReset,
        WhenExhausted::Open | WhenExhausted::Reject => Exit::RejectUnreachable,
    };
    Decision::new(exit, at.offset as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_hold_what_was_put_in(
            service in 0u32..1 << 16, backend: u16, label in 0u32..1 << 20, starts: bool, detail in 0u32..1 << 31, exit in 0..Exit::COUNT,
        ) {
            let chosen = Chosen { service, backend, label, starts };
            prop_assert_eq!(Found::from(Ok(chosen)).split(), Ok(chosen));
            let decided = Decision::new(Exit::from_raw(exit), detail);
            prop_assert_eq!(Found::from(Err(decided)).split(), Err(decided));
            prop_assert_eq!((decided.exit() as u32, decided.detail()), (exit, detail));
        }

        #[test]
        fn places_are_packed_whole(l3 in 0usize..256, protocol: u8, ports: u32, half in 0u32..2, flags: [bool; 3]) {
            let [starts, v6, quoted] = flags;
            let place = Place { l3, protocol, ports, half, starts, v6, quoted };
            prop_assert_eq!(Place::unpack(place.pack()), place);
        }
    }
}
