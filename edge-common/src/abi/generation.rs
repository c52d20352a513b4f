//! What is published, and what one published configuration fixes for every packet.

use bytemuck::{Pod, Zeroable};

use super::{HashKey, Station};

/// Interfaces times MAC addresses at which frames are taken.
pub const MAX_STATIONS: usize = 16;

/// The two banks, and which of them is published. One value, so that a packet finds it by one lookup.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Published {
    /// The bank that packets use, 0 or 1: the one store that publishes a configuration.
    pub active: u32,
    /// Counts publications and failovers, so that a writer that slept can see that its plan is stale. Packets don't read it.
    pub edition: u32,
    pub generations: [Generation; 2],
}

/// One complete, validated, published configuration, as the packet path needs it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Generation {
    /// Counts published configurations; 0: none was published yet, and nothing is ours.
    pub number: u64,
    /// Key of the flow hash and of the service index; equal on every edge with the same configuration.
    pub hash_key: HashKey,
    /// Positions per bank of `SERVICE_INDEX_V4` in use, less one; a power of two less one.
    pub index_mask_v4: u32,
    /// The same for `SERVICE_INDEX_V6`.
    pub index_mask_v6: u32,
    /// 1: some service takes every port of a VIP, so that a packet to a VIP may be for it where no entry has its port; else 0.
    pub any_port: u16,
    /// 1: some service translates addresses, so that a packet to a source of translated packets may be an answer; else 0.
    pub translates: u16,
    /// Outer source address of IPv4 tunnels, network order; all zero: none.
    pub tunnel_source_v4: [u8; 4],
    /// Outer source address of IPv6 tunnels, network order; all zero: none.
    pub tunnel_source_v6: [u8; 16],
    /// Where frames are taken: at these MAC addresses of these interfaces, and at no other. What is not used is zero. The
    /// first of an interface is its own address, which answers come from. The controller changes them as the interfaces change,
    /// whatever bank is active.
    pub stations: [Station; MAX_STATIONS],
    /// How many flows may be recorded in a second when they start, and as many again of those that run.
    pub records_per_second: u32,
    /// How many answers of each kind may be sent in a second.
    pub answers_per_second: AnswerLimits,
    /// How many first fragments of packets may be remembered in a second.
    pub first_fragments_per_second: u32,
    /// What becomes of a packet that is for no service, but for a VIP that is no address of the host: a [`VipOther`].
    pub vip_other: u32,
    /// A bit for each VIP ([`Lookup::vip_bit`](crate::lookup::Lookup::vip_bit)): few packets that are not ours are looked up a
    /// second time, to see whether they are for a VIP.
    pub vip_bits: u64,
    /// In `ipip` the part of `tunnel_range_v4` that each flow chooses, as it stands in a frame; 0: none, all packets come from it.
    pub tunnel_hosts_v4: u32,
    /// The same of the last four bytes of `tunnel_range_v6`.
    pub tunnel_hosts_v6: u32,
    /// Where packets in `ipip` come from over IPv4, network order: a prefix, or the tunnel source; all zero: none.
    pub tunnel_range_v4: [u8; 4],
    /// UDP port that packets in `gue` are sent to, network order.
    pub gue_port: [u8; 2],
    /// 0: packets in `gue` have a header of their own behind that of UDP; 1: they follow it directly.
    pub gue_variant: u16,
    /// As `tunnel_range_v4`, over IPv6.
    pub tunnel_range_v6: [u8; 16],
    /// Zero.
    pub reserved: [[u8; 32]; 7],
}

// A power of two, which saves a packet a multiplication.
const _: () = assert!(size_of::<Generation>() == 512);

/// What becomes of packets to a VIP that is no address of the host, and to no service on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum VipOther {
    /// They are answered as by a host that has no such service.
    #[default]
    Reject,
    /// They are dropped.
    Drop,
    /// The host receives them, as if the VIP were its address.
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

/// A limit for each kind of packet that the edge makes itself.
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
