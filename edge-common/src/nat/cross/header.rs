//! Network headers that are made from those of the other IP version (RFC 7915, sections 4.1 and 5.1).

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::super::rewrite::Translated;
use crate::wire::{
    checksum::{self, Sum},
    icmp::Icmp,
    ip::{Family as _, Fragment},
    ipv4::{DONT_FRAGMENT, V4},
    ipv6::V6,
    packet::{Packet, Wire, after},
    protocol,
};

/// The values that a header takes from the header that it replaces.
#[derive(Clone, Copy)]
pub(super) struct Carried {
    pub(super) source: [u64; 2],
    pub(super) destination: [u64; 2],
    /// Bytes behind the header, or behind the fragment header.
    pub(super) length: usize,
    /// DSCP and ECN.
    pub(super) tos: u8,
    pub(super) ttl: u8,
    /// The protocol, by its number in the new header's IP version.
    pub(super) protocol: u8,
    pub(super) part: Part,
    /// The label of the flow, in a packet that no router may fragment.
    pub(super) label: u32,
}

/// The part of a packet that a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// In the form of IPv6: the offset in bytes, plus one if more fragments follow. 0 for a whole packet.
    pub(super) place: u16,
    /// Distinguishes the fragments of this packet from those of others, if the packet is a fragment or may be
    /// fragmented.
    pub(super) identification: u32,
}

/// An IP version whose packets can be converted to the other one, and that packets of the other one can be converted
/// to.
pub(super) trait Crossed: Translated + Icmp {
    /// A header of this IP version.
    type Made: Wire;
    /// The same for a fragment: followed by a fragment header, if this IP version has one.
    type MadePart: Wire;

    /// Bytes of each of the two.
    const MADE: usize = size_of::<Self::Made>();
    const MADE_PART: usize = size_of::<Self::MadePart>();

    /// Bytes of the longest error that is made: an ICMPv6 error must not be longer (RFC 4443, section 2.4).
    const LONGEST_ERROR: usize;

    fn made(carried: &Carried) -> Self::Made;
    fn made_part(carried: &Carried) -> Self::MadePart;

    /// The sum of the words of a made header.
    fn sum(made: &Self::Made) -> Sum;

    /// The sum of the pseudo-header of the version's ICMP.
    fn pseudo(source: [u64; 2], destination: [u64; 2], length: usize) -> Sum;

    /// The part of its packet that a fragment is.
    fn part<P: Packet>(packet: &P, header: &Self::Header, fragment: Fragment) -> Option<Part>;
}

/// "More fragments", in a [`Part::place`].
const MORE: u16 = 1;

/// The longest packet that may be fragmented: an IPv6 sender never shortens a packet of the minimum MTU, which has this
/// length with an IPv4 header (RFC 7915, section 5.1).
const LONGEST_IN_PIECES: usize = V6::LEAST_MTU - (Ipv6Hdr::LEN - Ipv4Hdr::LEN);

/// Words of an IPv4 header.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct MadeV4([u32; 5]);

// SAFETY: packed integers.
unsafe impl Wire for MadeV4 {}

/// Words of an IPv6 header.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct MadeV6([u64; 5]);

// SAFETY: packed integers.
unsafe impl Wire for MadeV6 {}

/// [`MadeV6`], followed by the words of a fragment header.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct MadeFragmentV6(MadeV6, [u32; 2]);

// SAFETY: packed integers.
unsafe impl Wire for MadeFragmentV6 {}

const _: () = {
    assert!(size_of::<MadeV4>() == Ipv4Hdr::LEN);
    assert!(size_of::<MadeV6>() == Ipv6Hdr::LEN);
};

impl Crossed for V4 {
    type Made = MadeV4;
    type MadePart = MadeV4;
    const LONGEST_ERROR: usize = V6::MAX_ERROR;

    #[inline(always)]
    fn made(carried: &Carried) -> MadeV4 {
        let &Carried { source, destination, length, tos, ttl, protocol, part, label } = carried;
        let length = after(length, Ipv4Hdr::LEN);
        let start = (0x4500_0000 | u32::from(tos) << 16 | length as u32 & 0xffff).to_be();
        // A packet that may be fragmented needs an identification; in one that may not be, the label takes its place.
        let fragmentation = if part.place != 0 || length <= LONGEST_IN_PIECES {
            let place = u32::from(part.place >> 3 | (part.place & MORE) << 13);
            (part.identification << 16 | place).to_be()
        } else {
            (label & 0xffff).to_le() | const { u32::from_ne_bytes([0, 0, DONT_FRAGMENT, 0]) }
        };
        let header = |check: [u8; 2]| {
            [
                start,
                fragmentation,
                u32::from_ne_bytes([ttl, protocol, check[0], check[1]]),
                source[0] as u32,
                destination[0] as u32,
            ]
        };
        MadeV4(header(checksum::ipv4_words(header([0; 2]))))
    }

    #[inline(always)]
    fn made_part(carried: &Carried) -> MadeV4 {
        Self::made(carried)
    }

    /// Zero: the header's own checksum makes up for its words.
    #[inline(always)]
    fn sum(_made: &MadeV4) -> Sum {
        Sum(0)
    }

    #[inline(always)]
    fn pseudo(_source: [u64; 2], _destination: [u64; 2], _length: usize) -> Sum {
        Sum(0)
    }

    #[inline(always)]
    fn part<P: Packet>(_packet: &P, header: &Ipv4Hdr, fragment: Fragment) -> Option<Part> {
        let more = u16::from(header.frags[0] >> 5 & 1);
        Some(Part { place: fragment.before | more, identification: u16::from_be_bytes(header.id).into() })
    }
}

impl Crossed for V6 {
    type Made = MadeV6;
    type MadePart = MadeFragmentV6;
    const LONGEST_ERROR: usize = Self::MAX_ERROR;

    #[inline(always)]
    fn made(carried: &Carried) -> MadeV6 {
        header_v6(carried, carried.protocol, carried.length)
    }

    #[inline(always)]
    fn made_part(carried: &Carried) -> MadeFragmentV6 {
        let header = header_v6(carried, protocol::IPV6_FRAGMENT, after(carried.length, FRAGMENT));
        let [high, low] = carried.part.place.to_be_bytes();
        let place = u32::from_ne_bytes([carried.protocol, 0, high, low]);
        MadeFragmentV6(header, [place, carried.part.identification.to_be()])
    }

    #[inline(always)]
    fn sum(made: &MadeV6) -> Sum {
        let MadeV6([a, b, c, d, e]) = *made;
        pair(pair(pair(pair(pair(Sum(0), a), b), c), d), e)
    }

    #[inline(always)]
    fn pseudo(source: [u64; 2], destination: [u64; 2], length: usize) -> Sum {
        let addresses = pair(pair(pair(pair(Sum(0), source[0]), source[1]), destination[0]), destination[1]);
        addresses.word([0, Self::ICMP]).word((length as u16).to_be_bytes())
    }

    /// The fragment header is directly before the fragment's data.
    #[inline(always)]
    fn part<P: Packet>(packet: &P, _header: &Ipv6Hdr, fragment: Fragment) -> Option<Part> {
        let [_, low] = packet.load(fragment.at.offset.wrapping_sub(const { FRAGMENT - 2 }))?;
        let place = fragment.before | u16::from(low) & MORE;
        Some(Part { place, identification: u32::from_be_bytes(fragment.identification.to_ne_bytes()) })
    }
}

/// Bytes of a fragment header.
const FRAGMENT: usize = size_of::<[u32; 2]>();

#[inline(always)]
fn header_v6(carried: &Carried, next: u8, length: usize) -> MadeV6 {
    let &Carried { source, destination, tos, ttl, label, .. } = carried;
    let first = (6 << 28 | u32::from(tos) << 20 | label).to_be();
    let [high, low] = (length as u16).to_be_bytes();
    let second = u32::from_ne_bytes([high, low, next, ttl]);
    let start = u64::from(first.to_le()) | u64::from(second.to_le()) << 32;
    MadeV6([start.to_le(), source[0], source[1], destination[0], destination[1]])
}

/// Adds both halves of a word to a sum.
#[inline(always)]
pub(super) const fn pair(sum: Sum, word: u64) -> Sum {
    sum.with(word as u32).with((word >> 32) as u32)
}
