//! Published generations: the values of a configuration that apply to every packet.

use bytemuck::{Pod, Zeroable};

use super::{HashKey, Station};

/// Maximum number of stations: pairs of an interface and a MAC address at which frames are accepted.
pub const MAX_STATIONS: usize = 16;

/// Both generations, and which of them is active. One value, so that a packet finds it by one lookup.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Published {
    /// The active bank, 0 or 1. One store to this field publishes a configuration.
    pub active: u32,
    /// Counts publications and failovers, so that a writer that slept can see that its plan is stale. Packets don't read it.
    pub edition: u32,
    pub generations: [Generation; 2],
}

/// One complete, validated, published configuration, as the packet path needs it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Generation {
    /// Count of published configurations; 0 before the first one, while no packet is for a service.
    pub number: u64,
    /// Key of the flow hash and of the service index; equal on every edge with the same configuration.
    pub hash_key: HashKey,
    /// Number of positions per bank of `SERVICE_INDEX_V4` in use, less one; a power of two less one.
    pub index_mask_v4: u32,
    /// The same for `SERVICE_INDEX_V6`.
    pub index_mask_v6: u32,
    /// 1 if some service takes every port of a VIP, so that a packet to a VIP may be for that service though no entry has
    /// its port; else 0.
    pub any_port: u16,
    /// 1 if some service translates addresses, so that a packet to a source of translated packets may be an answer; else 0.
    pub translates: u16,
    /// Outer source address of IPv4 tunnels, network order; all zero if there is none.
    pub tunnel_source_v4: [u8; 4],
    /// Outer source address of IPv6 tunnels, network order; all zero if there is none.
    pub tunnel_source_v6: [u8; 16],
    /// The MAC addresses, with their interfaces, at which frames are accepted; all others are not. Unused stations are
    /// zero. The first station of an interface is its own address, from which answers are sent. The controller changes
    /// stations as the interfaces change, whichever bank is active.
    pub stations: [Station; MAX_STATIONS],
    /// Rate limit on recording new flows, per second; recording established flows has another limit of the same size.
    pub records_per_second: u32,
    /// Rate limits on the answers of each kind, per second.
    pub answers_per_second: AnswerLimits,
    /// Rate limit on recording the first fragments of packets, per second.
    pub first_fragments_per_second: u32,
    /// Action for a packet to a VIP that is no address of the host, and to no service: a [`VipOther`].
    pub vip_other: u32,
    /// The bits of all VIPs ([`Lookup::vip_bit`](crate::lookup::Lookup::vip_bit)): they spare most packets of no service a
    /// second lookup, for the VIP itself.
    pub vip_bits: u64,
    /// In `ipip`, the bits of the source address that each flow chooses within `tunnel_range_v4`, as they stand in a frame;
    /// 0 if there is no range, and all packets have the same source.
    pub tunnel_hosts_v4: u32,
    /// As `tunnel_hosts_v4`, for the last four bytes of `tunnel_range_v6`.
    pub tunnel_hosts_v6: u32,
    /// Outer source of packets in `ipip` over IPv4, network order: a prefix, or the tunnel source; all zero if there is none.
    pub tunnel_range_v4: [u8; 4],
    /// Destination port (UDP) of packets in `gue`, network order.
    pub gue_port: [u8; 2],
    /// 0 if packets in `gue` have a header of their own after the UDP header; 1 if they follow the UDP header directly.
    pub gue_variant: u16,
    /// As `tunnel_range_v4`, over IPv6.
    pub tunnel_range_v6: [u8; 16],
    /// Zero.
    pub reserved: [[u8; 32]; 7],
}

// A power of two, which saves the packet path a multiplication.
const _: () = assert!(size_of::<Generation>() == 512);

/// Action for packets to a VIP that is no address of the host, and to no service on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum VipOther {
    /// Answers like a host without such a service.
    #[default]
    Reject,
    /// Drops the packet.
    Drop,
    /// Passes the packet to the host, as if the VIP were its address.
    Host,
}

impl VipOther {
    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        match raw {
            1 => Self::Drop,
            2 => Self::Host,
            _ => Self::Reject,
        }
    }
}

/// Rate limits per second for each kind of packet that the edge itself makes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct AnswerLimits {
    /// ICMP and ICMPv6 port unreachable.
    pub unreachable: u32,
    /// ICMP and ICMPv6 time exceeded.
    pub time_exceeded: u32,
    /// ICMP fragmentation needed, ICMPv6 packet too big.
    pub too_big: u32,
    /// TCP RST.
    pub resets: u32,
    /// ICMP and ICMPv6 echo replies.
    pub echo_replies: u32,
}

impl AnswerLimits {
    /// The same limit for every kind.
    pub const fn all(limit: u32) -> Self {
        Self { unreachable: limit, time_exceeded: limit, too_big: limit, resets: limit, echo_replies: limit }
    }
}
