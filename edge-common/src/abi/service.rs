//! Services: where and how their packets go.

use bytemuck::{Pod, Zeroable};

use super::{BackendNumber, Cell};

/// Pools that one service can list.
pub const MAX_POOLS: usize = 8;

/// How a packet reaches its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Rewrites the MAC addresses; the backend is on the edge's own L2 network.
    Dsr = 1,
    /// Encapsulates in IPv4 or IPv6 (protocol 4 or 41); the backend is anywhere.
    Ipip = 2,
    /// Translates addresses and ports, both ways; the backend is anywhere, and need not know.
    Nat = 3,
    /// Encapsulates in UDP over IPv4 or IPv6, with a source port for each flow; the backend is anywhere.
    Gue = 4,
    /// As [`Ipip`](Self::Ipip), from the addresses of a range, each flow from one of them.
    IpipRange = 5,
}

impl Mode {
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

    /// As in the configuration, which says elsewhere whether `ipip` has a range.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dsr => "dsr",
            Self::Ipip | Self::IpipRange => "ipip",
            Self::Gue => "gue",
            Self::Nat => "nat",
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
    /// First cell of this service in `SLOTS`.
    pub slots: u32,
    /// Numbers of its pools in order of priority; only the first `pool_count` count.
    pub pools: [u16; MAX_POOLS],
    /// How many pools it has, 1 to [`MAX_POOLS`].
    pub pool_count: u8,
    /// A [`WhenExhausted`].
    pub when_exhausted: u8,
    /// Where in the connection IDs of QUIC that its servers make the server's number stands: the bit that it begins with.
    pub cid_offset: u8,
    /// Its bits, at most 32; 0: connection IDs say nothing.
    pub cid_length: u8,
    /// Whether the service is in transition: not 0 while packets look at any of its slots ([`Slot::look`](super::Slot::look)). The
    /// controller sets it before these, and the packet path does where it looks at a slot by itself, since its owner is dead;
    /// only the controller clears it, after these. Packets go by their slot alone. Writers count it up, so that the one that
    /// clears it sees the changes of others.
    pub in_transition: u32,
    /// Its slots, less one; a power of two less one.
    pub slot_mask: u32,
    /// First cell of its [server numbers](ServerCell) in `CANDIDATES`.
    pub servers: u32,
    /// Their cells, less one; a power of two less one.
    pub server_mask: u32,
    /// When new flows were last sent elsewhere though their backends live, in [units](crate::flow_table::units); 0: never. For a
    /// moment after that, a packet that seems to start a flow of QUIC may be its client's second one.
    pub redirected: u32,
    /// In `nat` the port that backends serve it at, which have none of their own ([`Backend::port`](super::Backend::port)), network
    /// order; 0: the one that the packet is for.
    pub backend_port: [u8; 2],
    /// Not 0: a flow in `nat` goes on to its backend when that is down, in place of being reset.
    pub sticks: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// A server's number in connection IDs, and the backend that it is, as a [`Cell`] has them. Backend 0: an empty one.
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
    /// No packet shows that it starts a flow: flows that were not seen within the learning time are new.
    Learn = 4,
}

/// Which pools of a service an operator has taken out of it: all that stand before `first`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failover {
    /// Position (not number) of the first pool that takes new flows; 0: no failover.
    pub first: u8,
    /// Whether the pools before `first` lose their established flows, too.
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
