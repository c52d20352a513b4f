//! A packet's whole way, from frame to exit.
//!
//! ```text
//! frame -> link -> network -> transport -> service -> slot -> owner or candidate -> rewrite -> exit
//!            |        |           |           |                      |                 |
//!         not ours  fragment,  malformed   not ours            when exhausted:     time exceeded, too big,
//!                   hidden,                                    reject, drop        no next hop, no room
//!                   malformed, ICMP
//! ```

use network_types::icmp::Icmpv4Hdr;

use crate::{
    abi::{Service, WhenExhausted},
    exit::Exit,
    forward::{self, Received},
    frame::{self, Link},
    ip::{Payload, Transport, V4, V6, protocol},
    packet::Packet,
    reply::{self, Reply},
    select,
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
#[derive(Clone, Copy)]
pub struct Decision(pub u64);

impl Decision {
    /// `detail` is, of a packet to answer, the offset of its transport header; of one that is too big the MTU.
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

/// Takes one packet all its way, and counts it.
#[inline(always)]
pub fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Outcome {
    process_with(packet, tables, |packet, decided| reply::answer(packet, decided))
}

/// The same, with a function of the caller's that makes the answers: how the packet leaves in the end.
#[inline(always)]
pub fn process_with<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    answer: impl FnOnce(&mut P, Decision) -> Exit,
) -> Outcome {
    let outcome = match route(packet, tables) {
        Ok(forwarded) => forwarded,
        Err(decided) if decided.wants_answer() => Outcome { exit: answer(packet, decided), egress: 0 },
        Err(decided) => Outcome { exit: decided.exit(), egress: 0 },
    };
    tables.count_exit(outcome.exit);
    outcome
}

/// The packets that are forwarded are its result, all others its errors.
#[inline(always)]
fn route<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Result<Outcome, Decision> {
    let link = Link::parse(packet).ok_or(Exit::NotOurs)?;
    let view = tables.view().ok_or(Exit::NotOurs)?;
    match link.ether_type {
        frame::IPV4 => network::<V4, P, T>(packet, tables, view, link),
        frame::IPV6 => network::<V6, P, T>(packet, tables, view, link),
        _ => Err(Exit::NotOurs.into()),
    }
}

#[inline(always)]
fn network<F: Reply, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    view: View<'_>,
    link: Link,
) -> Result<Outcome, Decision> {
    let header: &F::Header = packet.view(link.l3).ok_or(Exit::NotOurs)?;
    let at = match F::payload(packet, link.l3, header) {
        Payload::Transport(at) => at,
        Payload::Fragment => return Err(for_a_vip::<F, T>(tables, view, header, Exit::Fragment).into()),
        Payload::Hidden => return Err(for_a_vip::<F, T>(tables, view, header, Exit::ExtensionHeaders).into()),
        Payload::Malformed => return Err(for_a_vip::<F, T>(tables, view, header, Exit::Malformed).into()),
    };
    match at.protocol {
        protocol::TCP | protocol::UDP => service::<F, P, T>(packet, tables, view, link, at),
        icmp if icmp == F::ICMP => Err(control::<F, P, T>(packet, tables, view, link, at)),
        _ => Err(Exit::NotOurs.into()),
    }
}

/// A TCP or UDP packet.
#[inline(always)]
fn service<F: Reply, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    view: View<'_>,
    link: Link,
    at: Transport,
) -> Result<Outcome, Decision> {
    let header: &F::Header = packet.view(link.l3).ok_or(Exit::NotOurs)?;
    let Some(head) = transport::Head::read(packet, at.protocol, at.offset) else {
        return Err(for_a_vip::<F, T>(tables, view, header, Exit::Malformed).into());
    };
    let target = F::find(tables, view, header, head.destination(), at.protocol).ok_or(Exit::NotOurs)?;
    let service = tables.service(view.half, target.service).ok_or(Exit::BadTables)?;
    let length = F::length(header);
    let starts = match head.check(at.protocol, at.offset, link.l3 + length) {
        Ok(starts) => starts,
        Err(transport::Malformed) => return Err(Exit::Malformed.into()),
    };

    let flow = F::flow(&view.generation.hash_key, header, head.ports);
    let received = Received { link, length, flow };
    let (chosen, backend) = match select::select(tables, view, service, target.owners(), flow, starts) {
        Ok(chosen) => chosen,
        Err(Exit::Exhausted) => return Err(exhausted(service, at)),
        Err(exit) => return Err(exit.into()),
    };
    let forwarded = forward::forward::<F, P, T>(packet, tables, view, received, service, backend)?;
    tables.count_forwarded(target.service, chosen, length as u64, starts);
    Ok(forwarded)
}

/// A packet of a service that has no backend left. `Open` has none left either only when all are disabled; its clients,
/// too, learn it at once.
#[inline(always)]
fn exhausted(service: &Service, at: Transport) -> Decision {
    let exit = match WhenExhausted::from_raw(service.when_exhausted) {
        WhenExhausted::Drop => Exit::Exhausted,
        WhenExhausted::Open | WhenExhausted::Reject if at.protocol == protocol::TCP => Exit::RejectReset,
        WhenExhausted::Open | WhenExhausted::Reject => Exit::RejectUnreachable,
    };
    Decision::new(exit, at.offset as u32)
}

/// An ICMP or ICMPv6 packet.
#[inline(always)]
fn control<F: Reply, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    view: View<'_>,
    link: Link,
    at: Transport,
) -> Decision {
    let Some(header) = packet.view::<F::Header>(link.l3) else { return Exit::NotOurs.into() };
    if !F::is_vip(tables, view, header) {
        return Exit::NotOurs.into();
    }
    let Some([kind, code]) = packet.load(at.offset) else { return Exit::Malformed.into() };
    if at.offset + Icmpv4Hdr::LEN > link.l3 + F::length(header) {
        return Exit::Malformed.into();
    }
    let exit = if kind == F::ECHO_REQUEST && code == 0 {
        Exit::EchoReply
    } else if F::is_error(kind) {
        Exit::IcmpError
    } else {
        Exit::IcmpOther
    };
    Decision::new(exit, at.offset as u32)
}

/// `exit` if the packet is for one of our VIPs, whatever its port; else it is not ours.
#[inline(always)]
fn for_a_vip<F: Reply, T: Tables>(tables: &T, view: View<'_>, header: &F::Header, exit: Exit) -> Exit {
    if F::is_vip(tables, view, header) { exit } else { Exit::NotOurs }
}
