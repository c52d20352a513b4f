//! The IP header of an answer.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::wire::{
    checksum,
    icmp::Icmp,
    ip::{DEFAULT_TTL, Family as _},
    ipv4::{DONT_FRAGMENT, V4},
    ipv6::V6,
    packet::Packet,
};

/// A family in which the edge can answer.
pub(in crate::slow) trait Reply: Icmp {
    /// Length of an answer's IP header in bytes.
    const HEADER: usize;

    /// An IP header for `length` bytes of `protocol`, from the destination of `header` to its source.
    fn answer(header: &Self::Header, protocol: u8, length: u16) -> Self::Header;

    /// Whether the header arrived unchanged, as far as this can be checked: only IPv4 has a checksum of its own.
    fn is_intact<P: Packet>(packet: &P, l3: usize, header: &Self::Header) -> bool;

    /// Sum of the pseudo-header for `length` bytes behind `header`. For ICMP it is empty if the family's ICMP has no
    /// pseudo-header.
    fn pseudo_header(header: &Self::Header, protocol: u8, length: u16) -> checksum::Sum;
}

impl Reply for V4 {
    const HEADER: usize = Ipv4Hdr::LEN;

    #[inline(always)]
    fn answer(header: &Ipv4Hdr, protocol: u8, length: u16) -> Ipv4Hdr {
        let mut answer = Ipv4Hdr {
            vihl: 0x45,
            tos: 0,
            tot_len: length.wrapping_add(Ipv4Hdr::LEN as u16).to_be_bytes(),
            id: [0; 2],
            frags: [DONT_FRAGMENT, 0],
            ttl: DEFAULT_TTL,
            proto: protocol,
            check: [0; 2],
            src_addr: header.dst_addr,
            dst_addr: header.src_addr,
        };
        answer.check = checksum::ipv4_header(&answer);
        answer
    }

    /// Checks the header including its options.
    #[inline(always)]
    fn is_intact<P: Packet>(packet: &P, l3: usize, header: &Ipv4Hdr) -> bool {
        let length = usize::from(header.vihl & 0x0f) * 4;
        checksum::Sum(0).packet(packet, l3, length).is_some_and(|sum| sum.finish() == [0; 2])
    }

    #[inline(always)]
    fn pseudo_header(header: &Ipv4Hdr, protocol: u8, length: u16) -> checksum::Sum {
        if protocol == Self::ICMP { checksum::Sum(0) } else { checksum::Sum::pseudo_v4(header, protocol, length) }
    }
}

impl Reply for V6 {
    const HEADER: usize = Ipv6Hdr::LEN;

    #[inline(always)]
    fn answer(header: &Ipv6Hdr, protocol: u8, length: u16) -> Ipv6Hdr {
        Ipv6Hdr {
            vcf: [0x60, 0, 0, 0],
            payload_len: length.to_be_bytes(),
            next_hdr: protocol,
            hop_limit: DEFAULT_TTL,
            src_addr: header.dst_addr,
            dst_addr: header.src_addr,
        }
    }

    #[inline(always)]
    fn is_intact<P: Packet>(_packet: &P, _l3: usize, _header: &Ipv6Hdr) -> bool {
        true
    }

    #[inline(always)]
    fn pseudo_header(header: &Ipv6Hdr, protocol: u8, length: u16) -> checksum::Sum {
        checksum::Sum::pseudo_v6(header, protocol, length)
    }
}
