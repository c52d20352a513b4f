//! Builds the namespaces and cables of [`topology`].

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::lab::{
    link::{self, End},
    netns::Netns,
    topology::{self, Backend, CLIENTS, EDGE, EDGE_V4, EDGE_V6, Family, Part, Provider, ROUTER},
    xdp_pass::XdpPass,
};

/// The router's address in the front segment.
const FRONT_ROUTER: (&str, &str) = ("10.0.0.254", "fd00::fe");

/// Every namespace of one lab.
#[derive(Debug)]
pub struct Fabric {
    /// Programs on the far ends of the edge's cables. A veth delivers a frame of `XDP_TX` to its peer immediately only
    /// if the peer has an XDP program: with GRO alone the frame stays in the peer's ring until another packet arrives
    /// (`veth_xdp_flush` in the kernel's drivers/net/veth.c). A redirected frame needs either of the two.
    far_ends: Vec<XdpPass>,
    hosts: Vec<(String, Netns)>,
    /// Host and device of both ends of each cable.
    ends: Vec<(String, String)>,
}

impl Fabric {
    /// Creates the namespaces, their cables, addresses and routes; `prepared` backends have the VIPs.
    pub fn build(prefix: &str, prepared: bool) -> Result<Self> {
        let mut fabric = Self { far_ends: Vec::new(), hosts: Vec::new(), ends: Vec::new() };
        let backends: Vec<_> = Backend::all().collect();
        let names = [ROUTER, EDGE].into_iter().chain(CLIENTS).map(str::to_owned);
        for host in names.chain(backends.iter().map(Backend::to_string)) {
            let netns = Netns::create(&format!("{prefix}{host}"))?;
            settings(&netns, host == ROUTER || host == EDGE)?;
            fabric.hosts.push((host, netns));
        }
        fabric.router()?;
        fabric.edge()?;
        for (index, client) in CLIENTS.iter().enumerate() {
            fabric.client(client, 11 + index)?;
        }
        for backend in backends {
            fabric.backend(backend, prepared)?;
        }
        Ok(fabric)
    }

    /// The namespace of a host.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn netns(&self, host: &str) -> &Netns {
        let found = self.hosts.iter().find(|(name, _)| name == host);
        &found.unwrap_or_else(|| panic!("the lab has no host {host}")).1
    }

    /// Plugs a backend's cable in or out at the router's end, so that the backend keeps its routes and addresses.
    pub fn set_cable(&self, backend: Backend, part: Part, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        let cable = match part {
            Part::Lan => "lan",
            Part::Wan => "wan",
        };
        self.netns(ROUTER).ip(&format!("link set {cable}-{backend} {state}"))
    }

    /// Resets every cable to the kernel's defaults, unless that was done before.
    pub fn without_xdp(&mut self) -> Result<()> {
        if self.far_ends.is_empty() {
            return Ok(());
        }
        self.far_ends.clear();
        self.ends.iter().try_for_each(|(host, device)| link::offload_checksums(self.netns(host), device, true))
    }

    fn router(&self) -> Result<()> {
        let mut lines = String::new();
        for bridge in ["front".to_owned(), "lan".to_owned()].into_iter().chain(Provider::ALL.map(Provider::bridge)) {
            // Snooping without a querier would only lose the receivers of neighbour solicitations.
            line(&mut lines, &format!("link add {bridge} type bridge mcast_snooping 0"));
            line(&mut lines, &format!("link set {bridge} up"));
        }
        let (v4, v6) = FRONT_ROUTER;
        line(&mut lines, &format!("addr add {v4}/24 dev front"));
        line(&mut lines, &format!("addr add {v6}/64 dev front nodad"));
        for provider in Provider::ALL {
            let bridge = provider.bridge();
            line(&mut lines, &format!("addr add {}/24 dev {bridge}", provider.router_v4()));
            line(&mut lines, &format!("addr add {}/64 dev {bridge} nodad", provider.router_v6()));
        }
        self.netns(ROUTER).ip(&lines)
    }

    fn edge(&mut self) -> Result<()> {
        self.cable(EDGE, "eth0", "front-edge", "front")?;
        self.cable(EDGE, "eth1", "lan-edge", "lan")?;
        for port in ["front-edge", "lan-edge"] {
            let program = XdpPass::attach(self.netns(ROUTER), port)?;
            self.far_ends.push(program);
        }
        self.netns(EDGE).ip(&format!(
            "addr add {EDGE_V4}/24 dev eth0\naddr add {EDGE_V6}/64 dev eth0 nodad\n\
             addr add 10.0.1.1/24 dev eth1\naddr add fd00:1::1/64 dev eth1 nodad\n{}",
            default_routes("eth0", FRONT_ROUTER.0, FRONT_ROUTER.1),
        ))
    }

    fn client(&mut self, name: &str, host: usize) -> Result<()> {
        self.cable(name, "eth0", &format!("front-{name}"), "front")?;
        self.netns(name).ip(&format!(
            "addr add 10.0.0.{host}/24 dev eth0\naddr add fd00::{host}/64 dev eth0 nodad\n\
             route add 192.0.2.0/24 via {EDGE_V4}\nroute add 2001:db8::/64 via {EDGE_V6}\n{}",
            default_routes("eth0", FRONT_ROUTER.0, FRONT_ROUTER.1),
        ))
    }

    fn backend(&mut self, backend: Backend, prepared: bool) -> Result<()> {
        let name = backend.to_string();
        let bridge = backend.provider.bridge();
        self.cable(&name, "lan", &format!("lan-{name}"), "lan")?;
        self.cable(&name, "wan", &format!("wan-{name}"), &bridge)?;
        let mut lines = String::new();
        for (device, part) in [("lan", Part::Lan), ("wan", Part::Wan)] {
            line(&mut lines, &format!("addr add {}/24 dev {device}", backend.address(part, Family::V4)));
            line(&mut lines, &format!("addr add {}/64 dev {device} nodad", backend.address(part, Family::V6)));
        }
        let (v4, v6) = (backend.provider.router_v4().to_string(), backend.provider.router_v6().to_string());
        if !prepared {
            lines.push_str(&default_routes("wan", &v4, &v6));
            return self.netns(&name).ip(&lines);
        }
        for vip in topology::vips() {
            let (length, more) = if vip.is_ipv4() { (32, "") } else { (128, " nodad") };
            line(&mut lines, &format!("addr add {vip}/{length} dev lo{more}"));
        }
        lines.push_str(&default_routes("wan", &v4, &v6));
        self.netns(&name).ip(&lines)?;
        // A backend must not answer ARP for the VIP on its loopback in the segment that it shares with the edge.
        self.netns(&name).set("ipv4/conf/all/arp_ignore", "1")?;
        self.netns(&name).set("ipv4/conf/all/arp_announce", "2")
    }

    /// A cable from `device` of `host` to a port of a bridge in the router namespace.
    fn cable(&mut self, host: &str, device: &str, port: &str, bridge: &str) -> Result<()> {
        let router = self.netns(ROUTER);
        link::pair(End { netns: self.netns(host), name: device }, End { netns: router, name: port })
            .with_context(|| format!("cable {host}/{device}"))?;
        router.ip(&format!("link set {port} master {bridge}"))?;
        self.ends.extend([(host.to_owned(), device.to_owned()), (ROUTER.to_owned(), port.to_owned())]);
        Ok(())
    }
}

/// Settings of every namespace: addresses are usable immediately, and there is no reverse-path filter, since in these
/// modes answers take another path (docs/config.md, "Reverse paths").
pub(super) fn settings(netns: &Netns, forwards: bool) -> Result<()> {
    if forwards {
        // On the edge too: the kernel's lookup for the packet path needs forwarding.
        netns.set("ipv4/ip_forward", "1")?;
        netns.set("ipv6/conf/all/forwarding", "1")?;
    }
    for scope in ["all", "default"] {
        netns.set(&format!("ipv4/conf/{scope}/rp_filter"), "0")?;
        netns.set(&format!("ipv4/conf/{scope}/send_redirects"), "0")?;
        netns.set(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
    }
    Ok(())
}

fn default_routes(device: &str, v4: &str, v6: &str) -> String {
    format!("route add default via {v4} dev {device}\nroute add default via {v6} dev {device}\n")
}

fn line(lines: &mut String, line: &str) {
    writeln!(lines, "{line}").expect("writing to a string succeeds");
}
