//! The packets that the packet path makes itself, all of them answers to the frame in hand.
//!
//! An answer leaves by the ingress interface, with the VLAN tags of the frame; its source is the VIP, like the source of any
//! other packet to the client. Packets that must not be answered are not: sources that are no single host, RSTs (RFC 1122, section
//! 3.2.2; RFC 4443, section 2.4; RFC 9293, section 3.10.7). A frame to many is not taken in the first place.

mod echo;
mod error;
mod reset;

mod header;

use self::{echo::echo, error::error, header::Reply, reset::reset};
use crate::{
    abi::{Exit, RateLimited},
    maps::Maps,
    step::{AnswerKind, Decision},
    wire::{icmp::Message, ip::Family as _, ipv4::V4, ipv6::V6, link::Link, packet::Packet},
};

/// Makes the answer that `decided` calls for, if it calls for one, and returns the exit by which the packet leaves.
///
/// Deciding and answering are two steps, so that neither has the other's variables on its stack, and the verifier sees
/// each answer once.
#[inline(always)]
pub fn answer<P: Packet, M: Maps>(packet: &mut P, maps: &M, decided: Decision) -> Exit {
    let Some(kind) = decided.answer() else { return decided.exit() };
    if let AnswerKind::Error(_) = kind {
        let limit = maps.view().map_or(0, |view| view.generation.errors_per_second);
        if !maps.try_take(RateLimited::Error, maps.now_ns(), limit) {
            return Exit::ErrorLimited;
        }
    }
    match Link::parse(packet) {
        Some(link) if link.ether_type == V4::ETHER_TYPE => make::<V4, P>(packet, decided, kind),
        Some(link) if link.ether_type == V6::ETHER_TYPE => make::<V6, P>(packet, decided, kind),
        _ => Exit::Malformed,
    }
}

#[inline(always)]
fn make<F: Reply, P: Packet>(packet: &mut P, decided: Decision, kind: AnswerKind) -> Exit {
    let (exit, detail) = (decided.exit(), decided.detail());
    let (answer, silent) = match kind {
        AnswerKind::EchoReply => (echo::<F, P>(packet, detail as usize), Exit::IcmpOther),
        AnswerKind::Reset => (reset::<F, P>(packet, detail as usize), Exit::RejectSilent),
        AnswerKind::Error(message @ Message::PortUnreachable) => {
            (error::<F, P>(packet, message, 0), Exit::RejectSilent)
        }
        AnswerKind::Error(message @ Message::TimeExceeded) => {
            (error::<F, P>(packet, message, 0), Exit::TtlExceededSilent)
        }
        AnswerKind::Error(message @ Message::TooBig) => {
            (error::<F, P>(packet, message, detail as u16), Exit::TooBigSilent)
        }
    };
    match answer {
        Answer::Made => exit,
        Answer::Forbidden => silent,
        Answer::NoRoom => Exit::NoRoom,
    }
}

/// What became of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Answer {
    Made,
    /// The packet must not be answered.
    Forbidden,
    /// The frame's length can't be changed.
    NoRoom,
}

/// Reads once more what the packet path has read already; answers are rare.
#[inline(always)]
fn received<F: Reply, P: Packet>(packet: &P) -> Option<(Link, &F::Header)> {
    let link = Link::parse(packet)?;
    Some((link, packet.view(link.l3)?))
}
