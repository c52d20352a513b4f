//! Checks the checksums that stand in a frame's bytes, whoever wrote them.

use super::{checksum::rfc_1071, protocol};

/// Checks every checksum of a well-formed frame: IPv4 headers, and TCP, UDP, ICMP and ICMPv6, through tunnels.
///
/// # Errors
/// Names the first checksum that is wrong.
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
    let header = usize::from(packet[0] & 0x0f) * 4;
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let packet = packet.get(..length).ok_or("IPv4 total length")?;
    if rfc_1071(&[&packet[..header]]) != 0 {
        return Err("IPv4 header checksum".to_owned());
    }
    let payload = &packet[header..];
    let count = u16::try_from(payload.len()).expect("at most a packet").to_be_bytes();
    let pseudo = [&packet[12..20], &[0, packet[9]], &count].concat();
    upper(packet[9], payload, &pseudo)
}

fn v6(packet: &[u8]) -> Result<(), String> {
    let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let packet = packet.get(..40 + length).ok_or("IPv6 payload length")?;
    let (mut next, mut at) = (packet[6], 40);
    while matches!(next, protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION) {
        next = packet[at];
        at += 8 * (usize::from(packet[at + 1]) + 1);
    }
    let payload = &packet[at..];
    let count = u32::try_from(payload.len()).expect("at most a packet").to_be_bytes();
    let pseudo = [&packet[8..40], &count, &[0, 0, 0, next]].concat();
    upper(next, payload, &pseudo)
}

fn upper(number: u8, payload: &[u8], pseudo: &[u8]) -> Result<(), String> {
    let (name, sum) = match number {
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
