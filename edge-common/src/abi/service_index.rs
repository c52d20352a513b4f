//! The service index: from a packet's destination to a service.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

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
pub(crate) const fn port_and_protocol(port: [u8; 2], protocol: u8) -> u32 {
    u16::from_le_bytes(port) as u32 | (protocol as u32) << 16
}

/// The service of a destination, and where its owners start.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Target {
    /// Service number, or [`VIP_ENTRY`].
    pub service: u32,
    /// First cell of the service in `OWNERS`, as its [`Service`] has it: a packet finds its owner without waiting for that.
    /// The highest bit is the position's own ([`Target::is_left`]), the next one is [`Target::by_source`].
    owners: u32,
}

impl Target {
    /// A VIP itself: whether it is an address of the host. It has no owners.
    pub const HOST: u32 = 1;
    /// Where in it that bit is, which changes while packets look.
    pub const HOST_AT: usize = offset_of!(Self, owners);

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

    /// A VIP itself, which is an address of the host or not.
    pub const fn vip(is_host: bool) -> Self {
        Self::new(VIP_ENTRY, if is_host { Self::HOST } else { 0 })
    }

    #[inline(always)]
    pub const fn is_vip(self) -> bool {
        self.service == VIP_ENTRY
    }

    /// The same VIP itself, as an address of the host or not.
    #[must_use]
    pub const fn with_host(self, is_host: bool) -> Self {
        Self { owners: self.owners & !Self::HOST | if is_host { Self::HOST } else { 0 }, ..self }
    }

    /// Of a VIP itself: whether it is an address of the host.
    #[inline(always)]
    pub const fn is_host(self) -> bool {
        self.owners & Self::HOST != 0
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

/// A position of the IPv4 service index. Each key stands at one of its two positions ([`Key::positions`](crate::lookup::service_index::Key::positions)).
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
