//! Services: their pools and slots, and how packets reach the backends.

use bytemuck::{Pod, Zeroable};

use super::{BackendNumber, Cell};

/// Maximum number of pools of a service.
pub const MAX_POOLS: usize = 8;

/// How a packet reaches its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Rewrites the MAC addresses; the backend is on the edge's own L2 network.
    Dsr = 1,
    /// Encapsulates in IPv4 or IPv6 (protocol 4 or 41); the backend is anywhere.
    Ipip = 2,
    /// Translates addresses and ports, both ways; the backend is anywhere, and need not be aware of it.
    Nat = 3,
    /// Encapsulates in UDP over IPv4 or IPv6, with a source port for each flow; the backend is anywhere.
    Gue = 4,
    /// As [`Ipip`](Self::Ipip), with a range of source addresses, one for each flow.
    IpipRange = 5,
}

impl Mode {
    pub const ALL: [Self; 5] = [Self::Dsr, Self::Ipip, Self::Nat, Self::Gue, Self::IpipRange];

    #[inline(always)]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::Dsr),
            2 => Some(Self::Ipip),
            3 => Some(Self::Nat),
            4 => Some(Self::Gue),
            5 => Some(Self::IpipRange),
            _ => None,
        }
    }

    /// Name in the configuration, where the range of `ipip` is a setting of its own.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dsr => "dsr",
            Self::Ipip | Self::IpipRange => "ipip",
            Self::Gue => "gue",
            Self::Nat => "nat",
        }
    }
}

/// Action for a packet that no backend takes.
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
    /// The policy with this number. An unknown number is `Open`, which keeps traffic flowing.
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
    /// First cell of this service in `SLOTS`.
    pub slots: u32,
    /// Numbers of its pools in order of priority; only the first `pool_count` are used.
    pub pools: [u16; MAX_POOLS],
    /// Number of its pools, 1 to [`MAX_POOLS`].
    pub pool_count: u8,
    /// A [`WhenExhausted`].
    pub when_exhausted: u8,
    /// First bit of the server's number in the QUIC connection IDs that the service's servers make.
    pub cid_offset: u8,
    /// Bits of the server's number, at most 32; 0 if connection IDs are not used.
    pub cid_length: u8,
    /// Not 0 while the service is in transition: while [`Slot::look`](super::Slot::look) is set in any of its slots. The
    /// controller sets it before it sets `look`, and the packet path sets it when it looks at a slot only because the owner
    /// is dead; only the controller clears it, after it has cleared `look`. The forwarding of packets does not read this field: only the slot decides.
    /// Writers increment it, so that the one that clears it notices the changes of others.
    pub in_transition: u32,
    /// Number of its slots less one; a power of two less one.
    pub slot_mask: u32,
    /// First cell of its [server numbers](ServerCell) in `CANDIDATES`.
    pub servers: u32,
    /// Number of these cells less one; a power of two less one.
    pub server_mask: u32,
    /// Time at which new flows were last sent elsewhere though their backends live, in [units](crate::flow_table::units); 0
    /// if never. For a moment after it, a packet that seems to start a flow of QUIC may be its client's second one.
    pub redirected: u32,
    /// In `nat`, the port at which backends without a port of their own ([`Backend::port`](super::Backend::port)) serve it,
    /// network order; 0 for the destination port of the packet.
    pub backend_port: [u8; 2],
    /// Not 0 if a flow in `nat` stays with its backend when the backend is down, instead of being reset.
    pub sticks: u8,
    /// Not 0 if backends in `nat` are told the client's address by an option of TCP ([`wire::toa`](crate::wire::toa)).
    pub tells_client: u8,
    /// Zero.
    pub reserved: [u8; 4],
}

/// A server's number in connection IDs, and its backend, in the form of a [`Cell`]. Backend 0 marks an empty cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCell {
    pub number: u32,
    pub backend: BackendNumber,
}

impl From<Cell> for ServerCell {
    #[inline(always)]
    fn from(Cell([low, high, backend, _]): Cell) -> Self {
        Self { number: u32::from(low) | u32::from(high) << 16, backend }
    }
}

impl From<ServerCell> for Cell {
    fn from(ServerCell { number, backend }: ServerCell) -> Self {
        Self([number as u16, (number >> 16) as u16, backend, 0])
    }
}

/// How the start of a service's flows is recognized, and thus which of them can be recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Tracking {
    /// No packet starts a flow: nothing is recorded, and each packet goes where a new flow would go.
    #[default]
    Stateless = 1,
    /// TCP: a SYN without ACK starts a flow.
    Tcp = 2,
    /// QUIC: an Initial packet starts a flow.
    Quic = 3,
    /// No packet shows that it starts a flow: a flow is new if it was not seen within the learning time.
    Learn = 4,
}

/// An operator's failover of a service: the pools before `first` are taken out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failover {
    /// Position (not number) of the first pool that takes new flows; 0: no failover.
    pub first: u8,
    /// Whether the pools before `first` lose their established flows as well.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_modes_are_those_that_have_a_number() {
        let mut modes = Mode::ALL;
        modes.sort_by_key(|mode| *mode as u8);
        assert_eq!((0..=u8::MAX).filter_map(Mode::from_raw).collect::<Vec<_>>(), modes);
    }
}
