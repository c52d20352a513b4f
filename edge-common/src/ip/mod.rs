//! The network layer: what the packet path needs of an IPv4 or IPv6 packet, once for each family.

mod v4;
mod v6;

pub use v4::{DONT_FRAGMENT, V4};
pub use v6::V6;

use crate::{
    hash::{Hash, HashKey},
    packet::{Packet, Wire},
    tables::{Tables, View},
};

/// Protocol numbers.
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const IPV4: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const ICMPV6: u8 = 58;
}

/// TTL and hop limit of the packets that we make.
pub const DEFAULT_TTL: u8 = 64;

/// Where the transport header of a packet is, and which.
#[derive(Clone, Copy)]
pub struct Transport {
    pub protocol: u8,
    /// Offset in the frame.
    pub offset: usize,
}

/// What stands between the network header and its transport header.
#[derive(Clone, Copy)]
pub enum Payload {
    /// A transport header, which may still be cut off.
    Transport(Transport),
    /// A fragment: what follows need not be a transport header.
    Fragment,
    /// More extension headers than are looked through, or one that hides the transport.
    Hidden,
    /// A header that contradicts itself or the frame.
    Malformed,
}

/// An address family: its header, and what differs with it.
pub trait Family {
    type Header: Wire;

    /// Protocol number of its ICMP.
    const ICMP: u8;
    /// Protocol number of its packets inside another.
    const TUNNELLED: u8;
    /// EtherType, as it stands in a frame.
    const ETHER_TYPE: u16;

    /// Finds the transport header behind `header`, which stands at `l3`.
    fn payload<P: Packet>(packet: &P, l3: usize, header: &Self::Header) -> Payload;

    /// Length of the IP packet, header included, as its header says it; bytes.
    fn length(header: &Self::Header) -> usize;

    /// TTL or hop limit.
    fn ttl(header: &Self::Header) -> u8;

    /// Takes one off the TTL of the header at `l3`.
    fn decrement_ttl<P: Packet>(packet: &mut P, l3: usize) -> Option<()>;

    /// DSCP and ECN: the TOS byte, the traffic class.
    fn tos(header: &Self::Header) -> u8;

    /// Whether routers on the way must not fragment the packet.
    fn dont_fragment(header: &Self::Header) -> bool;

    /// Whether the source is a single host that can be answered.
    fn answerable(header: &Self::Header) -> bool;

    /// Looks the destination, with `port` (network order) and `protocol`, up in the service index: the service's number,
    /// or [`VIP_ENTRY`](crate::abi::VIP_ENTRY).
    fn find<T: Tables>(tables: &T, view: View<'_>, header: &Self::Header, port: [u8; 2], protocol: u8) -> Option<u32>;

    /// Hash of the flow from the source, its `ports` as they stand in the transport header.
    fn flow(key: &HashKey, header: &Self::Header, ports: [u8; 4]) -> Hash;
}
