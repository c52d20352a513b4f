//! The packets that the packet path makes itself, all of them answers to the current frame.
//!
//! An answer leaves by the ingress interface, with the VLAN tags of the frame; it has the interface's own MAC address as
//! its source, and the VIP, like any other packet to the client. Packets that must not be answered get no answer, and use
//! up none of the answers that may be sent in a second.

mod permitted;
mod echo;
mod error;
mod reset;

mod header;

pub(super) use self::header::Reply;
use self::{echo::echo, error::error, permitted::permitted, reset::reset};
use crate::{
    abi::{Exit, RateLimited, Verdict},
    maps::{Maps, View},
    step::{AnswerKind, Decision},
    wire::{icmp::Message, ip::Family as _, ipv4::V4, ipv6::V6, link::Link, packet::Packet},
};

/// Judges a packet for which an answer is due: the decision stays if the answer is [`permitted`]; otherwise the packet
/// leaves without one.
#[inline(always)]
pub(super) fn judge<P: Packet>(packet: &P, decided: Decision) -> Decision {
    if permitted(packet, decided) { decided } else { silent(decided).into() }
}

/// Makes the answer of a pending decision that is [`permitted`], if the rate limit allows another one, and returns the exit
/// by which the packet leaves.
///
/// Deciding, judging and answering are three steps, so that none has another's variables on its stack, and the verifier
/// sees each answer once.
#[inline(always)]
pub fn answer<P: Packet, M: Maps>(packet: &mut P, maps: &M, decided: Decision) -> Exit {
    let Some(kind) = decided.answer() else { return decided.exit() };
    // An interface that has lost its address meanwhile neither accepts frames nor sends any.
    let Some((view, own)) = maps.view().and_then(|view| Some((view, view.own_address(packet)?))) else {
        return Exit::OtherStation;
    };
    if !try_take(maps, view, kind) {
        return Exit::AnswerLimited;
    }
    if Link::turn(packet, own).is_none() {
        return Exit::Malformed;
    }
    match Link::parse(packet) {
        Some(link) if link.ether_type == V4::ETHER_TYPE => make::<V4, P>(packet, decided, kind),
        Some(link) if link.ether_type == V6::ETHER_TYPE => make::<V6, P>(packet, decided, kind),
        _ => Exit::Malformed,
    }
}

#[inline(always)]
fn make<F: Reply, P: Packet>(packet: &mut P, decided: Decision, kind: AnswerKind) -> Exit {
    let detail = decided.detail();
    let made = match kind {
        AnswerKind::EchoReply => echo::<F, P>(packet),
        AnswerKind::Reset => reset::<F, P>(packet, detail as usize),
        AnswerKind::Error(message @ (Message::PortUnreachable | Message::TimeExceeded)) => {
            error::<F, P>(packet, message, 0)
        }
        AnswerKind::Error(message @ (Message::TooBig | Message::ProtocolUnreachable)) => {
            error::<F, P>(packet, message, detail as u16)
        }
    };
    if made { decided.exit() } else { Exit::NoRoom }
}

/// The exit of a packet that would be answered if an answer were permitted. An echo request with a wrong header checksum is
/// passed to the host, which drops it.
#[inline(always)]
#[expect(clippy::wildcard_enum_match_arm, reason = "few exits are answers")]
const fn silent(decided: Decision) -> Exit {
    match decided.exit() {
        Exit::EchoReply => Exit::IcmpOther,
        Exit::RejectReset | Exit::RejectUnreachable => Exit::RejectSilent,
        Exit::VipReset | Exit::VipUnreachable | Exit::VipProtocol => Exit::VipSilent,
        Exit::NatNoFlow | Exit::NatBackendDown => Exit::NatSilent,
        Exit::NatExhausted => Exit::NatExhaustedSilent,
        Exit::TtlExceeded => Exit::TtlExceededSilent,
        Exit::TooBig | Exit::NatTooBig => Exit::TooBigSilent,
        exit => exit,
    }
}

/// An exit is either answered, and has another one for packets that must not be, or neither: an exit that is missing above
/// would send an answer that is not permitted, and one that is missing in [`Decision::answer`] the frame itself.
const _: () = {
    let mut number = 0;
    while number < Exit::ALL.len() {
        let exit = Exit::ALL[number];
        let decided = Decision::new(exit, 0);
        let is_answered = exit.is_answer();
        assert!(decided.answer().is_some() == is_answered);
        assert!(
            matches!(silent(decided).verdict(), Verdict::Tx) == (matches!(exit.verdict(), Verdict::Tx) && !is_answered)
        );
        assert!(is_answered || silent(decided) as u32 == exit as u32);
        number += 1;
    }
};

/// Takes one of the answers of this kind that may be sent in this second; false if none is left.
#[inline(always)]
fn try_take<M: Maps>(maps: &M, view: View<'_>, kind: AnswerKind) -> bool {
    let limits = &view.generation.answers_per_second;
    let (action, limit) = match kind {
        AnswerKind::EchoReply => (RateLimited::EchoReply, limits.echo_replies),
        AnswerKind::Reset => (RateLimited::Reset, limits.resets),
        AnswerKind::Error(Message::PortUnreachable | Message::ProtocolUnreachable) => {
            (RateLimited::PortUnreachable, limits.unreachable)
        }
        AnswerKind::Error(Message::TimeExceeded) => (RateLimited::TimeExceeded, limits.time_exceeded),
        AnswerKind::Error(Message::TooBig) => (RateLimited::TooBig, limits.too_big),
    };
    maps.try_take(action, maps.now_ns(), limit)
}

/// Reads the link layer and the network header once more; answers are rare, so the cost does not matter.
#[inline(always)]
fn received<F: Reply, P: Packet>(packet: &P) -> Option<(Link, &F::Header)> {
    let link = Link::parse(packet)?;
    Some((link, packet.view(link.l3)?))
}
