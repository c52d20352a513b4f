//! A host behind another one, on a path whose MTU is smaller than both ends assume.

use anyhow::Result;

use super::Small;
use crate::lab::{
    fabric,
    link::{self, End},
    netns::Netns,
    topology::{EDGE, EDGE_V4, EDGE_V6},
};

/// The router's device on the path.
const DEVICE: &str = "far0";

impl Small {
    /// Creates the host `name` behind `router`, with the addresses [`addresses`]`(number)`. Packets to the host are
    /// limited to `mtu` bytes; packets from the host are not.
    pub fn behind(&mut self, router: &str, name: &'static str, number: u8, mtu: u16) -> Result<()> {
        let near = self.netns(router);
        let prefix = near.name().strip_suffix(router).unwrap_or_default();
        let far = Netns::create(&format!("{prefix}{name}"))?;
        fabric::settings(&far, false)?;
        link::pair(End { netns: near, name: DEVICE }, End { netns: &far, name: "eth0" })?;
        let (net_v4, net_v6) = (format!("10.9.{number}"), format!("fd09:{number}:"));
        near.set("ipv4/conf/all/forwarding", "1")?;
        near.set("ipv6/conf/all/forwarding", "1")?;
        near.ip(&format!(
            "addr add {net_v4}.1/24 dev {DEVICE}\naddr add {net_v6}:1/64 dev {DEVICE} nodad\n\
             route add {net_v4}.2/32 dev {DEVICE} mtu lock {mtu}\nroute add {net_v6}:2/128 dev {DEVICE} mtu lock {mtu}\n"
        ))?;
        far.ip(&format!(
            "addr add {net_v4}.2/24 dev eth0\naddr add {net_v6}:2/64 dev eth0 nodad\n\
             route add default via {net_v4}.1\nroute add default via {net_v6}:1\n"
        ))?;
        let backend = self.backends.iter().find(|(backend, ..)| *backend == router);
        let (via_v4, via_v6) = match backend {
            Some((_, v4, v6)) => (v4.to_string(), v6.to_string()),
            None => (EDGE_V4.to_string().replace("0.1", "0.2"), EDGE_V6.to_string().replace("::1", "::2")),
        };
        self.netns(EDGE).ip(&format!("route add {net_v4}.0/24 via {via_v4}\nroute add {net_v6}:/64 via {via_v6}\n"))?;
        self.hosts.push((name, far));
        Ok(())
    }
}

/// Addresses of the host with this number.
pub fn addresses(number: u8) -> [String; 2] {
    [format!("10.9.{number}.2"), format!("fd09:{number}::2")]
}
