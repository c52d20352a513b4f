//! The frames that announce a VIP: gratuitous ARP (RFC 5227) and unsolicited neighbour advertisement (RFC 4861).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const BROADCAST: [u8; 6] = [0xff; 6];
/// 33:33 and the last four bytes of `ff02::1`.
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ICMPV6: u8 = 58;

/// The frame that announces to the network that `vip` is at `mac`.
pub(super) fn announcement(vip: IpAddr, mac: [u8; 6]) -> Vec<u8> {
    match vip {
        IpAddr::V4(vip) => gratuitous_arp(vip, mac),
        IpAddr::V6(vip) => neighbour_advertisement(vip, mac),
    }
}

/// An ARP request whose sender and target are the VIP: more hosts and switches accept it than a gratuitous reply.
fn gratuitous_arp(vip: Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, 0x0806);
    // Ethernet, IPv4, their lengths, request
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(vip.octets());
    frame.extend([0; 6]);
    frame.extend(vip.octets());
    frame
}

fn neighbour_advertisement(vip: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    // type 136, code, checksum, flags: override, not solicited, no router
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(vip.octets());
    // option: target link-layer address, in units of 8 bytes
    message.extend([2, 1]);
    message.extend(mac);
    let length = [0, 32];
    debug_assert_eq!(message.len(), 32);
    let checksum = checksum(&[&vip.octets(), &ALL_NODES.octets(), &[0, 0], &length, &[0, 0, 0, ICMPV6], &message]);
    message[2..4].copy_from_slice(&checksum);

    let mut frame = ethernet(ALL_NODES_MAC, mac, 0x86dd);
    // version 6; receivers require hop limit 255
    frame.extend([0x60, 0, 0, 0, length[0], length[1], ICMPV6, 255]);
    frame.extend(vip.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

fn ethernet(to: [u8; 6], from: [u8; 6], protocol: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(86);
    frame.extend(to);
    frame.extend(from);
    frame.extend(protocol.to_be_bytes());
    frame
}

/// The Internet checksum (RFC 1071) of parts of even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.as_chunks::<2>().0);
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    [high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    #[test]
    fn gratuitous_arp_byte_for_byte() {
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 0x08, 0x06, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 1, // request
            2, 0, 0, 0, 0, 7, 192, 0, 2, 10, // sender
            0, 0, 0, 0, 0, 0, 192, 0, 2, 10, // target
        ];
        assert_eq!(announcement("192.0.2.10".parse().unwrap(), MAC), expected);
    }

    #[test]
    fn neighbour_advertisement_is_well_formed() {
        let frame = announcement("2001:db8::10".parse().unwrap(), MAC);
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(frame[..6], ALL_NODES_MAC);
        assert_eq!(frame[6..12], MAC);
        assert_eq!(frame[12..14], [0x86, 0xdd]);
        assert_eq!(frame[18..20], [0, 32], "payload length");
        assert_eq!(frame[20..22], [58, 255], "next header and hop limit");
        assert_eq!(frame[22..38], frame[62..78], "source is the target");
        assert_eq!(frame[58], 0x20, "override, neither solicited nor router");
        assert_eq!(frame[78..86], [2, 1, 2, 0, 0, 0, 0, 7], "target link-layer address");
        // The sum over all covered bytes, checksum included, is all ones.
        assert_eq!(checksum(&[&frame[22..54], &[0, 0, 0, 32], &[0, 0, 0, 58], &frame[54..]]), [0, 0]);
    }
}
