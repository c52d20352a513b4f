//! The packets that the packet path makes itself, all of them answers to the frame in hand.
//!
//! An answer leaves by the ingress interface, with the VLAN tags of the frame; its source is the VIP, like the source of any
//! other packet to the client. Packets that must not be answered are not: broadcasts, sources that are no single host, RSTs
//! (RFC 1122, section 3.2.2; RFC 4443, section 2.4; RFC 9293, section 3.10.7).

mod echo;
mod error;
mod reset;

mod header;

use self::{echo::echo, error::error, header::Reply, reset::reset};
use crate::{
    abi::{Exit, RateLimited},
    maps::Maps,
    step::Decision,
    wire::{icmp::Message, ip::Family as _, ipv4::V4, ipv6::V6, link::Link, packet::Packet},
};

/// Makes the answer that `decided` calls for, if it calls for one, and returns the exit by which the packet leaves.
///
/// Deciding and answering are two steps, so that neither has the other's variables on its stack, and the verifier sees
/// each answer once.
#[inline(always)]
pub fn answer<P: Packet, M: Maps>(packet: &mut P, maps: &M, decided: Decision) -> Exit {
    if decided.is_error() {
        let limit = maps.view().map_or(0, |view| view.generation.errors_per_second);
        if !maps.try_take(RateLimited::Error, maps.now_ns(), limit) {
            return Exit::ErrorLimited;
        }
    }
    match Link::parse(packet) {
        Some(link) if link.ether_type == V4::ETHER_TYPE => make::<V4, P>(packet, decided),
        Some(link) if link.ether_type == V6::ETHER_TYPE => make::<V6, P>(packet, decided),
        _ => Exit::Malformed,
    }
}

#[inline(always)]
fn make<F: Reply, P: Packet>(packet: &mut P, decided: Decision) -> Exit {
    let (exit, detail) = (decided.exit(), decided.detail());
    let (answer, silent) = match exit {
        Exit::EchoReply => (echo::<F, P>(packet, detail as usize), Exit::IcmpOther),
        Exit::RejectReset => (reset::<F, P>(packet, detail as usize), Exit::RejectSilent),
        Exit::RejectUnreachable => (error::<F, P>(packet, Message::PortUnreachable, 0), Exit::RejectSilent),
        Exit::TtlExceeded => (error::<F, P>(packet, Message::TimeExceeded, 0), Exit::TtlExceededSilent),
        _ => (error::<F, P>(packet, Message::TooBig, detail as u16), Exit::TooBigSilent),
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
