//! Verifies the checksums in a frame's bytes, whichever code wrote them.

use super::{checksum::rfc_1071, protocol};
use crate::world::GUE_PORT;

/// Checks every checksum of a frame: IPv4 headers, and TCP, UDP, ICMP and ICMPv6, through tunnels.
///
/// # Errors
/// Names the first wrong checksum, or the first malformed part of the frame.
pub fn checksums(frame: &[u8]) -> Result<(), String> {
    let mut at = 12;
    while matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])) {
        at += 4;
    }
    match frame.get(at..at + 2) {
        Some([0x08, 0x00]) => v4(&frame[at + 2..]),
        Some([0x86, 0xdd]) => v6(&frame[at + 2..]),
        _ => Ok(()),
    }
}

fn v4(packet: &[u8]) -> Result<(), String> {
    let length = packet.get(2..4).ok_or("IPv4 header")?;
    let packet = packet.get(..usize::from(u16::from_be_bytes([length[0], length[1]]))).ok_or("IPv4 total length")?;
    let header = usize::from(packet.first().ok_or("IPv4 header")? & 0x0f) * 4;
    let (header, payload) = packet.split_at_checked(header).ok_or("IPv4 header length")?;
    if header.len() < 20 || rfc_1071(&[header]) != 0 {
        return Err("IPv4 header checksum".to_owned());
    }
    // The sum of a fragmented packet is over all of its fragments.
    if header[6] & 0x3f != 0 || header[7] != 0 {
        return Ok(());
    }
    let count = u16::try_from(payload.len()).expect("at most a packet").to_be_bytes();
    let pseudo = [&packet[12..20], &[0, packet[9]], &count].concat();
    upper(packet[9], payload, &pseudo)
}

fn v6(packet: &[u8]) -> Result<(), String> {
    let length = packet.get(4..6).ok_or("IPv6 header")?;
    let packet = packet.get(..40 + usize::from(u16::from_be_bytes([length[0], length[1]])));
    let packet = packet.ok_or("IPv6 payload length")?;
    let (mut next, mut at) = (packet[6], 40);
    loop {
        let length = match (next, packet.get(at..at + 4)) {
            (protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION, Some([_, eights, ..])) => {
                8 * (usize::from(*eights) + 1)
            }
            // The only fragment of its packet.
            (protocol::FRAGMENT, Some([_, _, 0, low])) if low & 0xf9 == 0 => 8,
            (protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION, _) => {
                return Err("IPv6 extension header".to_owned());
            }
            _ => break,
        };
        (next, at) = (packet[at], at + length);
    }
    let payload = packet.get(at..).ok_or("IPv6 extension headers")?;
    let count = u32::try_from(payload.len()).expect("at most a packet").to_be_bytes();
    let pseudo = [&packet[8..40], &count, &[0, 0, 0, next]].concat();
    upper(next, payload, &pseudo)
}

/// Whether a datagram is a tunnel packet in UDP without a checksum.
fn is_gue(datagram: &[u8]) -> bool {
    datagram.len() > 8 && datagram[2..4] == GUE_PORT.to_be_bytes() && datagram[6..8] == [0; 2]
}

fn gue(inside: &[u8]) -> Result<(), String> {
    match inside {
        [0x40..=0x4f, ..] | [0, 4, 0, 0, ..] => v4(if inside[0] == 0 { &inside[4..] } else { inside }),
        [0x60..=0x6f, ..] | [0, 41, 0, 0, ..] => v6(if inside[0] == 0 { &inside[4..] } else { inside }),
        _ => Ok(()),
    }
}

fn upper(number: u8, payload: &[u8], pseudo: &[u8]) -> Result<(), String> {
    let (name, sum) = match number {
        protocol::UDP if is_gue(payload) => return gue(&payload[8..]),
        protocol::IPV4 => return v4(payload),
        protocol::IPV6 => return v6(payload),
        protocol::TCP => ("TCP", rfc_1071(&[pseudo, payload])),
        protocol::UDP => ("UDP", rfc_1071(&[pseudo, payload])),
        protocol::ICMP => ("ICMP", rfc_1071(&[payload])),
        protocol::ICMPV6 => ("ICMPv6", rfc_1071(&[pseudo, payload])),
        _ => return Ok(()),
    };
    if sum == 0 { Ok(()) } else { Err(format!("{name} checksum")) }
}
