//! Backends: liveness, and how to reach them, in one cache line each.

use core::net::IpAddr;

use bytemuck::{Pod, Zeroable};

use super::Mac;

/// Number of a backend: its index in `BACKENDS`. 0 is no backend: its state is never alive.
pub type BackendNumber = u16;

/// Address family of a backend's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    V4 = 4,
    V6 = 6,
}

impl Family {
    /// The family of an address, and its bytes; an IPv4 address has the first four, and the others are zero.
    pub const fn split(address: IpAddr) -> (Self, [u8; 16]) {
        match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                (Self::V4, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            }
            IpAddr::V6(v6) => (Self::V6, v6.octets()),
        }
    }
}

/// A backend as the packet path needs it.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Backend {
    /// [`State`] bits. A liveness change is one atomic store here.
    pub state: u32,
    /// Interface index of the egress; meaningful while the next hop is known.
    pub egress: u32,
    /// MAC address of the neighbour; one atomic store. All zero (no neighbour's address) if unknown: the packet path then
    /// looks it up in the kernel's tables.
    pub next_hop: Mac,
    /// MAC address of the egress interface.
    pub source_mac: Mac,
    /// MTU of the egress, bytes of IP packet; 0 if unknown, and then not checked.
    pub mtu: u16,
    /// VLAN identifier that frames to this backend carry, host order; 0 if untagged.
    pub vlan: u16,
    /// Number of its pool.
    pub pool: u16,
    /// 4 or 6: family of `address`.
    pub family: u8,
    /// Version of the fields that decide where frames go: `egress`, `next_hop`, `source_mac`, `mtu`, `vlan`. The controller
    /// changes it while the next hop is unknown, once before it changes the other fields and once after. A reader that
    /// finds the same version before and after, and a known next hop, has read fields that belong together, in whatever
    /// order it read them.
    pub hop_version: u8,
    /// Address, network order; IPv4 in the first four bytes, the rest zero.
    pub address: [u8; 16],
    /// MTU of the whole path, bytes of outer IP packet, as the packet path learnt it from an ICMP error; 0 if none was
    /// learnt. The controller clears it from time to time, since paths change.
    pub path_mtu: u16,
    /// 1 if `mtu` is that of the egress itself, so that packets received on that interface fit; 0 if something behind it is
    /// narrower.
    pub own_mtu: u16,
    /// In `nat`, the port that the backend serves, network order; 0 for the service's port.
    pub port: [u8; 2],
    /// Zero.
    pub reserved: [u8; 2],
    /// In `nat`, when a client's packet last demanded an answer while nobody waited for one, in
    /// [ticks](crate::evidence::ticks); written by the packet path.
    pub asked: u32,
    /// In `nat`, the `asked` that was answered last; written by the packet path.
    pub heard: u32,
}

impl Backend {
    /// The address of a backend of family 4.
    #[inline(always)]
    pub const fn address_v4(&self) -> [u8; 4] {
        match self.address.first_chunk() {
            Some(first) => *first,
            None => [0; 4],
        }
    }
}

/// State of a backend, one `u32` so that a change is one store.
///
/// The packet path reads only [`NEW`](Self::NEW), [`ALIVE`](Self::ALIVE) and [`ENABLED`](Self::ENABLED). The other bits
/// record the reasons, so that the pinned maps alone show health and the operator's decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State(pub u32);

impl State {
    /// Takes new flows.
    pub const NEW: u32 = 1;
    /// Serves its established flows.
    pub const ALIVE: u32 = 1 << 1;
    /// Not administratively disabled: may serve when all else is exhausted.
    pub const ENABLED: u32 = 1 << 2;
    /// The operator drains it.
    pub const DRAINED: u32 = 1 << 3;
    /// The operator disabled it.
    pub const DISABLED: u32 = 1 << 4;
    /// Probes found it up. A backend with neither this bit nor [`DOWN`](Self::DOWN) is unknown, which counts as up.
    pub const UP: u32 = 1 << 5;
    /// Probes found it down.
    pub const DOWN: u32 = 1 << 6;
    /// Removed from the configuration: it takes no new flows, and keeps its number for its established ones.
    pub const RETIRED: u32 = 1 << 7;
    /// Forced up by the operator, whatever probes find.
    pub const FORCED_UP: u32 = 1 << 8;
    /// Forced down by the operator, whatever probes find.
    pub const FORCED_DOWN: u32 = 1 << 9;
    /// Lowest bit of the [`withheld`](Self::withheld) share of slots.
    pub const WITHHELD_SHIFT: u32 = 24;

    /// Slots whose [place in the order of return](super::return_place) is below this number still pass over the backend
    /// while another one can serve: after its death, a backend comes back by a share of its slots. 0 if all slots use it;
    /// at most 255.
    #[inline(always)]
    pub const fn withheld(self) -> u32 {
        self.0 >> Self::WITHHELD_SHIFT
    }

    /// Whether all of `bits` are set.
    #[inline(always)]
    pub const fn has_all(self, bits: u32) -> bool {
        self.0 & bits == bits
    }

    /// Whether any of `bits` is set.
    #[inline(always)]
    pub const fn has_any(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}
