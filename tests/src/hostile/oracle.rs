//! Rules that hold for any frame, written without the code under test.

use std::net::IpAddr;

use super::Try;
use crate::{
    both::{Program, Seen, Way},
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
    match seen.way {
        Way::Edge(exit) => {
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
            if !vip && !matches!(exit, Exit::NotOurs | Exit::PathMtu) {
                return Err(format!("{exit:?}: not for a VIP"));
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
        Way::Decap(exit) => {
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

/// Rules for a frame that is sent.
#[expect(clippy::wildcard_enum_match_arm, reason = "what passes or is dropped is not sent")]
fn sent(exit: Exit, came: &[u8], out: &[u8]) -> Result<(), String> {
    if (is_made_here(exit) || exit == Exit::EchoReply) && out.get(6..12) != Some(&EDGE_MAC) {
        return Err(format!("{exit:?}: from {:x?}", out.get(6..12)));
    }
    match exit {
        exit if is_made_here(exit) => verify::checksums(out),
        Exit::DsrTx
        | Exit::DsrRedirect
        | Exit::IpipTx
        | Exit::IpipRedirect
        | Exit::GueTx
        | Exit::GueRedirect
        | Exit::EchoReply => {
            if matches!(exit, Exit::GueTx | Exit::GueRedirect) && !is_gue(out) {
                return Err(format!("{exit:?}: sent something else than a tunnel packet in UDP"));
            }
            let Some(packet) = Packet::of(out) else { return Err(format!("{exit:?}: sent something that is no IP")) };
            if !packet.whole {
                return Err(format!("{exit:?}: sent a packet that is longer than its frame"));
            }
            let was_right = Packet::of(came).is_some_and(|packet| packet.header_is_right);
            let made_here = !matches!(exit, Exit::DsrTx | Exit::DsrRedirect);
            if (was_right || made_here) && !packet.header_is_right {
                return Err(format!("{exit:?}: the header's checksum was right before"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
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

/// Whether answers with this exit consist of the edge's own bytes, except for what they quote.
const fn is_made_here(exit: Exit) -> bool {
    matches!(
        exit,
        Exit::RejectReset
            | Exit::RejectUnreachable
            | Exit::VipReset
            | Exit::VipUnreachable
            | Exit::VipProtocol
            | Exit::TtlExceeded
            | Exit::TooBig
    )
}

/// Length of the shortest Ethernet frame without its check sequence, bytes.
const SHORTEST: usize = 60;

/// Checks a frame that is sent in reply or forwarded: an answer is at most three times as large as the frame that
/// caused it, a backend gets the client's packet, and checksums that were right stay right.
///
/// # Errors
/// The rule that is broken.
#[expect(clippy::wildcard_enum_match_arm, reason = "what passes or is dropped is not sent")]
pub fn check_sent(came: &[u8], seen: &Seen) -> Result<(), String> {
    let Way::Edge(exit) = seen.way else { return Ok(()) };
    let out = &seen.frame;
    match exit {
        exit if is_made_here(exit) || exit == Exit::EchoReply => {
            let most = 3 * came.len().max(SHORTEST);
            if out.len() > most {
                return Err(format!("{exit:?}: an answer of {} bytes to {}", out.len(), came.len()));
            }
        }
        Exit::DsrTx | Exit::DsrRedirect | Exit::IpipTx | Exit::IpipRedirect | Exit::GueTx | Exit::GueRedirect => {
            let Some(came) = network(came) else { return Err(format!("{exit:?}: sent something that was no IP")) };
            let Some(out) = network(out) else { return Err(format!("{exit:?}: sent something that is no IP")) };
            // A tunnel's header, or nothing in `dsr`.
            let inner = out.len().checked_sub(came.len()).map(|start| &out[start..]);
            if inner.is_none_or(|inner| without_hops(inner) != without_hops(came)) {
                return Err(format!("{exit:?}: a backend gets another packet than the client sent"));
            }
        }
        _ => return Ok(()),
    }
    match verify::checksums(came) {
        Ok(()) => verify::checksums(out).map_err(|error| format!("{exit:?}: {error}, which was right before")),
        Err(_) => Ok(()),
    }
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
#[expect(clippy::struct_excessive_bools, reason = "five answers to five questions")]
struct Packet {
    for_a_vip: bool,
    /// Whether the destination is in the prefix of VIPs that backends are configured with.
    for_anycast: bool,
    for_a_tunnel: bool,
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
                    whole,
                    header_is_right: whole && rfc_1071(&[&packet[..header]]) == 0,
                })
            }
            [0x86, 0xdd] if packet.len() >= 40 => Some(Self {
                for_a_vip: VIPS_V6.iter().any(|vip| packet[24..40] == octets(*vip)),
                for_anycast: packet[24..39] == octets(Side::V6.anycast())[..15],
                for_a_tunnel: packet[24..40] == octets(Side::V6.tunnel())
                    || packet[24..39] == octets(Side::V6.range())[..15],
                whole: packet[0] >> 4 == 6 && 40 + number(4) <= packet.len(),
                header_is_right: true,
            }),
            _ => None,
        }
    }
}
