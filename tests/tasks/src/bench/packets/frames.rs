//! The frames that the bench sends.

use edge_common::{abi::Mac, wire::protocol};
use edge_tests::packet::rfc_1071;

use super::world::{self, FIRST_PORT, Side};

/// A frame of the first flow, and the offsets at which the driver stamps others into it.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    /// Offset of the source address's last four bytes.
    pub(super) address_at: u32,
    /// Offset of both ports, or of the bytes that distinguish flows without ports.
    pub(super) ports_at: u32,
}

/// The payload of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    TcpData,
    TcpSyn,
    Udp,
    /// An echo request.
    Echo,
    /// An ICMP error, port unreachable.
    Unreachable,
}

impl Content {
    pub(super) const fn protocol(self, side: Side) -> u8 {
        match (self, side) {
            (Self::TcpData | Self::TcpSyn, _) => protocol::TCP,
            (Self::Udp, _) => protocol::UDP,
            (Self::Echo | Self::Unreachable, Side::V4) => protocol::ICMP,
            (Self::Echo | Self::Unreachable, Side::V6) => protocol::ICMPV6,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::TcpData => "tcp",
            Self::TcpSyn => "tcp_syn",
            Self::Udp => "udp",
            Self::Echo | Self::Unreachable => "icmp",
        }
    }
}

/// A peculiarity of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Plain,
    /// With a VLAN tag.
    Tagged,
    /// IPv6 with a header of destination options.
    Extended,
    FirstFragment,
    /// A later fragment, of another packet.
    Fragment,
    /// The header's length exceeds the frame.
    CutOff,
    /// With a TTL or hop limit of 1.
    LastHop,
    /// As long as the interface's MTU permits.
    Long,
}

/// Data after the transport header, bytes.
const DATA: usize = 64;
/// Length of the longest IP packet, bytes.
const MTU: usize = 1500;
/// Destination `02:00:00:00:ed:01` and source `02:00:00:00:cc:01`.
const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0xed, 1, 2, 0, 0, 0, 0xcc, 1];
/// The destination and the source in [`ADDRESSES`].
pub(super) const EDGE_MAC: Mac = Mac::new([2, 0, 0, 0, 0xed, 1]);
pub(super) const CLIENT_MAC: Mac = Mac::new([2, 0, 0, 0, 0xcc, 1]);
const DESTINATION_OPTIONS: u8 = 60;
const FRAGMENT: u8 = 44;

/// A frame to an IPv4 VIP.
pub(super) fn to_v4(vip: [u8; 4], content: Content, shape: Shape) -> Frame {
    let mut bytes = link(shape, [8, 0]);
    let l3 = bytes.len();
    let transport = transport(content, Side::V4, if shape == Shape::Long { MTU - 20 } else { 0 });
    let [high, low] = length(20 + transport.len(), shape);
    // Identification, flags, and the offset in units of eight bytes.
    let [packet, fragment, place] = match shape {
        Shape::FirstFragment => [1, 0x20, 0],
        Shape::Fragment => [2, 0, 181],
        _ => [1, 0x40, 0],
    };
    let ttl = if shape == Shape::LastHop { 1 } else { 64 };
    bytes.extend([
        0x45,
        0,
        high,
        low,
        0,
        packet,
        fragment,
        place,
        ttl,
        content.protocol(Side::V4),
        0,
        0,
        198,
        18,
        0,
        0,
    ]);
    bytes.extend(vip);
    let header = rfc_1071(&[&bytes[l3..]]);
    bytes[l3 + 10..l3 + 12].copy_from_slice(&header.to_be_bytes());
    bytes.extend(with_checksum(transport, content, &bytes[l3 + 12..]));
    Frame { bytes, address_at: offset(l3 + 12), ports_at: ports_at(l3 + 20, content) }
}

pub(super) fn to_v6(vip: [u8; 16], content: Content, shape: Shape) -> Frame {
    let mut bytes = link(shape, [0x86, 0xdd]);
    let l3 = bytes.len();
    let protocol = content.protocol(Side::V6);
    let transport = transport(content, Side::V6, if shape == Shape::Long { MTU - 40 } else { 0 });
    let (next, extension): (_, &[u8]) = match shape {
        Shape::FirstFragment => (FRAGMENT, &[protocol, 0, 0, 1, 0, 0, 0, 1]),
        Shape::Fragment => (FRAGMENT, &[protocol, 0, 5, 0xa8, 0, 0, 0, 2]),
        // Padded with an option of four bytes.
        Shape::Extended => (DESTINATION_OPTIONS, &[protocol, 0, 1, 4, 0, 0, 0, 0]),
        _ => (protocol, &[]),
    };
    let [high, low] = length(extension.len() + transport.len(), shape);
    let hops = if shape == Shape::LastHop { 1 } else { 64 };
    bytes.extend([0x60, 0, 0, 0, high, low, next, hops]);
    bytes.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 198, 18, 0, 0]);
    bytes.extend(vip);
    let transport = with_checksum(transport, content, &bytes[l3 + 8..]);
    bytes.extend(extension);
    bytes.extend(transport);
    Frame { bytes, address_at: offset(l3 + 20), ports_at: ports_at(l3 + 40 + extension.len(), content) }
}

/// A packet as the edge sends it to a backend through a tunnel.
pub(super) fn tunnelled(outer: Side, inner_side: Side, inner: &Frame) -> Frame {
    let packet = &inner.bytes[ADDRESSES.len() + 2..];
    let next = if inner_side == Side::V4 { protocol::IPV4 } else { protocol::IPV6 };
    let mut bytes;
    match outer {
        Side::V4 => {
            bytes = link(Shape::Plain, [8, 0]);
            let [high, low] = length(20 + packet.len(), Shape::Plain);
            bytes.extend([0x45, 0, high, low, 0, 0, 0x40, 0, 64, next, 0, 0]);
            bytes.extend(world::TUNNEL_V4.octets());
            bytes.extend(world::ENDPOINT_V4.octets());
        }
        Side::V6 => {
            bytes = link(Shape::Plain, [0x86, 0xdd]);
            let [high, low] = length(packet.len(), Shape::Plain);
            bytes.extend([0x60, 0, 0, 0, high, low, next, 64]);
            bytes.extend(world::TUNNEL_V6.octets());
            bytes.extend(world::ENDPOINT_V6.octets());
        }
    }
    bytes.extend(packet);
    let more = offset(bytes.len() - inner.bytes.len());
    Frame { bytes, address_at: inner.address_at + more, ports_at: inner.ports_at + more }
}

/// An ARP request, padded to the minimum length of a frame.
pub(super) fn arp() -> Frame {
    let mut bytes = link(Shape::Plain, [8, 6]);
    bytes.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    bytes.resize(100, 0);
    Frame { bytes, address_at: 26, ports_at: 34 }
}

fn link(shape: Shape, ether_type: [u8; 2]) -> Vec<u8> {
    let mut bytes = ADDRESSES.to_vec();
    if shape == Shape::Tagged {
        bytes.extend([0x81, 0, 0, 7]);
    }
    bytes.extend(ether_type);
    bytes
}

/// A transport header and zeros up to `fill` bytes.
fn transport(content: Content, side: Side, fill: usize) -> Vec<u8> {
    let [high, low] = FIRST_PORT.to_be_bytes();
    let mut bytes = vec![0x40, 0, high, low];
    match content {
        Content::Udp => bytes.extend([0, 8 + u8::try_from(DATA).expect("a few bytes"), 0, 0]),
        Content::TcpData => bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]),
        Content::TcpSyn => bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]),
        Content::Echo => bytes = vec![if side == Side::V4 { 8 } else { 128 }, 0, 0, 0, 0, 0, 0, 0],
        Content::Unreachable => {
            bytes = if side == Side::V4 { vec![3, 3, 0, 0, 0, 0, 0, 0] } else { vec![1, 4, 0, 0, 0, 0, 0, 0] };
        }
    }
    let length = (bytes.len() + DATA).max(fill);
    bytes.resize(length, 0);
    bytes
}

/// A segment with the right checksum of the first flow, if it is TCP between `addresses`; other payloads unchanged.
fn with_checksum(mut segment: Vec<u8>, content: Content, addresses: &[u8]) -> Vec<u8> {
    if matches!(content, Content::TcpData | Content::TcpSyn) {
        let [high, low] = u16::try_from(segment.len()).expect("a small frame").to_be_bytes();
        let checksum = rfc_1071(&[addresses, &[0, protocol::TCP, high, low], &segment]);
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    }
    segment
}

/// Offset of the flow's bytes; in an ICMP packet those are identifier and sequence number.
fn ports_at(transport: usize, content: Content) -> u32 {
    offset(transport + if matches!(content, Content::Echo | Content::Unreachable) { 4 } else { 0 })
}

fn length(bytes: usize, shape: Shape) -> [u8; 2] {
    let wrong = if shape == Shape::CutOff { 100 } else { 0 };
    u16::try_from(bytes + wrong).expect("a small frame").to_be_bytes()
}

fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a small frame")
}
