//! IPv6 (RFC 8200).

use network_types::ip::Ipv6Hdr;

use super::{
    checksum::Sum,
    ethernet,
    ip::{Family, Fragment, Payload, Transport},
    packet::{OFFSETS, Packet, after},
    protocol,
};

/// Maximum number of extension headers that are looked through to find the transport header. Real packets have one or two.
const MAX_EXTENSIONS: usize = 4;

/// Bits of the offset field of which any fragment of a larger packet has at least one: "more fragments", and the offset.
const IS_FRAGMENT: u16 = 0xfff9;
/// The offset in that field, bytes.
const OFFSET: u16 = 0xfff8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = protocol::IPV6_FRAGMENT;
const ENCRYPTED: u8 = 50;
const AUTHENTICATED: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// The bits of the flow label in the first word of a header.
const FLOW_LABEL: u32 = 0xf_ffff;

/// The IPv6 family.
pub struct V6;

impl Family for V6 {
    type Header = Ipv6Hdr;
    type Address = [u8; 16];

    const ICMP: u8 = protocol::ICMPV6;
    const TUNNELLED: u8 = protocol::IPV6;
    const ETHER_TYPE: u16 = ethernet::IPV6;
    /// RFC 8200, section 5.
    const LEAST_MTU: usize = 1280;
    const COUNTED: usize = 0;

    /// Without extension headers.
    #[inline(always)]
    fn plain(header: &Ipv6Hdr) -> Option<u8> {
        let next = header.next_hdr;
        let plain = header.vcf[0] >> 4 == 6 && (next == protocol::TCP || next == protocol::UDP);
        if plain { Some(next) } else { None }
    }

    #[inline(always)]
    fn payload<P: Packet>(packet: &P, l3: usize, header: &Ipv6Hdr) -> Payload {
        if header.vcf[0] >> 4 != 6 || after(l3, Self::length(header)) > packet.len() {
            return Payload::Malformed;
        }
        look_through(packet, header.next_hdr, after(l3, Ipv6Hdr::LEN), after(l3, Self::length(header)))
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, l3: usize) -> Option<Transport> {
        let header: &Ipv6Hdr = packet.view(l3)?;
        if header.vcf[0] >> 4 != 6 {
            return None;
        }
        match look_through(packet, header.next_hdr, after(l3, Ipv6Hdr::LEN), packet.len()) {
            Payload::Transport(at) => Some(at),
            Payload::Fragment(Fragment { at, before: 0, .. }) => behind_options(packet, at),
            Payload::Fragment(_) | Payload::Hidden | Payload::Malformed => None,
        }
    }

    #[inline(always)]
    fn quoted_outer<P: Packet>(packet: &P, l3: usize) -> Option<Transport> {
        let header: &Ipv6Hdr = packet.view(l3)?;
        let sound = header.vcf[0] >> 4 == 6 && !is_extension(header.next_hdr);
        if sound { Some(Transport { protocol: header.next_hdr, offset: after(l3, Ipv6Hdr::LEN) }) } else { None }
    }

    #[inline(always)]
    fn length(header: &Ipv6Hdr) -> usize {
        Ipv6Hdr::LEN + usize::from(u16::from_be_bytes(header.payload_len))
    }

    #[inline(always)]
    fn ttl(header: &Ipv6Hdr) -> u8 {
        header.hop_limit
    }

    #[inline(always)]
    fn decrement_ttl(header: &mut Ipv6Hdr) {
        header.hop_limit = header.hop_limit.wrapping_sub(1);
    }

    #[inline(always)]
    fn tos(header: &Ipv6Hdr) -> u8 {
        (u32::from_be_bytes(header.vcf) >> 20) as u8
    }

    /// No router fragments IPv6.
    #[inline(always)]
    fn dont_fragment(_header: &Ipv6Hdr) -> bool {
        true
    }

    /// Zero: no router fragments IPv6.
    #[inline(always)]
    fn identification(_header: &Ipv6Hdr) -> [u8; 2] {
        [0; 2]
    }

    /// The flow label carries the label, also in a fragment.
    #[inline(always)]
    fn set_label(header: &mut Ipv6Hdr, label: u32) -> Sum {
        header.vcf = (u32::from_be_bytes(header.vcf) & !FLOW_LABEL | label & FLOW_LABEL).to_be_bytes();
        Sum(0)
    }

    #[inline(always)]
    fn is_labelled(header: &Ipv6Hdr, label: u32) -> bool {
        u32::from_be_bytes(header.vcf) & FLOW_LABEL == label
    }

    /// Neither end may be multicast, unspecified or loopback (RFC 4443, section 2.4), nor an IPv4-mapped address, which no
    /// host has on the wire (RFC 4291, section 2.5.5.2).
    #[inline(always)]
    fn answerable(header: &Ipv6Hdr) -> bool {
        let [source, destination] = [header.src_addr, header.dst_addr].map(u128::from_be_bytes);
        is_host(source) && is_host(destination) && source != destination
    }

    #[inline(always)]
    fn source(header: &Ipv6Hdr) -> &[u8; 16] {
        &header.src_addr
    }

    #[inline(always)]
    fn destination(header: &Ipv6Hdr) -> &[u8; 16] {
        &header.dst_addr
    }
}

/// Whether an address is that of one host.
#[inline(always)]
const fn is_host(address: u128) -> bool {
    address >> 120 != 0xff && address > 1 && address >> 32 != 0xffff
}

/// Whether an extension header has this number.
#[inline(always)]
pub const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        HOP_BY_HOP | ROUTING | FRAGMENT | ENCRYPTED | AUTHENTICATED | DESTINATION | MOBILITY | HOST_IDENTITY | SHIM6
    )
}

/// Whether the packet with this header, at `l3`, has a routing header with segments left (RFC 8200, section 4.4), and so
/// has not yet reached its final destination.
#[inline(always)]
pub fn routing_segments_left<P: Packet>(packet: &P, l3: usize, header: &Ipv6Hdr) -> bool {
    let (mut next, mut offset) = (header.next_hdr, after(l3, Ipv6Hdr::LEN));
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(next, HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT) {
            return false;
        }
        let Some([following, eights, place, left]) = packet.load(offset) else { return false };
        let eights = if next == FRAGMENT {
            // Only an "atomic" fragment is looked through.
            if u16::from_be_bytes([place, left]) & IS_FRAGMENT != 0 {
                return false;
            }
            0
        } else {
            eights
        };
        if next == ROUTING && left != 0 {
            return true;
        }
        (next, offset) = (following, packet.merge_paths(behind(offset, eights), OFFSETS));
    }
    false
}

/// The offset behind an extension header of this length, in units of eight bytes, of which the first one is not counted.
#[inline(always)]
fn behind(offset: usize, eights: u8) -> usize {
    after(after(offset, 8), 8 * usize::from(eights))
}

/// The header behind destination options, which a first fragment may have behind its fragment header (RFC 8200, section
/// 4.1).
#[inline(always)]
fn behind_options<P: Packet>(packet: &P, at: Transport) -> Option<Transport> {
    if at.protocol != DESTINATION {
        return Some(at);
    }
    let offset = packet.merge_paths(at.offset, OFFSETS);
    let [following, eights] = packet.load(offset)?;
    Some(Transport { protocol: following, offset: behind(offset, eights) })
}

/// Walks from the extension header `next` at `offset` to the transport header; `end` is the end of the packet.
#[inline(always)]
fn look_through<P: Packet>(packet: &P, mut next: u8, mut offset: usize, end: usize) -> Payload {
    for _ in 0..MAX_EXTENSIONS {
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let Some([following, eights]) = packet.load::<2>(offset) else { return Payload::Malformed };
                (next, offset) = (following, behind(offset, eights));
                if offset > end {
                    return Payload::Malformed;
                }
            }
            FRAGMENT => {
                let Some([following, _, high, low, a, b, c, d]) = packet.load::<8>(offset) else {
                    return Payload::Malformed;
                };
                (next, offset) = (following, after(offset, 8));
                let place = u16::from_be_bytes([high, low]);
                if offset > end {
                    return Payload::Malformed;
                }
                // An "atomic" fragment (RFC 6946) is the whole packet, and there is nothing to reassemble.
                if place & IS_FRAGMENT != 0 {
                    let at = Transport { protocol: next, offset };
                    let identification = u32::from_ne_bytes([a, b, c, d]);
                    return Payload::Fragment(Fragment { identification, at, before: place & OFFSET });
                }
            }
            _ if is_extension(next) => return Payload::Hidden,
            _ => return Payload::Transport(Transport { protocol: next, offset }),
        }
    }
    if is_extension(next) { Payload::Hidden } else { Payload::Transport(Transport { protocol: next, offset }) }
}
