//! The load balancers that spread clients over three backends, and their configurations.

use std::{net::IpAddr, process::Command};

use anyhow::{Context as _, Result};
use edge_tests::lab::topology::{Backend, EDGE_V4, Family, Part, Provider};

use super::tools::Tools;

/// Every host of the lab has a route to this VIP.
pub(super) const VIP: &str = "192.0.2.10";

/// A load balancer with one of its configurations, or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    EdgeDsr,
    EdgeIpip,
    EdgeNat,
    NftNumgen,
    NftJhash,
    NftMasquerade,
    HaProxy,
    Nginx,
    Direct,
}

impl Contender {
    /// All contenders, in the order of measurement: those on XDP first.
    pub(super) const ALL: [Self; 9] = [
        Self::EdgeDsr,
        Self::EdgeIpip,
        Self::EdgeNat,
        Self::NftNumgen,
        Self::NftJhash,
        Self::NftMasquerade,
        Self::HaProxy,
        Self::Nginx,
        Self::Direct,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::EdgeDsr => "edge dsr",
            Self::EdgeIpip => "edge ipip",
            Self::EdgeNat => "edge nat",
            Self::NftNumgen => "nftables numgen",
            Self::NftJhash => "nftables jhash",
            Self::NftMasquerade => "nftables masquerade",
            Self::HaProxy => "HAProxy TCP",
            Self::Nginx => "nginx stream",
            Self::Direct => "no balancer",
        }
    }

    /// Name of the configuration file in this directory.
    pub(super) fn configuration(self) -> Option<&'static str> {
        match self {
            Self::EdgeDsr => Some("edge-dsr.toml"),
            Self::EdgeIpip => Some("edge-ipip.toml"),
            Self::EdgeNat => Some("edge-nat.toml"),
            Self::NftNumgen => Some("nft-numgen.nft"),
            Self::NftJhash => Some("nft-jhash.nft"),
            Self::NftMasquerade => Some("nft-masquerade.nft"),
            Self::HaProxy => Some("haproxy.cfg"),
            Self::Nginx => Some("nginx.conf"),
            Self::Direct => None,
        }
    }

    pub(super) fn is_xdp(self) -> bool {
        matches!(self, Self::EdgeDsr | Self::EdgeIpip | Self::EdgeNat)
    }

    /// Whether anything moves clients when a backend dies.
    pub(super) fn balances(self) -> bool {
        self != Self::Direct
    }

    pub(super) fn version(self, tools: &Tools) -> Result<String> {
        match self {
            Self::EdgeDsr | Self::EdgeIpip | Self::EdgeNat => version(Command::new(&tools.edge_ctl).arg("--version")),
            Self::NftNumgen | Self::NftJhash | Self::NftMasquerade => version(Command::new("nft").arg("--version")),
            Self::HaProxy => version(Command::new(&tools.haproxy).arg("-v")),
            Self::Nginx => version(Command::new(&tools.nginx).arg("-v")),
            Self::Direct => Ok(String::new()),
        }
    }

    /// The network of the backends.
    fn part(self) -> Part {
        match self {
            Self::EdgeIpip | Self::EdgeNat | Self::NftMasquerade | Self::Direct => Part::Wan,
            Self::EdgeDsr | Self::NftNumgen | Self::NftJhash | Self::HaProxy | Self::Nginx => Part::Lan,
        }
    }

    /// Addresses of the backends, in order.
    pub(super) fn addresses(self) -> Vec<IpAddr> {
        Backend::of(Provider::A).map(|backend| backend.address(self.part(), Family::V4)).collect()
    }

    /// The configuration with the lab's addresses.
    pub(super) fn text(self) -> String {
        let template = match self {
            Self::EdgeDsr => include_str!("edge-dsr.toml"),
            Self::EdgeIpip => include_str!("edge-ipip.toml"),
            Self::EdgeNat => include_str!("edge-nat.toml"),
            Self::NftNumgen => include_str!("nft-numgen.nft"),
            Self::NftJhash => include_str!("nft-jhash.nft"),
            Self::NftMasquerade => include_str!("nft-masquerade.nft"),
            Self::HaProxy => include_str!("haproxy.cfg"),
            Self::Nginx => include_str!("nginx.conf"),
            Self::Direct => "",
        };
        let text = template.replace("@VIP@", VIP).replace("@EDGE@", &EDGE_V4.to_string());
        (1..)
            .zip(self.addresses())
            .fold(text, |text, (number, address)| text.replace(&format!("@BACKEND{number}@"), &address.to_string()))
    }
}

/// The version in `command`'s output: from the first digit to the end of that word.
fn version(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("could not start {}", command.get_program().display()))?;
    // nginx prints it on standard error.
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let digit = text.find(|char: char| char.is_ascii_digit()).with_context(|| format!("no version in: {text}"))?;
    Ok(text[digit..].split_whitespace().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_in_a_configuration_is_filled() {
        for contender in Contender::ALL {
            let text = contender.text();
            assert!(!text.contains('@'), "{}: {text}", contender.name());
            assert!(contender.addresses().iter().all(|address| text.is_empty() || text.contains(&address.to_string())));
        }
    }
}
