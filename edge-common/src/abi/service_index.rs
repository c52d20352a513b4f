//! The service index: from a packet's destination to a service.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::{Mode, Tracking};

/// Service number of an index entry that marks a VIP itself (protocol ICMP or ICMPv6, port 0) and not a service on it.
pub const VIP_ENTRY: u16 = u16::MAX;

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

    /// Whether `self` and `other` are the same; in few comparisons, not one for each byte.
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        u32::from_ne_bytes(self.vip) == u32::from_ne_bytes(other.vip) && self.rest() == other.rest()
    }

    /// All but the address, which is hashed with it.
    #[inline(always)]
    pub(crate) const fn rest(self) -> u32 {
        rest(self.port, self.protocol, self.used)
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
        let ([high, low], [other_high, other_low]) = (halves(self.vip), halves(other.vip));
        low == other_low && high == other_high && self.rest() == other.rest()
    }

    /// All but the address, which is hashed with it.
    #[inline(always)]
    pub(crate) const fn rest(&self) -> u32 {
        rest(self.port, self.protocol, self.used)
    }
}

/// The two halves of an address, lowest byte first.
#[inline(always)]
pub(crate) const fn halves(address: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
    [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p])]
}

/// Port, protocol and the mark of a used entry as the word that they are in a key. Put together by shifts: from four bytes it
/// would be, byte by byte.
#[inline(always)]
const fn rest(port: [u8; 2], protocol: u8, used: u8) -> u32 {
    u16::from_le_bytes(port) as u32 | (protocol as u32) << 16 | (used as u32) << 24
}

/// What a packet has to know of its destination before it has read anything else: the service, how its flows are hashed and
/// tracked, in which mode its packets go to backends, and where its slots stand.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Target {
    /// From the lowest bit: 16 of the service number, or [`VIP_ENTRY`]; 8 of [`Target::affinity_prefix`]; 2 of a [`Tracking`];
    /// 2 of a [`Mode`]; 4 of 20 less the binary logarithm of the service's slots. One word, which a subprogram takes in a register.
    flows: u32,
    /// First cell of the service in `SLOTS`, as its [`Service`](super::Service) has it: a packet finds its owner without waiting
    /// for that. The lowest bit is the position's own ([`Target::is_left`]): a shift alone takes it away. The highest two say
    /// [`Mode::Nat`] and [`Target::is_by_connection`]: with one of them the cell is none that `SLOTS` has, so that a packet that looks
    /// for its slot's owner need not ask first.
    slots: u32,
}

impl Target {
    /// A VIP itself: whether it is an address of the host. It has no slots.
    pub const HOST: u32 = 1 << Self::CELL_SHIFT;
    /// Where in it that bit is, which changes while packets look.
    pub const HOST_AT: usize = offset_of!(Self, slots);

    const LEFT: u32 = 1;
    const BY_CONNECTION: u32 = 1 << 30;
    const TRANSLATED: u32 = 1 << 31;
    const CELL_SHIFT: u32 = 1;
    const PREFIX_SHIFT: u32 = 16;
    const TRACKING_SHIFT: u32 = 24;
    const MODE_SHIFT: u32 = 26;
    const SLOTS_SHIFT: u32 = 28;
    /// Two bits of a mode; none is [`Mode::Dsr`], or [`Mode::Nat`].
    const IPIP: u32 = 1 << Self::MODE_SHIFT;
    const GUE: u32 = 2 << Self::MODE_SHIFT;
    const RANGE: u32 = 3 << Self::MODE_SHIFT;
    const MODES: u32 = 3 << Self::MODE_SHIFT;
    /// The most slots that a service can have, as a power of two.
    const MOST_SLOTS: u32 = 20;

    /// `count` of slots is a power of two from 32 to 1,048,576, and their first cell below 2^29.
    pub const fn new(service: u16, count: u32, first: u32) -> Self {
        // What has no slots has fewer.
        let fewer = Self::MOST_SLOTS.saturating_sub(count.ilog2());
        let fewer = if fewer > 15 { 15 } else { fewer };
        Self { flows: fewer << Self::SLOTS_SHIFT | service as u32, slots: first << Self::CELL_SHIFT }
    }

    /// The same with flows that are tracked in this way, and hashed by addresses and ports or by a prefix of the client's
    /// address alone.
    #[must_use]
    pub const fn with_flows(self, tracking: Tracking, affinity_prefix: Option<u8>) -> Self {
        let prefix = match affinity_prefix {
            Some(prefix) => prefix as u32,
            None => 0,
        };
        let rest = self.flows & (u32::MAX << Self::MODE_SHIFT | 0xffff);
        Self { flows: rest | Self::raw(tracking) << Self::TRACKING_SHIFT | prefix << Self::PREFIX_SHIFT, ..self }
    }

    /// The same with packets that go to backends in this mode.
    #[must_use]
    pub const fn with_mode(self, mode: Mode) -> Self {
        let rest = self.flows & !Self::MODES;
        let (bit, translated) = match mode {
            Mode::Dsr => (0, 0),
            Mode::Ipip => (Self::IPIP, 0),
            Mode::Gue => (Self::GUE, 0),
            Mode::IpipRange => (Self::RANGE, 0),
            Mode::Nat => (0, Self::TRANSLATED),
        };
        Self { flows: rest | bit, slots: self.slots & !Self::TRANSLATED | translated }
    }

    /// The same with packets that go where their connection IDs say ([`Service::cid_length`](super::Service::cid_length)). Its
    /// slots stand where no map has any: so a packet finds no stable owner, and no other one pays for being asked.
    #[must_use]
    pub const fn by_connection(self) -> Self {
        Self { slots: self.slots | Self::BY_CONNECTION, ..self }
    }

    #[inline(always)]
    pub const fn is_by_connection(self) -> bool {
        self.slots & Self::BY_CONNECTION != 0
    }

    /// The same with packets that go by their addresses.
    #[inline(always)]
    #[must_use]
    pub const fn by_address(self) -> Self {
        Self { slots: self.slots & !Self::BY_CONNECTION, ..self }
    }

    /// How packets go to backends.
    #[inline(always)]
    pub const fn mode(self) -> Mode {
        if self.is_translated() { Mode::Nat } else { self.untranslated_mode() }
    }

    /// The same, if it is not [`Mode::Nat`].
    #[inline(always)]
    pub const fn untranslated_mode(self) -> Mode {
        match self.flows & Self::MODES {
            Self::IPIP => Mode::Ipip,
            0 => Mode::Dsr,
            Self::GUE => Mode::Gue,
            _ => Mode::IpipRange,
        }
    }

    /// Whether its packets go to backends in [`Mode::Nat`], which the flow's entry decides about and not its slot.
    #[inline(always)]
    pub const fn is_translated(self) -> bool {
        self.slots & Self::TRANSLATED != 0
    }

    /// The same service, of whose flows the slot's pick decides alone.
    #[inline(always)]
    #[must_use]
    pub const fn stateless(self) -> Self {
        Self {
            flows: self.flows & !(3 << Self::TRACKING_SHIFT) | Self::raw(Tracking::Stateless) << Self::TRACKING_SHIFT,
            slots: self.slots & !(Self::TRANSLATED | Self::BY_CONNECTION),
        }
    }

    /// Two bits.
    #[inline(always)]
    const fn raw(tracking: Tracking) -> u32 {
        (tracking as u32).wrapping_sub(Tracking::Stateless as u32)
    }

    #[inline(always)]
    pub const fn service(self) -> u32 {
        self.flows & 0xffff
    }

    /// 0: flows are hashed by addresses and ports; otherwise only by as many leading bits of the client's address.
    #[inline(always)]
    pub const fn affinity_prefix(self) -> u8 {
        (self.flows >> Self::PREFIX_SHIFT) as u8
    }

    /// Whether [`Self::affinity_prefix`] is 0.
    #[inline(always)]
    pub const fn is_hashed_by_ports(self) -> bool {
        self.flows & 0xff << Self::PREFIX_SHIFT == 0
    }

    /// Whether flows are tracked in this way.
    #[inline(always)]
    pub const fn tracks(self, tracking: Tracking) -> bool {
        self.flows >> Self::TRACKING_SHIFT & 3 == Self::raw(tracking)
    }

    /// How flows are tracked.
    #[inline(always)]
    pub const fn tracking(self) -> Tracking {
        match self.flows >> Self::TRACKING_SHIFT & 3 {
            0 => Tracking::Stateless,
            1 => Tracking::Tcp,
            2 => Tracking::Quic,
            _ => Tracking::Learn,
        }
    }

    /// Slots of the service, less one.
    #[inline(always)]
    pub const fn slot_mask(self) -> u32 {
        ((1 << Self::MOST_SLOTS) - 1) >> (self.flows >> Self::SLOTS_SHIFT)
    }

    /// A VIP itself, which is an address of the host or not.
    pub const fn vip(is_host: bool) -> Self {
        Self::new(VIP_ENTRY, 1, 0).with_host(is_host)
    }

    #[inline(always)]
    pub const fn is_vip(self) -> bool {
        self.service() == VIP_ENTRY as u32
    }

    /// The same VIP itself, as an address of the host or not.
    #[must_use]
    pub const fn with_host(self, is_host: bool) -> Self {
        Self { slots: self.slots & !Self::HOST | if is_host { Self::HOST } else { 0 }, ..self }
    }

    /// Of a VIP itself: whether it is an address of the host.
    #[inline(always)]
    pub const fn is_host(self) -> bool {
        self.slots & Self::HOST != 0
    }

    #[inline(always)]
    pub const fn slots(self) -> u32 {
        self.slots >> Self::CELL_SHIFT
    }

    /// Whether some key whose first position this is stands at its second one: only then need that be looked at.
    #[inline(always)]
    pub const fn is_left(self) -> bool {
        self.slots & Self::LEFT != 0
    }

    /// In one word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        (self.slots as u64) << 32 | self.flows as u64
    }

    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { flows: word as u32, slots: (word >> 32) as u32 }
    }

    pub const fn leave(&mut self) {
        self.slots |= Self::LEFT;
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
