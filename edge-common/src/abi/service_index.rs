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

    /// Whether the keys are equal, in few comparisons instead of one for each byte.
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        u32::from_ne_bytes(self.vip) == u32::from_ne_bytes(other.vip) && self.rest() == other.rest()
    }

    /// The key without its address, which is hashed together with it.
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

    /// Whether the keys are equal, in few comparisons instead of one for each byte.
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        let ([high, low], [other_high, other_low]) = (halves(self.vip), halves(other.vip));
        low == other_low && high == other_high && self.rest() == other.rest()
    }

    /// The key without its address, which is hashed together with it.
    #[inline(always)]
    pub(crate) const fn rest(&self) -> u32 {
        rest(self.port, self.protocol, self.used)
    }
}

/// The two halves of an address, as little-endian words.
#[inline(always)]
pub(crate) const fn halves(address: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
    [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p])]
}

/// Port, protocol and `used` as the word that they form in a key. By shifts, since an array of four bytes would be put
/// together byte by byte.
#[inline(always)]
const fn rest(port: [u8; 2], protocol: u8, used: u8) -> u32 {
    u16::from_le_bytes(port) as u32 | (protocol as u32) << 16 | (used as u32) << 24
}

/// The service index's answer about a destination: the service, how its flows are hashed and tracked, its forwarding mode,
/// and the position of its slots. A packet needs all of this before it reads anything else.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceRef {
    /// From the lowest bit: 16 of the service number, or [`VIP_ENTRY`]; 8 of [`ServiceRef::affinity_prefix`]; 2 of a
    /// [`Tracking`]; 2 of a [`Mode`]; 4 of 20 less the binary logarithm of the service's slots. One word, which a
    /// subprogram takes in a register.
    flows: u32,
    /// First cell in `SLOTS` from which the service's packets find their slots' owners, so that they need not wait for
    /// the service: that of its own slots, as in its [`Service`](super::Service), or, while all of these are stable, that
    /// of a table with the same owners, which packets of several services read and none changes. The lowest bit belongs
    /// to the position in the index ([`ServiceRef::is_left`]): a shift alone removes it. The highest two bits mark
    /// [`Mode::Nat`] and [`ServiceRef::is_by_connection`]: with either of them the cell is outside `SLOTS`, so that the
    /// lookup of a slot's owner fails and no packet has to check them first.
    slots: u32,
}

impl ServiceRef {
    /// Bit of a VIP's own entry, which has no slots: the VIP is an address of the host.
    pub const HOST: u32 = 1 << Self::CELL_SHIFT;
    /// Offset of the word that changes while packets read it: the position of the slots, or in a VIP's own entry the bit
    /// [`Self::HOST`].
    pub const SLOTS_AT: usize = offset_of!(Self, slots);

    const LEFT: u32 = 1;
    const BY_CONNECTION: u32 = 1 << 30;
    const TRANSLATED: u32 = 1 << 31;
    const CELL_SHIFT: u32 = 1;
    const PREFIX_SHIFT: u32 = 16;
    const TRACKING_SHIFT: u32 = 24;
    const MODE_SHIFT: u32 = 26;
    const SLOTS_SHIFT: u32 = 28;
    /// The two bits of the mode; neither is set for [`Mode::Dsr`] and [`Mode::Nat`].
    const IPIP: u32 = 1 << Self::MODE_SHIFT;
    const GUE: u32 = 2 << Self::MODE_SHIFT;
    const RANGE: u32 = 3 << Self::MODE_SHIFT;
    const MODES: u32 = 3 << Self::MODE_SHIFT;
    /// The most slots that a service can have, as a power of two.
    const MOST_SLOTS: u32 = 20;

    /// The reference to a service. `count`, the number of slots, is a power of two from 32 to 1,048,576; `first`, their first
    /// cell, is below 2^29.
    pub const fn new(service: u16, count: u32, first: u32) -> Self {
        // A VIP's own entry has fewer than 32 slots.
        let fewer = Self::MOST_SLOTS.saturating_sub(count.ilog2());
        let fewer = if fewer > 15 { 15 } else { fewer };
        Self { flows: fewer << Self::SLOTS_SHIFT | service as u32, slots: first << Self::CELL_SHIFT }
    }

    /// Sets how flows are tracked, and whether they are hashed by addresses and ports or by a prefix of the client's
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

    /// Sets the forwarding mode.
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

    /// Marks a service whose packets go where their connection IDs say
    /// ([`Service::cid_length`](super::Service::cid_length)). The position of its slots is outside `SLOTS`: a packet finds
    /// no stable owner there, and other services do without a check.
    #[must_use]
    pub const fn by_connection(self) -> Self {
        Self { slots: self.slots | Self::BY_CONNECTION, ..self }
    }

    #[inline(always)]
    pub const fn is_by_connection(self) -> bool {
        self.slots & Self::BY_CONNECTION != 0
    }

    /// The same service, with packets that are forwarded by their addresses.
    #[inline(always)]
    #[must_use]
    pub const fn by_address(self) -> Self {
        Self { slots: self.slots & !Self::BY_CONNECTION, ..self }
    }

    /// The forwarding mode.
    #[inline(always)]
    pub const fn mode(self) -> Mode {
        if self.is_translated() { Mode::Nat } else { self.untranslated_mode() }
    }

    /// The forwarding mode of a service that is not in [`Mode::Nat`].
    #[inline(always)]
    pub const fn untranslated_mode(self) -> Mode {
        match self.flows & Self::MODES {
            Self::IPIP => Mode::Ipip,
            0 => Mode::Dsr,
            Self::GUE => Mode::Gue,
            _ => Mode::IpipRange,
        }
    }

    /// Whether the mode is [`Mode::Nat`], in which the flow's entry decides and not its slot.
    #[inline(always)]
    pub const fn is_translated(self) -> bool {
        self.slots & Self::TRANSLATED != 0
    }

    /// The same service without tracking: the slot's pick alone decides about each packet.
    #[inline(always)]
    #[must_use]
    pub const fn stateless(self) -> Self {
        Self {
            flows: self.flows & !(3 << Self::TRACKING_SHIFT) | Self::raw(Tracking::Stateless) << Self::TRACKING_SHIFT,
            slots: self.slots & !(Self::TRANSLATED | Self::BY_CONNECTION),
        }
    }

    /// A [`Tracking`] in two bits.
    #[inline(always)]
    const fn raw(tracking: Tracking) -> u32 {
        (tracking as u32).wrapping_sub(Tracking::Stateless as u32)
    }

    #[inline(always)]
    pub const fn service(self) -> u32 {
        self.flows & 0xffff
    }

    /// Number of leading bits of the client's address by which flows are hashed; 0 if they are hashed by addresses and ports.
    #[inline(always)]
    pub const fn affinity_prefix(self) -> u8 {
        (self.flows >> Self::PREFIX_SHIFT) as u8
    }

    /// Whether [`Self::affinity_prefix`] is 0.
    #[inline(always)]
    pub const fn is_hashed_by_ports(self) -> bool {
        self.flows & 0xff << Self::PREFIX_SHIFT == 0
    }

    /// Whether [`Self::tracking`] is this one.
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

    /// Number of the service's slots less one.
    #[inline(always)]
    pub const fn slot_mask(self) -> u32 {
        ((1 << Self::MOST_SLOTS) - 1) >> (self.flows >> Self::SLOTS_SHIFT)
    }

    /// The reference in a VIP's own entry, for a VIP that is an address of the host or not.
    pub const fn vip(is_host: bool) -> Self {
        Self::new(VIP_ENTRY, 1, 0).with_host(is_host)
    }

    #[inline(always)]
    pub const fn is_vip(self) -> bool {
        self.service() == VIP_ENTRY as u32
    }

    /// Sets whether the VIP of this entry is an address of the host.
    #[must_use]
    pub const fn with_host(self, is_host: bool) -> Self {
        Self { slots: self.slots & !Self::HOST | if is_host { Self::HOST } else { 0 }, ..self }
    }

    /// In a VIP's own entry: whether the VIP is an address of the host.
    #[inline(always)]
    pub const fn is_host(self) -> bool {
        self.slots & Self::HOST != 0
    }

    /// The same service, whose packets find their slots' owners from the cell `first` on.
    #[must_use]
    pub const fn with_slots(self, first: u32) -> Self {
        Self { slots: Self::slots_word(self.slots, first), ..self }
    }

    /// The word at [`Self::SLOTS_AT`] with another position of the slots.
    pub const fn slots_word(word: u32, first: u32) -> u32 {
        word & (Self::LEFT | Self::BY_CONNECTION | Self::TRANSLATED) | first << Self::CELL_SHIFT
    }

    #[inline(always)]
    pub const fn slots(self) -> u32 {
        self.slots >> Self::CELL_SHIFT
    }

    /// Whether some key with this first position is stored at its second one; only then a lookup must read the second one.
    #[inline(always)]
    pub const fn is_left(self) -> bool {
        self.slots & Self::LEFT != 0
    }

    /// Both fields in one word.
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

/// An entry of the IPv4 service index. Each key is stored at one of its two positions
/// ([`Key::positions`](crate::lookup::service_index::Key::positions)).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceEntryV4 {
    pub key: ServiceKeyV4,
    pub service_ref: ServiceRef,
}

/// An entry of the IPv6 service index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceEntryV6 {
    pub key: ServiceKeyV6,
    pub service_ref: ServiceRef,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_reference_holds_what_was_put_in(
            service: u16, slots in 5u32..=20, first in 0u32..1 << 29, prefix in proptest::option::of(1u8..=128),
            tracking in 0usize..4, mode in proptest::sample::select(Mode::ALL.to_vec()), by_connection: bool,
        ) {
            let tracking = [Tracking::Stateless, Tracking::Tcp, Tracking::Quic, Tracking::Learn][tracking];
            let plain = ServiceRef::new(service, 1 << slots, first).with_flows(tracking, prefix).with_mode(mode);
            let made = if by_connection { plain.by_connection() } else { plain };
            prop_assert_eq!((made.service(), made.mode(), made.tracking()), (service.into(), mode, tracking));
            prop_assert_eq!((made.affinity_prefix(), made.is_by_connection()), (prefix.unwrap_or(0), by_connection));
            prop_assert_eq!(made.by_address(), plain);
            prop_assert_eq!(made.with_slots(first ^ 5).slots() ^ made.slots(), 5);
            prop_assert_eq!(made.with_slots(first ^ 5).with_slots(first), made);
            // Another mode takes nothing of the one before along.
            for other in Mode::ALL {
                prop_assert_eq!(made.with_mode(other).with_mode(mode), made);
                prop_assert_eq!(made.with_mode(other).mode(), other);
            }
        }
    }
}
