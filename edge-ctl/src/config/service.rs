//! Services as used by the rest of the program: their VIPs, ports and pools.

use std::{collections::HashSet, fmt, net::IpAddr, time::Duration};

use edge_common::abi::{Mode, Tracking, WhenExhausted};

use super::{
    Config,
    destinations::{Named, Protocol},
};

/// A service, which clients reach at each of its VIPs with each of its ports. The service fails over as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// Name in the file, or name of a part, see [`Clients`](super::Clients).
    pub name: String,
    /// At least one, distinct, in the order of the file.
    pub vips: Vec<IpAddr>,
    /// At least one; no two of one protocol have a port in common.
    pub ports: Vec<Ports>,
    pub mode: Mode,
    /// In `nat`, the port of backends without a port of their own; `None` for the destination port of the packet.
    pub backend_port: Option<u16>,
    /// In `nat`: a flow stays at its backend when the backend goes down, instead of being reset.
    pub sticks: bool,
    /// In `nat`: backends are told the client's address by an option of TCP.
    pub tells_client: bool,
    /// Positions in [`Config::pools`] in order of priority, distinct, 1 to 8.
    pub pools: Vec<usize>,
    /// A power of two.
    pub slots: u32,
    pub when_exhausted: WhenExhausted,
    pub announce: Announce,
    /// Leading bits of a client's address that are hashed; `None` if addresses and ports of a flow are.
    pub affinity: Option<Affinity>,
    /// Position of the server number in connection IDs of QUIC. If it is set, each backend of the service's pools has a
    /// number, which fits and is distinct.
    pub quic_cid: Option<QuicCid>,
}

/// Position of the server number in a connection ID, in bits from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuicCid {
    pub offset: u8,
    /// 1 to 32.
    pub length: u8,
}

/// Leading bits of a client's address that are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Affinity {
    pub v4: u8,
    pub v6: u8,
}

impl Affinity {
    /// Number of bits that are hashed for clients of `vip`.
    pub(crate) const fn prefix(self, vip: IpAddr) -> u8 {
        match vip {
            IpAddr::V4(_) => self.v4,
            IpAddr::V6(_) => self.v6,
        }
    }
}

/// Ports of a service that are treated alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// Equal to `last` for a single port; both are 0 for every port that no other service has.
    pub first: u16,
    pub last: u16,
    pub protocol: Protocol,
    /// Which packets start a flow, and so whether its flows can be recorded. Where each flow has an entry in the table of
    /// translated flows, it is the class of the flow's timeouts: [`Tracking::Stateless`] for one request and its answer.
    pub tracking: Tracking,
    /// How long a flow may be silent and still be known; see docs/config.md.
    pub flow_idle_timeout: Duration,
    /// Whether each flow has an entry in the table of translated flows.
    pub translated: bool,
    /// With [`Tracking::Learn`]: how long flows are recorded after a change before their slots are handed over.
    pub learn: Duration,
}

/// How a VIP is announced. All services of a VIP have the same value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Announce {
    /// Not by the daemon; the network routes the VIP to this host.
    #[default]
    None,
    /// The daemon adds the VIP to this interface, which is one of [`Config::interfaces`], and announces it there.
    L2 { interface: String },
}

impl Ports {
    pub(super) const fn named(&self) -> Named {
        let quic = matches!(self.tracking, Tracking::Quic);
        Named { first: self.first, last: self.last, protocol: self.protocol, quic }
    }

    /// Port numbers in the service index: 0 for every port that no other service has.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        self.first..=self.last
    }

    /// Whether these are all ports that no other service has.
    pub(crate) const fn is_any(&self) -> bool {
        self.last == 0
    }

    /// How long a flow's record is kept without packets of the flow: a second more than any slot waits, since a record
    /// that is looked up within that second may have a packet on its way.
    pub(crate) fn expiry(&self) -> Duration {
        self.flow_idle_timeout.max(self.learn) + Duration::from_secs(1)
    }

    /// How long a slot waits for silent flows before it may be handed over to another owner.
    pub(crate) const fn handover_after(&self) -> Duration {
        match self.tracking {
            _ if self.translated => Duration::ZERO,
            Tracking::Stateless => Duration::ZERO,
            Tracking::Learn => self.learn,
            Tracking::Tcp | Tracking::Quic => self.flow_idle_timeout,
        }
    }
}

/// The ports as in the file.
impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.named().fmt(f)
    }
}

impl Config {
    /// VIPs of all services; a VIP of several services is repeated.
    pub(crate) fn vips(&self) -> impl Iterator<Item = IpAddr> {
        self.services.iter().flat_map(|service| service.vips.iter().copied())
    }

    /// Entries of the service index: each VIP with each port, and each VIP itself.
    pub(crate) fn destinations(&self) -> usize {
        let vips: HashSet<_> = self.vips().collect();
        vips.len() + self.services.iter().map(|service| service.destinations().count()).sum::<usize>()
    }
}

impl Service {
    /// Each VIP with each port number, as in the service index.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = (IpAddr, u16, &Ports)> {
        let ports = || self.ports.iter().flat_map(|ports| ports.numbers().map(move |number| (number, ports)));
        self.vips.iter().flat_map(move |&vip| ports().map(move |(number, ports)| (vip, number, ports)))
    }

    /// The ports of this service that a packet to `port` belongs to, provided that it is to one of the service's VIPs
    /// and that no other service has the port.
    pub(crate) fn ports_of(&self, port: u16, protocol: u8) -> Option<&Ports> {
        let mut ports = self.ports.iter().filter(|ports| ports.protocol.number() == protocol);
        ports
            .clone()
            .find(|ports| (ports.first..=ports.last).contains(&port))
            .or_else(|| ports.find(|ports| ports.is_any()))
    }
}
