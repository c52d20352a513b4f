//! The plan of the lab: hosts, services and all addresses. This module does not touch the system.
//!
//! ```text
//!   client1  client2          edge                    VIPs 192.0.2.0/24, 2001:db8::/64 are routed to the edge;
//!      |        |         eth0    eth1                10.0.0.100 is in the front segment itself
//!   ===front=======================:=====  10.0.0.0/24, fd00::/64
//!               |                  :
//!            router                :       the router namespace holds all four bridges
//!            |    |                :
//!   ==provider-a= | =provider-b=== : ====  10.1.0.0/24, fd00:a::/64 and 10.2.0.0/24, fd00:b::/64: `ipip`
//!     a1 a2 a3    |   b1 b2 b3     :
//!   ==lan=================================  10.0.1.0/24, fd00:1::/64: `dsr`
//! ```
//!
//! Each backend has two links: `wan` in its provider's segment, `lan` in the segment that it shares with the edge.
//! Answers go straight to the client, by `wan` and the router, in both modes.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

pub const CLIENTS: [&str; 2] = ["client1", "client2"];
pub const EDGE: &str = "edge";
pub const ROUTER: &str = "router";
pub const EDGE_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const EDGE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub const HTTP: u16 = 80;
pub const ECHO: u16 = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

/// The network in which a backend is reached: the edge's own segment, or the one behind the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Lan,
    Wan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provider {
    A,
    B,
}

impl Provider {
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    pub fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }

    fn index(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    /// The bridge of this provider's segment in the router namespace.
    pub fn bridge(self) -> String {
        format!("provider-{}", self.letter())
    }

    /// The router's address in this provider's segment.
    pub fn router(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.router_v4().into(),
            Family::V6 => self.router_v6().into(),
        }
    }

    pub fn router_v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.index(), 0, 254)
    }

    pub fn router_v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, self.index_v6(), 0, 0, 0, 0, 0, 0xfe)
    }

    fn index_v6(self) -> u16 {
        9 + u16::from(self.index())
    }

    /// Name of the pool that reaches this provider in this way, as in the configuration.
    pub fn pool(self, part: Part, family: Family) -> String {
        let part = match part {
            Part::Lan => "lan",
            Part::Wan => "wan",
        };
        let family = match family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        format!("provider-{}-{part}{family}", self.letter())
    }
}

/// A backend host: `a1` to `b3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    pub provider: Provider,
    pub number: u8,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.provider.letter(), self.number)
    }
}

impl Backend {
    pub fn all() -> impl Iterator<Item = Self> {
        Provider::ALL.into_iter().flat_map(Self::of)
    }

    pub fn of(provider: Provider) -> impl Iterator<Item = Self> {
        (1..=3).map(move |number| Self { provider, number })
    }

    /// The backend of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|backend| backend.to_string() == name)
    }

    pub fn address(self, part: Part, family: Family) -> IpAddr {
        let host = 10 * self.provider.index() + self.number;
        let (v4, v6) = match part {
            Part::Lan => ((0, 1), 1),
            Part::Wan => ((self.provider.index(), 0), self.provider.index_v6()),
        };
        match family {
            Family::V4 => Ipv4Addr::new(10, v4.0, v4.1, host).into(),
            // The digits are the same in both families, for readers of packet dumps: fd00:a::11 is 10.1.0.11.
            Family::V6 => Ipv6Addr::new(0xfd00, v6, 0, 0, 0, 0, 0, u16::from(host / 10 * 16 + host % 10)).into(),
        }
    }

    /// Every pool with this host: the pools that an operator names to take the host out.
    pub fn pools(self) -> Vec<String> {
        let mut pools = Vec::new();
        for part in [Part::Lan, Part::Wan] {
            for family in [Family::V4, Family::V6] {
                pools.push(self.provider.pool(part, family));
            }
        }
        pools
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// One service of the lab's load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: &'static str,
    pub vip: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    /// `Lan` means mode `dsr`, `Wan` means `ipip`.
    pub part: Part,
    /// The family of the backends' addresses.
    pub via: Family,
    /// Whether the edge itself answers ARP for the VIP.
    pub announced: bool,
}

const fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

const fn v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
}

const ON_LINK: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));

const fn web(name: &'static str, vip: IpAddr, part: Part, via: Family) -> Service {
    Service { name, vip, port: HTTP, protocol: Protocol::Tcp, part, via, announced: false }
}

const fn echo(name: &'static str, vip: IpAddr, part: Part, via: Family) -> Service {
    Service { name, vip, port: ECHO, protocol: Protocol::Udp, part, via, announced: false }
}

/// Translated services, whose backends need no preparation. No other lab has these services.
pub const TRANSLATED: [Service; 2] =
    [web("web-nat4", v4(40), Part::Wan, Family::V4), web("web-nat6", v6(0x40), Part::Wan, Family::V6)];

/// Services in every mode that needs prepared backends, in all pairings of families, over TCP and UDP.
pub const SERVICES: [Service; 13] = [
    web("web-dsr4", v4(10), Part::Lan, Family::V4),
    web("web-dsr6", v6(0x10), Part::Lan, Family::V6),
    web("web-4in4", v4(20), Part::Wan, Family::V4),
    web("web-6in6", v6(0x20), Part::Wan, Family::V6),
    web("web-4in6", v4(30), Part::Wan, Family::V6),
    web("web-6in4", v6(0x30), Part::Wan, Family::V4),
    Service { announced: true, ..web("web-onlink", ON_LINK, Part::Lan, Family::V4) },
    echo("echo-dsr4", v4(10), Part::Lan, Family::V4),
    echo("echo-dsr6", v6(0x10), Part::Lan, Family::V6),
    echo("echo-4in4", v4(20), Part::Wan, Family::V4),
    echo("echo-6in6", v6(0x20), Part::Wan, Family::V6),
    echo("echo-4in6", v4(30), Part::Wan, Family::V6),
    echo("echo-6in4", v6(0x30), Part::Wan, Family::V4),
];

impl Service {
    /// The service of this name.
    ///
    /// # Panics
    /// If there is no such service in the lab.
    pub fn named(name: &str) -> Self {
        *SERVICES.iter().find(|service| service.name == name).expect("the lab has a service of this name")
    }

    pub fn of(protocol: Protocol) -> impl Iterator<Item = Self> {
        SERVICES.into_iter().filter(move |service| service.protocol == protocol)
    }

    pub fn address(self) -> SocketAddr {
        SocketAddr::new(self.vip, self.port)
    }

    pub fn pools(self) -> [String; 2] {
        Provider::ALL.map(|provider| provider.pool(self.part, self.via))
    }
}

/// Every VIP once.
pub fn vips() -> Vec<IpAddr> {
    let mut vips: Vec<_> = SERVICES.iter().map(|service| service.vip).collect();
    vips.sort();
    vips.dedup();
    vips
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn addresses_are_distinct() {
        let mut seen = BTreeSet::new();
        for backend in Backend::all() {
            for part in [Part::Lan, Part::Wan] {
                for family in [Family::V4, Family::V6] {
                    assert!(seen.insert(backend.address(part, family)), "{backend}");
                }
            }
        }
        assert_eq!(seen.len(), 24);
    }

    #[test]
    fn both_families_show_the_same_digits() {
        let backend = Backend::named("b3").unwrap();
        assert_eq!(backend.address(Part::Wan, Family::V4).to_string(), "10.2.0.23");
        assert_eq!(backend.address(Part::Wan, Family::V6).to_string(), "fd00:b::23");
    }

    #[test]
    fn seven_vips() {
        assert_eq!(vips().len(), 7);
    }
}
