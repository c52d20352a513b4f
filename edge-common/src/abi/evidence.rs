//! What the packets of clients and backends show of a backend's health.

use bytemuck::{Pod, Zeroable};

/// Signs of a backend's trouble, in `nat`. The packet path only adds; the controller resets the clients.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Evidence {
    /// SYNs that the backend answered with a RST; wraps.
    pub refused: u32,
    /// ICMP errors that report the backend as unreachable, and quote a packet of a flow that exists; wraps.
    pub unreachable: u32,
    /// SYNs that were sent again, since the first one got no answer; wraps.
    pub repeated: u32,
    /// Zero.
    pub reserved: u32,
    /// The clients that sent SYNs again, one bit for each; a client's bit follows from the keyed hash of its prefix (/24,
    /// /56), so that one client is one bit, however many addresses of its prefix it uses.
    pub repeaters: u64,
}

impl Evidence {
    /// The evidence with one more sign.
    #[inline(always)]
    pub const fn with(self, sign: Sign) -> Self {
        let [refused, unreachable, repeated] = match sign {
            Sign::Refused => [1, 0, 0],
            Sign::Unreachable => [0, 1, 0],
            Sign::Repeated(_) => [0, 0, 1],
        };
        Self {
            refused: self.refused.wrapping_add(refused),
            unreachable: self.unreachable.wrapping_add(unreachable),
            repeated: self.repeated.wrapping_add(repeated),
            repeaters: if let Sign::Repeated(client) = sign { self.repeaters | client } else { self.repeaters },
            ..self
        }
    }
}

/// What an ICMP error or a packet of TCP shows of a backend in `nat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answered a SYN with a RST.
    Refused,
    /// An ICMP error reports it as unreachable.
    Unreachable,
    /// A client of this bit sent a SYN again.
    Repeated(u64),
}
