//! Reads the properties of a host that a configuration depends on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
};

use thiserror::Error;

use super::{
    ports::HostPorts,
    probes::{Unmade, unmade},
};
use crate::{
    config::{Config, Range},
    net::{self, Destination, Destinations, NetError, Survey, SurveyedRoute},
    plan::Capacity,
};

/// The properties of a host that a configuration depends on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    pub(super) network: Survey,
    /// Values below `/proc/sys` by their names for `sysctl`; missing settings are absent.
    pub(super) sysctls: BTreeMap<String, i64>,
    /// Only read if some service translates.
    pub(super) ports: HostPorts,
    pub(super) pinned: Pinned,
    /// Pools whose probes can't be made here, by name.
    pub(super) unmade: BTreeMap<String, Unmade>,
    /// Why this kernel can't run the load balancer, if it was checked.
    pub(crate) kernel: Option<String>,
}

/// The host's pinned maps.
#[derive(Clone, Debug, Default)]
pub(crate) enum Pinned {
    /// There are none: they will be made as the configuration requires.
    #[default]
    Nothing,
    Maps(Capacity),
    /// The maps can't be examined, for this reason.
    Unknown(String),
}

#[derive(Debug, Error)]
pub(crate) enum HostError {
    #[error("cannot see this host's network")]
    Network(#[from] NetError),
    #[error("cannot read {name}")]
    Sysctl { name: String, source: io::Error },
}

impl Host {
    /// Reads this host as far as `config` depends on it, given its pinned maps. Blocks; not for asynchronous code.
    pub(crate) fn read(config: &Config, pinned: Pinned) -> Result<Self, HostError> {
        let interfaces: Vec<_> = config.interfaces.iter().map(|interface| interface.name.clone()).collect();
        let network = net::survey(&destinations(config), &interfaces)?;
        let mut sysctls = BTreeMap::new();
        for name in names(config) {
            let path = format!("/proc/sys/{}", path(&name));
            match fs::read_to_string(path) {
                Ok(value) => {
                    sysctls.extend(value.trim().parse().ok().map(|value| (name, value)));
                }
                // There is no such interface, or the kernel lacks the setting.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(HostError::Sysctl { name, source }),
            }
        }
        let failed = |(name, source)| HostError::Sysctl { name, source };
        let ports = config.limits.nat_flows.map(|_| HostPorts::read()).transpose().map_err(failed)?.unwrap_or_default();
        let unmade =
            config.pools.iter().filter_map(|pool| Some((pool.name.clone(), unmade(&pool.probe.as_ref()?.kind)?)));
        Ok(Self { network, sysctls, ports, pinned, unmade: unmade.collect(), kernel: None })
    }

    /// MTU of the interface by which an address is reached, bytes of IP packet; `None` if there is no route.
    pub(crate) fn egress_mtu(&self, address: IpAddr) -> Option<u32> {
        let (_, route) = self.network.routes.iter().find(|(destination, _)| destination.address == address)?;
        match route {
            SurveyedRoute::Via { egress, .. } => Some(self.network.interfaces.get(egress)?.mtu),
            SurveyedRoute::None(_) => None,
        }
    }
}

/// The destinations of all backends, as for clients' packets, and the ends of the prefixes that tunnel packets come from.
fn destinations(config: &Config) -> BTreeSet<Destination> {
    let destinations = Destinations::of(config);
    let pools = config.pools.iter().flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)));
    let backends = pools.flat_map(|(pool, backend)| {
        let taken = destinations.to(Some(&pool.name), backend.address);
        std::iter::once(taken).chain(destinations.not_taken(&pool.name, backend.address))
    });
    backends.chain(config.tunnel.ranges().flat_map(Range::ends).map(Destination::of)).collect()
}

/// `sysctl`'s name of a per-interface setting.
pub(crate) fn of_interface(family: &str, interface: &str, key: &str) -> String {
    // As in sysctl(8), a dot in an interface's name becomes a slash in the key.
    format!("net.{family}.conf.{}.{key}", interface.replace('.', "/"))
}

/// The path of a setting: dots and slashes are exchanged.
fn path(name: &str) -> String {
    let other = |letter| match letter {
        '.' => '/',
        '/' => '.',
        letter => letter,
    };
    name.chars().map(other).collect()
}

fn names(config: &Config) -> Vec<String> {
    let mut names = vec!["net.core.bpf_jit_enable".to_owned()];
    for family in ["ipv4", "ipv6"] {
        names.push(format!("net.{family}.neigh.default.gc_thresh3"));
        names.extend(config.interfaces.iter().map(|interface| of_interface(family, &interface.name, "forwarding")));
    }
    names.push(of_interface("ipv4", "all", "arp_ignore"));
    names.extend(config.interfaces.iter().map(|interface| of_interface("ipv6", &interface.name, "disable_ipv6")));
    names.extend(config.interfaces.iter().map(|interface| of_interface("ipv4", &interface.name, "arp_ignore")));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_an_interfaces_name_is_part_of_its_folder() {
        let name = of_interface("ipv4", "eth0.7", "forwarding");
        assert_eq!(
            (name.as_str(), path(&name).as_str()),
            ("net.ipv4.conf.eth0/7.forwarding", "net/ipv4/conf/eth0.7/forwarding")
        );
    }
}
