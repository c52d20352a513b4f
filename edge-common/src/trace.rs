//! Traces: whether a frame is one of the clients that are traced.

use crate::{
    abi::ClientPrefix,
    wire::{
        ethernet,
        icmp::Icmp as _,
        ipv4, ipv6,
        link::Link,
        packet::{Packet, Wire, after},
        protocol,
    },
};

/// Source and destination of an IPv4 packet, behind the first 12 bytes of its header.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct EndsV4 {
    source: u32,
    destination: u32,
}

// SAFETY: packed integers.
unsafe impl Wire for EndsV4 {}

/// Source and destination of an IPv6 packet, behind the first 8 bytes of its header.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct EndsV6 {
    source: [u64; 2],
    destination: [u64; 2],
}

// SAFETY: packed integers.
unsafe impl Wire for EndsV6 {}

/// Offsets in a network header, and its length: without options or extension headers.
struct Places {
    ends: usize,
    protocol: usize,
    header: usize,
}

const V4: Places = Places { ends: 12, protocol: 9, header: 20 };
const V6: Places = Places { ends: 8, protocol: 6, header: 40 };
const ICMP_HEADER: usize = 8;

/// An IPv4 address as an IPv6 address, in words of network byte order.
#[inline(always)]
const fn mapped(address: u32) -> [u64; 2] {
    [0, (0xffff_u64 << 32 | u32::from_be(address) as u64).to_be()]
}

impl ClientPrefix {
    #[inline(always)]
    const fn takes(&self, address: [u64; 2]) -> bool {
        let [first, second] = [address[0] & self.mask[0], address[1] & self.mask[1]];
        first == self.address[0] && second == self.address[1]
    }

    /// Whether source or destination of the packet with its network header at `l3` is one of these.
    #[inline(always)]
    fn takes_ends<P: Packet>(&self, packet: &P, l3: usize, v6: bool) -> Option<bool> {
        if v6 {
            let &EndsV6 { source, destination } = packet.view(after(l3, V6.ends))?;
            return Some(self.takes(source) || self.takes(destination));
        }
        let &EndsV4 { source, destination } = packet.view(after(l3, V4.ends))?;
        Some(self.takes(mapped(source)) || self.takes(mapped(destination)))
    }

    /// Whether the sender or the receiver of a packet is one of these clients, or of the packet that an ICMP error
    /// quotes. Packets with options or extension headers are not searched for quotes.
    #[inline(always)]
    pub fn concerns<P: Packet>(&self, packet: &P) -> bool {
        self.mask[0] | self.mask[1] == 0 || self.is_of_client(packet).unwrap_or(false)
    }

    #[inline(always)]
    fn is_of_client<P: Packet>(&self, packet: &P) -> Option<bool> {
        let Link { l3, ether_type } = Link::parse(packet)?;
        let v6 = ether_type == ethernet::IPV6;
        if !v6 && ether_type != ethernet::IPV4 {
            return Some(false);
        }
        if self.takes_ends(packet, l3, v6)? {
            return Some(true);
        }
        let places = if v6 { V6 } else { V4 };
        let [of] = packet.load(after(l3, places.protocol))?;
        let [kind] = packet.load(after(l3, places.header))?;
        let is_error = if v6 {
            of == protocol::ICMPV6 && ipv6::V6::is_error(kind)
        } else {
            of == protocol::ICMP && ipv4::V4::is_error(kind)
        };
        if is_error { self.takes_ends(packet, after(l3, places.header + ICMP_HEADER), v6) } else { Some(false) }
    }
}

#[cfg(any(test, feature = "std"))]
impl ClientPrefix {
    /// The addresses of which the first `length` bits are those of `address`.
    #[must_use]
    pub fn new(address: core::net::IpAddr, length: u8) -> Self {
        let (octets, length) = match address {
            core::net::IpAddr::V4(address) => (address.to_ipv6_mapped().octets(), u32::from(length) + 96),
            core::net::IpAddr::V6(address) => (address.octets(), length.into()),
        };
        let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
        let words = |number: u128| bytemuck::cast::<_, [u64; 2]>(number.to_be_bytes());
        Self { address: words(u128::from_be_bytes(octets) & mask), mask: words(mask) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Frame;

    fn takes(prefix: (&str, u8), frame: &[u8]) -> bool {
        ClientPrefix::new(prefix.0.parse().expect("an address"), prefix.1).concerns(&Frame::new(frame))
    }

    /// An IPv4 packet behind `tags` VLAN tags.
    fn v4(tags: usize, source: [u8; 4], destination: [u8; 4], of: u8, behind: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for _ in 0..tags {
            frame.extend([0x81, 0, 0, 7]);
        }
        frame.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, of, 0, 0]);
        frame.extend([source, destination].concat());
        frame.extend(behind);
        frame
    }

    const CLIENT: [u8; 4] = [203, 0, 113, 7];
    const VIP: [u8; 4] = [192, 0, 2, 10];
    const OTHER: [u8; 4] = [198, 51, 100, 1];

    #[test]
    fn packets_to_and_from_a_client_are_its_packets() {
        for tags in 0..3 {
            for frame in [v4(tags, CLIENT, VIP, 6, &[0; 20]), v4(tags, VIP, CLIENT, 6, &[0; 20])] {
                assert!(takes(("203.0.113.7", 32), &frame) && takes(("203.0.113.0", 24), &frame));
                assert!(!takes(("203.0.113.6", 32), &frame) && !takes(("2001:db8::", 32), &frame));
            }
        }
    }

    #[test]
    fn an_error_about_a_clients_packet_is_its_packet() {
        let quoted = &v4(0, VIP, CLIENT, 6, &[0; 8])[14..];
        let error = |kind: u8| v4(0, OTHER, VIP, 1, &[&[kind, 4, 0, 0, 0, 0, 5, 0], quoted].concat());
        assert!(takes(("203.0.113.7", 32), &error(3)));
        assert!(!takes(("203.0.113.7", 32), &error(8)), "an echo request");
        assert!(!takes(("203.0.113.9", 32), &error(3)));
    }

    #[test]
    fn ipv6_is_compared_over_all_bits() {
        let [client, vip] =
            ["2001:db8::7", "2001:db8:1::1"].map(|text| text.parse::<core::net::Ipv6Addr>().expect("v6"));
        let mut frame = vec![2; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
        frame.extend([client.octets(), vip.octets()].concat());
        frame.extend([0; 20]);
        assert!(takes(("2001:db8::7", 128), &frame) && takes(("2001:db8::", 64), &frame));
        assert!(!takes(("2001:db8::6", 128), &frame) && !takes(("0.0.0.0", 0), &frame));
        assert!(takes(("::", 0), &frame), "no bit in the mask is any client");
    }
}
