//! Services as the rest of the program knows them: where clients come to, and where they are sent.

use std::{collections::HashSet, fmt, net::IpAddr, time::Duration};

use edge_common::abi::{Mode, Tracking, WhenExhausted};

use super::{
    Config,
    destinations::{Named, Protocol},
};

/// What clients connect to: each of its VIPs with each of its ports. All of it fails over together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// As the file has it, or that of a part, see [`Clients`](super::Clients).
    pub name: String,
    /// At least one, distinct, in the order of the file.
    pub vips: Vec<IpAddr>,
    /// At least one, none with a port in common with another one of its protocol.
    pub ports: Vec<Ports>,
    pub mode: Mode,
    /// In `nat` the port of backends that have none of their own; `None`: the one that the packet is for.
    pub backend_port: Option<u16>,
    /// In `nat`: a flow goes on to its backend when that is down, and is not reset.
    pub sticks: bool,
    /// Positions in [`Config::pools`] in order of priority, distinct, 1 to 8.
    pub pools: Vec<usize>,
    /// A power of two.
    pub slots: u32,
    pub when_exhausted: WhenExhausted,
    pub announce: Announce,
    /// `None`: addresses and ports of a flow are hashed. Otherwise only as many leading bits of the client's address.
    pub affinity: Option<Affinity>,
    /// Where connection IDs of QUIC have the server's number. Each backend of its pools has one then, which fits and is its own.
    pub quic_cid: Option<QuicCid>,
}

/// Where a connection ID has the server's number, in bits from its start.
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
    /// As many as are hashed of those who come to `vip`.
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
    /// The same as `last` of a single one; both 0: each that no other service has.
    pub first: u16,
    pub last: u16,
    pub protocol: Protocol,
    /// Which packets start a flow, and so whether its flows can be recorded.
    pub tracking: Tracking,
    /// How long a flow may be silent and still be known; see docs/config.md.
    pub flow_idle_timeout: Duration,
    /// Whether each flow has an entry of its own, in the table of translated ones.
    pub translated: bool,
    /// With [`Tracking::Learn`]: how long flows are recorded before their slots' owners follow a change.
    pub learn: Duration,
}

/// How a VIP is announced. All services of a VIP agree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Announce {
    /// Somebody routes it here.
    #[default]
    None,
    /// The daemon puts it on this interface, which is one of [`Config::interfaces`], and announces it there.
    L2 { interface: String },
}

impl Ports {
    pub(super) const fn named(&self) -> Named {
        let quic = matches!(self.tracking, Tracking::Quic);
        Named { first: self.first, last: self.last, protocol: self.protocol, quic }
    }

    /// The numbers under which they stand in the service index: 0 for each that no other service has.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        self.first..=self.last
    }

    /// Whether each port that no other service has is one of them.
    pub(crate) const fn is_any(&self) -> bool {
        self.last == 0
    }

    /// How long a flow's record is kept while nothing is seen of the flow: a second more than any slot waits, since one that was
    /// looked at in this one may have a packet on its way.
    pub(crate) fn expiry(&self) -> Duration {
        self.flow_idle_timeout.max(self.learn) + Duration::from_secs(1)
    }

    /// How long a slot's flows may be silent before it may be handed over to another owner.
    pub(crate) const fn handover_after(&self) -> Duration {
        match self.tracking {
            _ if self.translated => Duration::ZERO,
            Tracking::Stateless => Duration::ZERO,
            Tracking::Learn => self.learn,
            Tracking::Tcp | Tracking::Quic => self.flow_idle_timeout,
        }
    }
}

/// As the file writes them.
impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.named().fmt(f)
    }
}

impl Config {
    /// All VIPs; one of several services as often.
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
    /// Each VIP with each port number, as they stand in the service index.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = (IpAddr, u16, &Ports)> {
        let ports = || self.ports.iter().flat_map(|ports| ports.numbers().map(move |number| (number, ports)));
        self.vips.iter().flat_map(move |&vip| ports().map(move |(number, ports)| (vip, number, ports)))
    }

    /// Whether a packet to this port is for the service, if it is to one of its VIPs and no other service has the port.
    pub(crate) fn ports_of(&self, port: u16, protocol: u8) -> Option<&Ports> {
        let mut ports = self.ports.iter().filter(|ports| ports.protocol.number() == protocol);
        ports
            .clone()
            .find(|ports| (ports.first..=ports.last).contains(&port))
            .or_else(|| ports.find(|ports| ports.is_any()))
    }
}
