//! The services of the small lab, and the configuration of its load balancer.

use std::{
    fmt::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::Result;

use super::Small;
use crate::lab::{
    edge::Edge,
    patience::patience,
    talk::TALK,
    topology::{ECHO, EDGE, EDGE_V4, EDGE_V6, Family},
};

/// VIPs without a service, for packets that are routed to a backend without the load balancer.
pub const UNSERVED: [IpAddr; 2] = [v4(99), v6(0x99)];

/// How an XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Native,
    Generic,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// A VIP, its forwarding mode, and the family of the backends' addresses.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    pub name: &'static str,
    pub vip: IpAddr,
    mode: &'static str,
    via: Family,
}

/// Every mode, in each pairing of families that the mode supports.
pub const SERVED: [Served; 6] = [
    Served { name: "4in4", vip: v4(10), mode: "ipip", via: Family::V4 },
    Served { name: "6in6", vip: v6(0x10), mode: "ipip", via: Family::V6 },
    Served { name: "4in6", vip: v4(20), mode: "ipip", via: Family::V6 },
    Served { name: "6in4", vip: v6(0x20), mode: "ipip", via: Family::V4 },
    Served { name: "dsr4", vip: v4(30), mode: "dsr", via: Family::V4 },
    Served { name: "dsr6", vip: v6(0x30), mode: "dsr", via: Family::V6 },
];

impl Served {
    /// The entry of this name.
    ///
    /// # Panics
    /// If there is no such entry.
    pub fn named(name: &str) -> Self {
        *SERVED.iter().find(|served| served.name == name).expect("the lab serves this")
    }

    pub fn is_tunnel(&self) -> bool {
        self.mode == "ipip"
    }

    pub const fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.vip, port)
    }
}

/// The VIPs that each backend has.
pub(super) fn vips() -> Vec<IpAddr> {
    SERVED.iter().map(|served| served.vip).chain(UNSERVED).collect()
}

const fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

const fn v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
}

/// Name, port and protocol of each service of a backend: connections that end, connections that stay, datagrams with
/// and without an answer.
const PORTS: [(&str, u16, &str); 4] =
    [("echo", ECHO, "tcp"), ("talk", TALK, "tcp"), ("ask", ECHO, "udp"), ("sink", SINK, "udp")];

/// Port at which a backend never answers.
pub const SINK: u16 = 9;

impl Small {
    /// Creates the load balancer without starting it. `more` is added to its configuration.
    pub fn prepare(&mut self, mode: Mode, more: &str) -> Result<&mut Edge> {
        let through = if self.plain { "address" } else { "service" };
        self.configure(&(configuration(&self.backends, mode, through)? + more))
    }

    /// Creates the load balancer with a configuration of the test's own.
    pub fn configure(&mut self, text: &str) -> Result<&mut Edge> {
        let (dir, pins) = (self.dir.0.join(EDGE), self.bpffs.path().join(EDGE));
        Ok(self.edge.insert(Edge::new(&self.edge_ctl, &dir, &pins, text)?))
    }
}

/// The configuration for backends of these names and addresses; `through` is the kind of probe.
fn configuration(backends: &[(&str, Ipv4Addr, Ipv6Addr)], mode: Mode, through: &str) -> Result<String> {
    let interval = patience(Duration::from_millis(100)).as_millis();
    // Small tables: the kernel initialises each entry of a new map, which takes an emulated CPU seconds.
    let mut text = format!(
        "hash_key = \"4be0a7c195d2438f8a6613f05c7d92ea\"\nslots = 1024\n\n\
         [limits]\nflows = 1024\nfragments = 64\n\n\
         [tunnel]\nsource_v4 = \"{EDGE_V4}\"\nsource_v6 = \"{EDGE_V6}\"\n\n\
         [[interface]]\nname = \"eth0\"\nmode = \"{mode}\"\n"
    );
    for pool in ["p4", "p6"] {
        write!(
            text,
            "\n[[pool]]\nname = \"{pool}\"\ndamping = \"0s\"\nslow_start = \"0s\"\n[pool.probe]\ntype = \"tcp\"\nport = {ECHO}\n\
             through = \"{through}\"\ninterval = \"{interval}ms\"\ntimeout = \"{interval}ms\"\nrise = 1\nfall = 5\n"
        )?;
        for (name, v4, v6) in backends {
            let address: IpAddr = if pool == "p4" { (*v4).into() } else { (*v6).into() };
            write!(text, "[[pool.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n")?;
        }
    }
    for Served { name, vip, mode, via } in SERVED {
        let pool = if via == Family::V4 { "p4" } else { "p6" };
        for (what, port, protocol) in PORTS {
            write!(
                text,
                "\n[[service]]\nname = \"{what}-{name}\"\nvips = [\"{vip}\"]\n\
                 ports = [\"{port}/{protocol}\"]\nmode = \"{mode}\"\npools = [\"{pool}\"]\n"
            )?;
        }
    }
    Ok(text)
}
