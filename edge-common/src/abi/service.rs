//! Services: the index from a packet's destination to a service, and what a service says about its packets.

use bytemuck::{Pod, Zeroable};

use crate::hash::HashKey;

/// Pools that one service can list.
pub const MAX_POOLS: usize = 8;

/// Service number of an index entry that marks a VIP itself (protocol ICMP or ICMPv6, port 0) and not a service on it.
pub const VIP_ENTRY: u32 = u32::MAX;

/// Destination of a packet, IPv4.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct ServiceKeyV4 {
    /// Virtual address, network order.
    pub vip: [u8; 4],
    /// Destination port, network order; 0 in the VIP's own entry.
    pub port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// 1 in a used entry and in every key that is looked up, 0 in an empty entry.
    pub used: u8,
}

/// Destination of a packet, IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct ServiceKeyV6 {
    /// Virtual address, network order.
    pub vip: [u8; 16],
    /// Destination port, network order; 0 in the VIP's own entry.
    pub port: [u8; 2],
    /// Upper-layer protocol number.
    pub protocol: u8,
    /// 1 in a used entry and in every key that is looked up, 0 in an empty entry.
    pub used: u8,
    /// Zero.
    pub reserved: [u8; 4],
}

impl ServiceKeyV4 {
    #[inline(always)]
    pub const fn new(vip: [u8; 4], port: [u8; 2], protocol: u8) -> Self {
        Self { vip, port, protocol, used: 1 }
    }

    /// The two positions at which this key can stand.
    #[inline(always)]
    pub const fn positions(&self, key: &HashKey, mask: u32) -> [u32; 2] {
        key.hash_v4(self.vip, port_and_protocol(self.port, self.protocol)).index_positions(mask)
    }

    /// Whether `self` and `other` are the same; in one comparison, not one for each byte.
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        self.word() == other.word()
    }

    #[inline(always)]
    const fn word(self) -> u64 {
        u32::from_le_bytes(self.vip) as u64
            | (port_and_protocol(self.port, self.protocol) as u64) << 32
            | (self.used as u64) << 56
    }
}

impl ServiceKeyV6 {
    #[inline(always)]
    pub const fn new(vip: [u8; 16], port: [u8; 2], protocol: u8) -> Self {
        Self { vip, port, protocol, used: 1, reserved: [0; 4] }
    }

    /// The two positions at which this key can stand.
    #[inline(always)]
    pub const fn positions(&self, key: &HashKey, mask: u32) -> [u32; 2] {
        key.hash_v6(self.vip, port_and_protocol(self.port, self.protocol)).index_positions(mask)
    }

    /// Whether `self` and `other` are the same; in few comparisons, not one for each byte.
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        u128::from_ne_bytes(self.vip) == u128::from_ne_bytes(other.vip) && self.rest() == other.rest()
    }

    #[inline(always)]
    const fn rest(&self) -> u32 {
        port_and_protocol(self.port, self.protocol) | (self.used as u32) << 24
    }
}

/// Both in one word, whose last byte is zero. Put together by shifts: from four bytes it would be, byte by byte.
#[inline(always)]
const fn port_and_protocol(port: [u8; 2], protocol: u8) -> u32 {
    u16::from_le_bytes(port) as u32 | (protocol as u32) << 16
}

/// What the service index says of a destination.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Target {
    /// Service number, or [`VIP_ENTRY`].
    pub service: u32,
    /// First cell of the service in `OWNERS`, as its [`Service`] has it: a packet finds its owner without waiting for that.
    /// The highest bit is the position's own ([`Target::is_left`]), the next one says [`Target::by_source`].
    owners: u32,
}

impl Target {
    const LEFT: u32 = 1 << 31;
    const BY_SOURCE: u32 = 1 << 30;
    const OWNERS: u32 = Self::BY_SOURCE - 1;

    /// `owners` is below 2^30; 0 for a VIP's own entry.
    pub const fn new(service: u32, owners: u32) -> Self {
        Self { service, owners: owners & Self::OWNERS }
    }

    /// The same for a service whose flows are hashed by their client's address alone.
    #[must_use]
    pub const fn hashed_by_source(self) -> Self {
        Self { owners: self.owners | Self::BY_SOURCE, ..self }
    }

    #[inline(always)]
    pub const fn owners(self) -> u32 {
        self.owners & Self::OWNERS
    }

    /// Whether flows are hashed by their client's address alone, and not by ports.
    #[inline(always)]
    pub const fn by_source(self) -> bool {
        self.owners & Self::BY_SOURCE != 0
    }

    /// Whether some key whose first position this is stands at its second one: only then need that be looked at.
    #[inline(always)]
    pub const fn is_left(self) -> bool {
        self.owners & Self::LEFT != 0
    }

    /// In one word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        (self.owners as u64) << 32 | self.service as u64
    }

    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { service: word as u32, owners: (word >> 32) as u32 }
    }

    pub const fn leave(&mut self) {
        self.owners |= Self::LEFT;
    }
}

/// A position of the IPv4 service index. Each key stands at one of its two positions ([`ServiceKeyV4::positions`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceEntryV4 {
    pub key: ServiceKeyV4,
    pub target: Target,
}

/// A position of the IPv6 service index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceEntryV6 {
    pub key: ServiceKeyV6,
    pub target: Target,
}

/// How a packet reaches its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Rewrites the MAC addresses; the backend is on the edge's own L2 network.
    Dsr = 1,
    /// Encapsulates in IPv4 or IPv6 (protocol 4 or 41); the backend is anywhere.
    Ipip = 2,
}

impl Mode {
    #[inline(always)]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::Dsr),
            2 => Some(Self::Ipip),
            _ => None,
        }
    }
}

/// What becomes of a packet when no backend takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum WhenExhausted {
    /// Use the backends that are not administratively disabled as if they were up.
    #[default]
    Open = 1,
    /// Answer with a TCP RST, an ICMP or an ICMPv6 port unreachable.
    Reject = 2,
    /// Drop.
    Drop = 3,
}

impl WhenExhausted {
    /// The policy that `raw` stands for. Doubt keeps traffic flowing: an unknown value is `Open`.
    #[inline(always)]
    pub const fn from_raw(raw: u8) -> Self {
        match raw {
            2 => Self::Reject,
            3 => Self::Drop,
            _ => Self::Open,
        }
    }
}

/// A service as the packet path needs it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Service {
    /// Bits of [`Failover`]; changes within a generation with one atomic store.
    pub failover: u32,
    /// First cell of this service in `OWNERS`.
    pub owners: u32,
    /// Numbers of its pools in order of priority; only the first `pool_count` count.
    pub pools: [u16; MAX_POOLS],
    /// How many pools it has, 1 to [`MAX_POOLS`].
    pub pool_count: u8,
    /// A [`Mode`].
    pub mode: u8,
    /// A [`WhenExhausted`].
    pub when_exhausted: u8,
    /// A [`Tracking`].
    pub tracking: u8,
    /// Whether the service is in transition. 0 only while each slot's owner is also its pick and no flow is recorded: packets
    /// then look up neither. The controller sets it before each change that could make a slot's owner and pick differ, and the
    /// packet path before it records a flow; only the controller clears it. Each with one atomic store. Setting it needlessly
    /// is safe; it only costs a lookup.
    pub in_transition: u32,
    /// With [`Target::by_source`]: how many leading bits of the client's address are hashed.
    pub affinity_prefix: u8,
    /// Zero.
    pub reserved: [u8; 15],
}

/// How the flows of a service are told from each other in time, and so which of them can be recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Tracking {
    /// Not at all: nothing is recorded, and each packet goes where a flow that starts now would go.
    #[default]
    Stateless = 1,
    /// TCP: a SYN without ACK starts a flow.
    Tcp = 2,
    /// QUIC: an Initial packet starts a flow.
    Quic = 3,
    /// No packet says that it starts a flow: those that were not seen while there was time to learn of them are new.
    Learn = 4,
}

impl Tracking {
    #[inline(always)]
    pub const fn from_raw(raw: u8) -> Self {
        match raw {
            2 => Self::Tcp,
            3 => Self::Quic,
            4 => Self::Learn,
            _ => Self::Stateless,
        }
    }
}

/// Which pools of a service an operator has taken out of it: all that stand before `first`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failover {
    /// Position (not number) of the first pool that takes new flows; 0: no failover.
    pub first: u8,
    /// Whether the pools before `first` lose their running flows, too.
    pub evacuate: bool,
}

impl Failover {
    const EVACUATE: u32 = 1 << 8;

    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        Self { first: (raw & 0xff) as u8, evacuate: raw & Self::EVACUATE != 0 }
    }

    pub const fn to_raw(self) -> u32 {
        self.first as u32 | if self.evacuate { Self::EVACUATE } else { 0 }
    }
}
