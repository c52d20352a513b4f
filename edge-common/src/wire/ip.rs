//! The network layer: what the packet path needs of an IPv4 or IPv6 packet, once for each family.

use super::{
    checksum::Sum,
    packet::{Packet, Wire},
};

/// TTL and hop limit of packets that the edge itself makes.
pub const DEFAULT_TTL: u8 = 64;

/// Protocol and position of a packet's transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    pub protocol: u8,
    /// Offset in the frame.
    pub offset: usize,
}

/// The result of a search for the transport header behind a network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A transport header, which may still be cut off.
    Transport(Transport),
    /// A fragment of a larger packet.
    Fragment(Fragment),
    /// More extension headers than are looked through, or one that hides the transport.
    Hidden,
    /// A header that contradicts itself or the frame.
    Malformed,
}

/// A fragment of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Together with the addresses, the same in all fragments of a packet.
    pub identification: u32,
    /// The packet's protocol, and the offset of the fragment's part of the packet, which in the first fragment begins with
    /// the transport header.
    pub at: Transport,
    /// Bytes of the packet before this part; 0 in the first fragment.
    pub before: u16,
}

/// An address family: its header, and everything that differs between families.
pub trait Family {
    type Header: Wire;
    /// An address in the byte order of a header.
    type Address: PartialEq;

    /// Protocol number of its ICMP.
    const ICMP: u8;
    /// Protocol number of its packets inside another packet.
    const TUNNELLED: u8;
    /// EtherType, in the byte order of a frame.
    const ETHER_TYPE: u16;
    /// The MTU that every path must have, bytes, with fragments if need be; senders ignore reports of a smaller one. 0 if
    /// there is none.
    const LEAST_MTU: usize;

    /// Bytes of the plainest header that the header's length field counts: all or none.
    const COUNTED: usize;

    /// The protocol of a packet for the fast path, as nearly all packets are: TCP or UDP directly behind `header`, which
    /// has the plainest form, and no fragment. Its length is not checked. All other packets take the slow path.
    fn plain(header: &Self::Header) -> Option<u8>;

    /// Finds the transport header behind `header`, which is at `l3`.
    fn payload<P: Packet>(packet: &P, l3: usize, header: &Self::Header) -> Payload;

    /// The transport header of a packet whose start an ICMP error quotes from `l3` on. It may be behind options or
    /// extension headers, or in a first fragment. `None` if there is none, or if the quotation ends before it.
    fn quoted<P: Packet>(packet: &P, l3: usize) -> Option<Transport>;

    /// Like [`Self::quoted`], for an outer packet of this edge, to which no router adds an extension header (RFC 8200,
    /// section 4).
    fn quoted_outer<P: Packet>(packet: &P, l3: usize) -> Option<Transport>;

    /// Length of the IP packet according to its header, header included; bytes.
    fn length(header: &Self::Header) -> usize;

    /// TTL or hop limit.
    fn ttl(header: &Self::Header) -> u8;

    /// Decrements the TTL, which must not be 0.
    fn decrement_ttl(header: &mut Self::Header);

    /// DSCP and ECN: the TOS byte, the traffic class.
    fn tos(header: &Self::Header) -> u8;

    /// Whether routers must not fragment the packet.
    fn dont_fragment(header: &Self::Header) -> bool;

    /// The identification of the packet's fragments, should it be fragmented on the way.
    fn identification(header: &Self::Header) -> [u8; 2];

    /// Writes the label of a flow, twenty bits or as many as fit, unless routers may fragment the packet. Returns the
    /// change of a sum over the header.
    fn set_label(header: &mut Self::Header, label: u32) -> Sum;

    /// Whether a packet that no router may fragment carries this label.
    fn is_labelled(header: &Self::Header, label: u32) -> bool;

    /// Whether a packet is from a single host and to a single other one, so that it may be answered.
    fn answerable(header: &Self::Header) -> bool;

    fn source(header: &Self::Header) -> &Self::Address;

    fn destination(header: &Self::Header) -> &Self::Address;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{ipv4::V4, ipv6::V6},
        *,
    };
    use crate::host::Frame;

    /// Offset of the network header in these tests.
    const L3: usize = 14;

    /// A frame whose network header is `header`, with `more` bytes after it.
    fn frame(header: &[u8], more: usize) -> Frame {
        Frame::new(&[&[0; L3][..], header, &vec![0; more]].concat())
    }

    fn payload<F: Family>(frame: &Frame) -> Option<Payload> {
        frame.view(L3).map(|header| F::payload(frame, L3, header))
    }

    fn v4(vihl: u8, length: u16, fragment: u16, more: usize) -> Option<Payload> {
        let [a, b] = length.to_be_bytes();
        let [c, d] = fragment.to_be_bytes();
        payload::<V4>(&frame(&[vihl, 0, a, b, 0, 0, c, d, 64, 6, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8], more))
    }

    /// An IPv6 packet whose header is followed by `chain`, its first header being `next`.
    fn v6(next: u8, chain: &[u8]) -> Option<Payload> {
        let mut header = [0; 40];
        header[0] = 0x60;
        header[5] = u8::try_from(chain.len()).unwrap();
        header[6] = next;
        payload::<V6>(&frame(&[&header, chain].concat(), 0))
    }

    #[test]
    fn ipv4_lengths_must_agree() {
        assert_eq!(v4(0x45, 40, 0, 20), Some(Payload::Transport(Transport { protocol: 6, offset: L3 + 20 })));
        assert_eq!(v4(0x47, 40, 0, 20), Some(Payload::Transport(Transport { protocol: 6, offset: L3 + 28 })));
        assert_eq!(v4(0x45, 40, 0, 26), v4(0x45, 40, 0, 20), "padding is no contradiction");
        for (vihl, length, more) in [(0x44, 40, 20), (0x55, 40, 20), (0x45, 19, 20), (0x45, 41, 20), (0x4f, 40, 40)] {
            assert_eq!(v4(vihl, length, 0, more), Some(Payload::Malformed), "{vihl:x} {length} {more}");
        }
        assert_eq!(v4(0x45, u16::MAX, 0, 20), Some(Payload::Malformed));
    }

    #[test]
    fn ipv4_fragments_are_seen_by_offset_and_by_flag() {
        for (fragment, before) in [(0x2000, 0), (0x0001, 8), (0x1fff, 0xfff8), (0x3fff, 0xfff8)] {
            let at = Transport { protocol: 6, offset: L3 + 20 };
            let expected = Payload::Fragment(Fragment { identification: 0, at, before });
            assert_eq!(v4(0x45, 40, fragment, 20), Some(expected), "{fragment:x}");
        }
        assert!(matches!(v4(0x45, 40, 0x4000, 20), Some(Payload::Transport(_))), "DF is no fragment");
    }

    #[test]
    fn ipv6_extension_headers_are_looked_through() {
        let tcp = |offset| Some(Payload::Transport(Transport { protocol: 6, offset }));
        let options = [60, 0, 0, 0, 0, 0, 0, 0];
        let last = [6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(v6(6, &[0; 20]), tcp(L3 + 40));
        assert_eq!(v6(0, &[&options[..], &last, &[0; 20]].concat()), tcp(L3 + 40 + 8 + 16));
        let fragment = |offset: u16| {
            let [high, low] = offset.to_be_bytes();
            v6(44, &[17, 0, high, low, 1, 2, 3, 4])
        };
        let at = Transport { protocol: 17, offset: L3 + 48 };
        for (offset, before) in [(1, 0), (8, 8), (9, 8), (0xfff9, 0xfff8)] {
            let expected = Payload::Fragment(Fragment { identification: 0x0403_0201, at, before });
            assert_eq!(fragment(offset), Some(expected), "{offset:x}");
        }
        assert_eq!(fragment(0), Some(Payload::Transport(at)), "the whole of itself");
        assert_eq!(v6(50, &options), Some(Payload::Hidden), "encrypted");
        assert_eq!(v6(60, &options.repeat(5)), Some(Payload::Hidden), "one more than are looked through");
        assert_eq!(v6(60, &[6, 255, 0, 0, 0, 0, 0, 0]), Some(Payload::Malformed), "longer than the packet");
        assert_eq!(v6(60, &[6]), Some(Payload::Malformed), "cut off");
    }

    #[test]
    fn a_quoted_packet_is_read_behind_what_it_may_have_and_no_further_than_it_is_quoted() {
        let quoted = |next: u8, chain: &[u8]| {
            let mut header = [0; 40];
            // The quotation ends before the packet does.
            (header[0], header[4], header[6]) = (0x60, 5, next);
            V6::quoted(&frame(&[&header, chain].concat(), 0), L3)
        };
        let at = |protocol, offset| Some(Transport { protocol, offset: L3 + 40 + offset });
        let [options, first, later] = [[44, 0, 0, 0, 0, 0, 0, 0], [17, 0, 0, 1, 0, 0, 0, 0], [17, 0, 0, 9, 0, 0, 0, 0]];
        assert_eq!(quoted(6, &[0; 4]), at(6, 0));
        for kind in [0, 43, 60] {
            assert_eq!(quoted(kind, &[options, first].concat()), at(17, 16), "{kind}");
            assert_eq!(quoted(kind, &[options, later].concat()), None, "{kind}: a later fragment has no ports");
            assert_eq!(quoted(kind, &options[..1]), None, "{kind}: cut off");
        }
        assert_eq!(quoted(60, &[17, 3, 0, 0]), None, "longer than what is quoted");
        assert_eq!(quoted(50, &options), None, "encrypted");
    }

    proptest! {
        #[test]
        fn a_transport_header_starts_in_the_packet(bytes in proptest::collection::vec(any::<u8>(), 0..200), version: bool) {
            let mut bytes = [vec![0; L3], bytes].concat();
            // Random bytes would hardly ever have the right version.
            if let Some(first) = bytes.get_mut(L3) {
                *first = if version { 0x45 } else { 0x60 };
            }
            let frame = Frame::new(&bytes);
            for found in [payload::<V4>(&frame), payload::<V6>(&frame)] {
                if let Some(Payload::Transport(at)) = found {
                    prop_assert!((L3 + 20..=bytes.len()).contains(&at.offset));
                }
            }
        }
    }
}
