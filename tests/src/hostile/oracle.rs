//! Rules that hold for any frame, written without the code under test.

use std::net::IpAddr;

use super::Try;
use crate::{
    both::{Program, ProgramExit, Seen},
    namespace::LO,
    packet::{rfc_1071, verify},
    world::{EDGE_MAC, GUE_PORT, Side, VIRTUAL_MAC, octets},
};
use edge_common::abi::{DecapExit, Exit, Verdict};

/// Checks the result of a frame.
///
/// # Errors
/// The rule that is broken.
pub fn check(tried: &Try, seen: &Seen) -> Result<(), String> {
    let Try { program, arrival, frame } = tried;
    let packet = Packet::of(frame);
    match seen.exit {
        ProgramExit::Edge(exit) => {
            if exit.verdict() == Verdict::Pass && seen.frame != *frame {
                return Err(format!("{exit:?}: passed, but not as it came"));
            }
            let is_virtual = |to| arrival.ingress == LO && to == VIRTUAL_MAC;
            let is_for_us = frame.get(..6).is_some_and(|to| to == EDGE_MAC || is_virtual(to));
            if is_for_us == (exit == Exit::OtherStation) && (is_for_us || exit != Exit::NotOurs) {
                return Err(format!("{exit:?}: to {:x?}", frame.get(..6)));
            }
            if !is_for_us {
                return Ok(());
            }
            let vip = packet.as_ref().is_some_and(|packet| packet.for_a_vip);
            let source = packet.as_ref().is_some_and(|packet| packet.for_a_source);
            if !(vip || matches!(exit, Exit::NotOurs | Exit::PathMtu) || source && may_concern_an_answer(exit)) {
                return Err(format!("{exit:?}: not for a VIP"));
            }
            if vip && !source && matches!(exit, Exit::NatReplyTx | Exit::NatReplyRedirect) {
                return Err(format!("{exit:?}: not for an address that translated packets come from"));
            }
            if exit == Exit::PathMtu && !packet.as_ref().is_some_and(|packet| packet.for_a_tunnel) {
                return Err("PathMtu: not for a tunnel's source".to_owned());
            }
            let whole = packet.as_ref().is_some_and(|packet| packet.whole);
            if !whole && !matches!(exit, Exit::NotOurs | Exit::Malformed) {
                return Err(format!("{exit:?}: the packet is longer than its frame"));
            }
            sent(exit, frame, &seen.frame)
        }
        ProgramExit::Decap(exit) => {
            let touched = matches!(exit, DecapExit::Decapsulated | DecapExit::Congested);
            if !touched && seen.frame != *frame {
                return Err(format!("{exit:?}: not as it came"));
            }
            let whole = packet.as_ref().is_some_and(|packet| packet.whole);
            if !whole && exit != DecapExit::NotTunnel {
                return Err(format!("{exit:?}: the packet is longer than its frame"));
            }
            if exit == DecapExit::Decapsulated {
                let inner = Packet::of(&seen.frame);
                if !inner.as_ref().is_some_and(|inner| inner.whole) {
                    return Err("decapsulated to a packet that is longer than its frame".to_owned());
                }
                if !inner.is_some_and(|inner| inner.for_a_vip || inner.for_anycast) {
                    return Err("given to the host although it is for no VIP".to_owned());
                }
            }
            assert_eq!(*program, Program::Decap);
            Ok(())
        }
    }
}

/// Exits of packets to an address that translated packets come from.
const fn may_concern_an_answer(exit: Exit) -> bool {
    matches!(
        exit,
        Exit::NatReplyTx
            | Exit::NatReplyRedirect
            | Exit::NatRaced
            | Exit::NatSourceRoute
            | Exit::NatNoChecksum
            | Exit::NatNoError
            | Exit::NatTooBig
            | Exit::TooBig
            | Exit::TooBigSilent
            | Exit::TtlExceeded
            | Exit::TtlExceededSilent
            | Exit::AnswerLimited
            | Exit::FragmentLimited
            | Exit::Malformed
            | Exit::NoNextHop
            | Exit::NoRoom
    )
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is passed to the host, or dropped.
    NotSent,
    /// It becomes an answer of the edge's own bytes, except for what they quote.
    Answered,
    /// It becomes the echo reply.
    Echoed,
    /// It goes to a backend, in a tunnel or as it is.
    Forwarded,
    /// It goes to a backend, or from there to a client, with other addresses.
    Translated,
}

const fn fate(exit: Exit) -> Fate {
    match exit {
        Exit::DsrTx | Exit::DsrRedirect | Exit::IpipTx | Exit::IpipRedirect | Exit::GueTx | Exit::GueRedirect => {
            Fate::Forwarded
        }
        Exit::NatTx | Exit::NatRedirect | Exit::NatReplyTx | Exit::NatReplyRedirect => Fate::Translated,
        Exit::EchoReply => Fate::Echoed,
        Exit::RejectReset
        | Exit::RejectUnreachable
        | Exit::VipReset
        | Exit::VipUnreachable
        | Exit::VipProtocol
        | Exit::TtlExceeded
        | Exit::NatNoFlow
        | Exit::NatBackendDown
        | Exit::NatExhausted
        | Exit::NatTooBig
        | Exit::TooBig => Fate::Answered,
        Exit::NotOurs
        | Exit::OtherStation
        | Exit::FragmentOther
        | Exit::IcmpError
        | Exit::PathMtu
        | Exit::IcmpOther
        | Exit::RejectSilent
        | Exit::VipSilent
        | Exit::VipDropped
        | Exit::Exhausted
        | Exit::TtlExceededSilent
        | Exit::NatExhaustedSilent
        | Exit::NatSilent
        | Exit::NatRaced
        | Exit::NatSourceRoute
        | Exit::NatNoChecksum
        | Exit::NatNoError
        | Exit::TooBigSilent
        | Exit::AnswerLimited
        | Exit::FragmentUnknown
        | Exit::FragmentOverlap
        | Exit::FragmentLimited
        | Exit::Malformed
        | Exit::ExtensionHeaders
        | Exit::NoNextHop
        | Exit::DsrOffLink
        | Exit::NoRoom
        | Exit::BadTables => Fate::NotSent,
    }
}

/// Whether a frame may have this source address when it leaves by this exit: an answer, also a translated one, has the address
/// of its ingress interface, and a packet to a backend has the one that is kept with the backend.
fn is_own_source(exit: Exit, mac: Option<&[u8]>) -> bool {
    match fate(exit) {
        Fate::NotSent => true,
        Fate::Answered | Fate::Echoed => mac == Some(&EDGE_MAC),
        Fate::Translated if matches!(exit, Exit::NatReplyTx | Exit::NatReplyRedirect) => mac == Some(&EDGE_MAC),
        Fate::Forwarded | Fate::Translated => mac.is_some_and(|mac| mac.starts_with(&BACKENDS_MAC)),
    }
}

/// Rules for a frame that is sent.
fn sent(exit: Exit, came: &[u8], out: &[u8]) -> Result<(), String> {
    if !is_own_source(exit, out.get(6..12)) {
        return Err(format!("{exit:?}: from {:x?}", out.get(6..12)));
    }
    match fate(exit) {
        Fate::NotSent => return Ok(()),
        Fate::Answered => verify::checksums(out)?,
        Fate::Echoed | Fate::Forwarded | Fate::Translated => {}
    }
    if matches!(fate(exit), Fate::Answered | Fate::Translated) && reported_mtu(out).is_some_and(|mtu| mtu < 1_280) {
        return Err(format!("{exit:?}: reports an MTU over IPv6 that no link may have"));
    }
    if matches!(exit, Exit::GueTx | Exit::GueRedirect) && !is_gue(out) {
        return Err(format!("{exit:?}: sent something else than a tunnel packet in UDP"));
    }
    let Some(packet) = Packet::of(out) else { return Err(format!("{exit:?}: sent something that is no IP")) };
    if !packet.whole {
        return Err(format!("{exit:?}: sent a packet that is longer than its frame"));
    }
    let was_right = Packet::of(came).is_some_and(|packet| packet.header_is_right);
    let has_own_header = !matches!(exit, Exit::DsrTx | Exit::DsrRedirect) && fate(exit) != Fate::Translated;
    if (was_right || has_own_header) && !packet.header_is_right {
        return Err(format!("{exit:?}: the header's checksum was right before"));
    }
    Ok(())
}

/// The MTU in a "packet too big" error of ICMPv6, directly behind the IPv6 header.
fn reported_mtu(frame: &[u8]) -> Option<u32> {
    let packet = network(frame)?;
    let [a, b, c, d] = *packet.get(44..48)? else { return None };
    let is_too_big = packet[0] >> 4 == 6 && packet[6] == 58 && packet[40] == 2;
    is_too_big.then_some(u32::from_be_bytes([a, b, c, d]))
}

/// Whether a frame carries a whole UDP datagram from a dynamic port to the port of tunnel packets, without a checksum,
/// with a packet of either variant inside.
fn is_gue(frame: &[u8]) -> bool {
    let Some(packet) = network(frame) else { return false };
    let datagram = match packet.first().map(|first| first >> 4) {
        Some(4) if packet.get(9) == Some(&17) => packet.get(20..),
        Some(6) if packet.get(6) == Some(&17) => packet.get(40..),
        _ => None,
    };
    let Some([source, _, to_high, to_low, high, low, 0, 0, inside @ ..]) = datagram else { return false };
    let is_inner = matches!(inside, [0x40..=0x4f | 0x60..=0x6f, ..] | [0, 4, 0, 0, 0x40..=0x4f, ..])
        || matches!(inside, [0, 41, 0, 0, 0x60..=0x6f, ..]);
    *source >= 0xc0
        && [*to_high, *to_low] == GUE_PORT.to_be_bytes()
        && usize::from(u16::from_be_bytes([*high, *low])) == 8 + inside.len()
        && is_inner
}

/// The source address of frames to backends but for its last byte, which is the interface's.
const BACKENDS_MAC: [u8; 5] = [0x02, 0, 0, 0xee, 0];

/// Length of the shortest Ethernet frame without its check sequence, bytes.
const SHORTEST: usize = 60;

/// Checks a frame that is sent in reply, forwarded or translated: an answer is at most three times as large as the frame that
/// caused it, a backend in `dsr` or behind a tunnel gets the client's packet, a translated packet has its length, and checksums
/// that were right stay right.
///
/// # Errors
/// The rule that is broken.
pub fn check_sent(came: &[u8], seen: &Seen) -> Result<(), String> {
    let ProgramExit::Edge(exit) = seen.exit else { return Ok(()) };
    let out = &seen.frame;
    match fate(exit) {
        Fate::NotSent => return Ok(()),
        Fate::Answered | Fate::Echoed => {
            let most = 3 * came.len().max(SHORTEST);
            if out.len() > most {
                return Err(format!("{exit:?}: an answer of {} bytes to {}", out.len(), came.len()));
            }
        }
        Fate::Forwarded | Fate::Translated => {
            let Some(came) = network(came) else { return Err(format!("{exit:?}: sent something that was no IP")) };
            let Some(out) = network(out) else { return Err(format!("{exit:?}: sent something that is no IP")) };
            if fate(exit) == Fate::Forwarded {
                // A tunnel's header, or nothing in `dsr`.
                let inner = out.len().checked_sub(came.len()).map(|start| &out[start..]);
                if inner.is_none_or(|inner| without_hops(inner) != without_hops(came)) {
                    return Err(format!("{exit:?}: a backend gets another packet than the client sent"));
                }
            } else {
                let most = came.len() + if version(out) == version(came) { 0 } else { ACROSS };
                if out.len() > most || version(out) == version(came) && out.len() != most {
                    return Err(format!("{exit:?}: {} bytes became {}", came.len(), out.len()));
                }
            }
        }
    }
    match verify::checksums(came) {
        Ok(()) => verify::checksums(out).map_err(|error| format!("{exit:?}: {error}, which was right before")),
        Err(_) => Ok(()),
    }
}

/// Bytes by which a packet between IP versions may become longer: the header's and a fragment header, once more in a packet
/// that an error quotes.
const ACROSS: usize = 2 * (20 + 8);

/// IP version of a packet that is not empty.
fn version(packet: &[u8]) -> u8 {
    packet[0] >> 4
}

/// The IP packet in a frame, without the frame's padding; `None` if there is no whole packet behind at most two tags.
fn network(frame: &[u8]) -> Option<&[u8]> {
    let (_, packet) = behind_tags(frame)?;
    let number = |at: usize| Some(usize::from(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?])));
    match packet.first()? >> 4 {
        4 => packet.get(..number(2)?),
        6 => packet.get(..40 + number(4)?),
        _ => None,
    }
}

/// The EtherType behind at most two tags, and the bytes after it.
fn behind_tags(frame: &[u8]) -> Option<([u8; 2], &[u8])> {
    let mut at = 12;
    for _ in 0..2 {
        if matches!(frame.get(at..at + 2)?, [0x81, 0x00] | [0x88, 0xa8]) {
            at += 4;
        }
    }
    let (ether_type, packet) = frame.get(at..)?.split_first_chunk()?;
    Some((*ether_type, packet))
}

/// The packet without the fields that each hop changes.
fn without_hops(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let counted: &[usize] = if packet.first().is_some_and(|first| first >> 4 == 4) { &[8, 10, 11] } else { &[7] };
    for at in counted {
        if let Some(byte) = packet.get_mut(*at) {
            *byte = 0;
        }
    }
    packet
}
const VIPS_V4: [IpAddr; 2] = [Side::V4.vip(), Side::V4.closed()];
const VIPS_V6: [IpAddr; 2] = [Side::V6.vip(), Side::V6.closed()];

/// The network layer of a frame, as far as the checks need it.
#[expect(clippy::struct_excessive_bools, reason = "six answers to six questions")]
struct Packet {
    for_a_vip: bool,
    /// Whether the destination is in the prefix of VIPs that backends are configured with.
    for_anycast: bool,
    for_a_tunnel: bool,
    /// Whether the destination is an address that translated packets come from.
    for_a_source: bool,
    /// Whether the whole packet is in the frame.
    whole: bool,
    /// IPv4: whether the header's checksum is right.
    header_is_right: bool,
}

impl Packet {
    /// `None` if there is no whole IP header behind at most two tags.
    fn of(frame: &[u8]) -> Option<Self> {
        let (ether_type, packet) = behind_tags(frame)?;
        let number = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        match ether_type {
            [0x08, 0x00] if packet.len() >= 20 => {
                let header = usize::from(packet[0] & 0x0f) * 4;
                let whole = packet[0] >> 4 == 4 && header >= 20 && number(2) >= header && number(2) <= packet.len();
                Some(Self {
                    for_a_vip: VIPS_V4.iter().any(|vip| packet[16..20] == octets(*vip)[..4]),
                    for_anycast: packet[16..19] == octets(Side::V4.anycast())[..3],
                    for_a_tunnel: packet[16..20] == octets(Side::V4.tunnel())[..4]
                        || packet[16..19] == octets(Side::V4.range())[..3],
                    for_a_source: packet[16..20] == octets(Side::V4.source())[..4],
                    whole,
                    header_is_right: whole && rfc_1071(&[&packet[..header]]) == 0,
                })
            }
            [0x86, 0xdd] if packet.len() >= 40 => Some(Self {
                for_a_vip: VIPS_V6.iter().any(|vip| packet[24..40] == octets(*vip)),
                for_anycast: packet[24..39] == octets(Side::V6.anycast())[..15],
                for_a_tunnel: packet[24..40] == octets(Side::V6.tunnel())
                    || packet[24..39] == octets(Side::V6.range())[..15],
                for_a_source: packet[24..40] == octets(Side::V6.source()),
                whole: packet[0] >> 4 == 6 && 40 + number(4) <= packet.len(),
                header_is_right: true,
            }),
            _ => None,
        }
    }
}
