//! IPv4 (RFC 791).

use network_types::ip::Ipv4Hdr;

use super::{
    checksum::{self, Sum},
    ethernet,
    ip::{Family, Fragment, Payload, Transport},
    packet::{Packet, Wire, after, change_as, read_as},
    protocol,
};

/// "Don't fragment", in the first byte of the fragmentation field.
pub const DONT_FRAGMENT: u8 = 0x40;
/// Version and length of a header without options.
const PLAIN: u8 = 0x45;
/// Bits of the fragmentation field of which any fragment has at least one: "more fragments", and the offset.
const IS_FRAGMENT: u16 = 0x3fff;
/// A fragment's offset in that field, in units of eight bytes.
const OFFSET: u16 = 0x1fff;

/// The start of a header, in words as they are in a frame.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Words {
    /// Version and length, TOS, length of the packet.
    start: u32,
    fragmentation: u32,
    /// TTL, protocol, checksum.
    ttl: u32,
}

// SAFETY: packed integers.
unsafe impl Wire for Words {}

/// [`Words::fragmentation`] of a whole packet with DF, without its identification; and the bits of these two fields.
const WHOLE: u32 = u32::from_ne_bytes([0, 0, DONT_FRAGMENT, 0]);
const WHOLE_MASK: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// The IPv4 family.
pub struct V4;

impl Family for V4 {
    type Header = Ipv4Hdr;
    type Address = [u8; 4];

    const ICMP: u8 = protocol::ICMP;
    const TUNNELLED: u8 = protocol::IPV4;
    const ETHER_TYPE: u16 = ethernet::IPV4;
    const LEAST_MTU: usize = 0;
    const COUNTED: usize = Ipv4Hdr::LEN;

    /// Without options, and not a fragment.
    #[inline(always)]
    fn plain(header: &Ipv4Hdr) -> Option<u8> {
        let plain = header.vihl == PLAIN
            && u16::from_ne_bytes(header.frags) & IS_FRAGMENT.to_be() == 0
            && (header.proto == protocol::TCP || header.proto == protocol::UDP);
        if plain { Some(header.proto) } else { None }
    }

    #[inline(always)]
    fn payload<P: Packet>(packet: &P, l3: usize, header: &Ipv4Hdr) -> Payload {
        let header_length = usize::from(header.vihl & 0x0f) * 4;
        let length = Self::length(header);
        if header.vihl >> 4 != 4
            || header_length < Ipv4Hdr::LEN
            || length < header_length
            || after(l3, length) > packet.len()
        {
            return Payload::Malformed;
        }
        let at = Transport { protocol: header.proto, offset: after(l3, header_length) };
        let place = u16::from_be_bytes(header.frags);
        if place & IS_FRAGMENT == 0 {
            return Payload::Transport(at);
        }
        let identification = u16::from_ne_bytes(header.id).into();
        Payload::Fragment(Fragment { identification, at, before: (place & OFFSET) << 3 })
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, l3: usize) -> Option<Transport> {
        let header: &Ipv4Hdr = packet.view(l3)?;
        let header_length = usize::from(header.vihl & 0x0f) * 4;
        let first = u16::from_be_bytes(header.frags) & OFFSET == 0;
        let sound = header.vihl >> 4 == 4 && header_length >= Ipv4Hdr::LEN && first;
        if sound { Some(Transport { protocol: header.proto, offset: after(l3, header_length) }) } else { None }
    }

    #[inline(always)]
    fn quoted_outer<P: Packet>(packet: &P, l3: usize) -> Option<Transport> {
        Self::quoted(packet, l3)
    }

    #[inline(always)]
    fn length(header: &Ipv4Hdr) -> usize {
        usize::from(u16::from_be_bytes(header.tot_len))
    }

    #[inline(always)]
    fn ttl(header: &Ipv4Hdr) -> u8 {
        header.ttl
    }

    #[inline(always)]
    fn decrement_ttl(header: &mut Ipv4Hdr) {
        let words: &mut Words = change_as(header);
        words.ttl = checksum::ttl_decremented(u32::from_le(words.ttl)).to_le();
    }

    #[inline(always)]
    fn tos(header: &Ipv4Hdr) -> u8 {
        let words: &Words = read_as(header);
        (u32::from_be(words.start) >> 16) as u8
    }

    #[inline(always)]
    fn dont_fragment(header: &Ipv4Hdr) -> bool {
        header.frags[0] & DONT_FRAGMENT != 0
    }

    #[inline(always)]
    fn identification(header: &Ipv4Hdr) -> [u8; 2] {
        header.id
    }

    /// The identification carries the label, since it is free where DF is set (RFC 6864, section 4.1); the lowest byte
    /// first, which is the cheapest order to write.
    #[inline(always)]
    fn set_label(header: &mut Ipv4Hdr, label: u32) -> Sum {
        let words: &mut Words = change_as(header);
        let before = words.fragmentation;
        if before & WHOLE_MASK != WHOLE {
            return Sum(0);
        }
        words.fragmentation = (label & 0xffff).to_le() | WHOLE;
        Sum(0).without(before).with(words.fragmentation)
    }

    #[inline(always)]
    fn is_labelled(header: &Ipv4Hdr, label: u32) -> bool {
        Self::dont_fragment(header) && header.id == (label as u16).to_le_bytes()
    }

    /// Neither end may be "this network", loopback, multicast, reserved or broadcast (RFC 1122, section 3.2.2).
    #[inline(always)]
    fn answerable(header: &Ipv4Hdr) -> bool {
        is_host(header.src_addr) && is_host(header.dst_addr) && header.src_addr != header.dst_addr
    }

    #[inline(always)]
    fn source(header: &Ipv4Hdr) -> &[u8; 4] {
        &header.src_addr
    }

    #[inline(always)]
    fn destination(header: &Ipv4Hdr) -> &[u8; 4] {
        &header.dst_addr
    }
}

/// Whether an address is that of one host.
#[inline(always)]
const fn is_host([first, ..]: [u8; 4]) -> bool {
    first != 0 && first != 127 && first < 224
}
