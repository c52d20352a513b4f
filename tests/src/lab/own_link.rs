//! A separate link to provider a, for link failures: the tunnels to provider a use this link, all other packets do not.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{
    Lab,
    link::{self, End},
    patience::patience,
    topology::{EDGE, ROUTER},
    wait_until,
    xdp_pass::XdpPass,
};

/// Devices of the link: the edge's and the router's.
const NEAR: &str = "eth2";
const FAR: &str = "edge-a";
/// Networks behind the link, and the router's addresses on it.
const ROUTES: [(&str, &str); 2] = [("10.1.0.0/24", "10.0.2.254"), ("fd00:a::/64", "fd00:2::fe")];

impl Lab {
    /// Creates the link, and routes provider a over it.
    pub fn give_provider_a_a_link(&mut self) -> Result<()> {
        let (edge, router) = (self.netns(EDGE), self.netns(ROUTER));
        link::pair(End { netns: edge, name: NEAR }, End { netns: router, name: FAR })?;
        router.ip(&format!("addr add 10.0.2.254/24 dev {FAR}\naddr add fd00:2::fe/64 dev {FAR} nodad\n"))?;
        edge.ip(&format!("addr add 10.0.2.1/24 dev {NEAR}\naddr add fd00:2::1/64 dev {NEAR} nodad\n"))?;
        self.own_link = Some(XdpPass::attach(self.netns(ROUTER), FAR)?);
        self.route_provider_a(true)
    }

    /// Adds the routes to provider a, or makes the provider unreachable.
    pub fn route_provider_a(&self, there: bool) -> Result<()> {
        let line = |(network, via): (&str, &str)| {
            if there {
                format!("route replace {network} via {via} dev {NEAR}\n")
            } else {
                format!("route replace unreachable {network}\n")
            }
        };
        self.netns(EDGE).ip(&ROUTES.map(line).concat())
    }

    /// Plugs the link in or out at the router's end. Its routes vanish with the IPv6 addresses, and are restored.
    pub fn plug_provider_a(&self, plugged: bool) -> Result<()> {
        self.netns(ROUTER).ip(&format!("link set {FAR} {}\n", if plugged { "up" } else { "down" }))?;
        if plugged {
            // The kernel restores what the carrier's loss removed, except the router's IPv6 address.
            self.netns(ROUTER).ip(&format!("addr replace fd00:2::fe/64 dev {FAR} nodad\n"))?;
            self.route_provider_a(true)?;
        }
        Ok(())
    }

    /// Silences the router on the link and marks the edge's neighbour entries as failed; or ends the silence.
    pub fn mute_provider_a(&mut self, mute: bool) -> Result<()> {
        self.own_link = None;
        let router = self.netns(ROUTER);
        self.own_link = Some(if mute { XdpPass::drop_all(router, FAR)? } else { XdpPass::attach(router, FAR)? });
        if mute {
            let line = |(_, via): (&str, &str)| format!("neigh replace {via} dev {NEAR} nud failed\n");
            return self.netns(EDGE).ip(&ROUTES.map(line).concat());
        }
        // A neighbour that was given up is resolved anew.
        for (_, via) in ROUTES {
            let answers = wait_until(patience(Duration::from_secs(10)), || {
                let mut ping = self.netns(EDGE).command("ping")?;
                Ok(ping.args(["-n", "-c1", "-W1", via]).output()?.status.success())
            });
            ensure!(answers?, "{via} does not answer");
        }
        Ok(())
    }
}
