//! What the watch of the host's network is to look for, for a configuration.

use std::net::IpAddr;

use crate::{
    control::inventory::Inventory,
    net::{Destination, Sought},
};

/// Ways to all backends, as clients' packets are sent: to those that some service reaches by a tunnel from the tunnel's
/// source.
pub(super) fn sought(inventory: &Inventory) -> Sought {
    let config = &inventory.config;
    let tunnelled = config.tunnelled();
    let destination = |address: IpAddr, pool: Option<&str>| {
        let is_tunnelled = pool.is_some_and(|pool| tunnelled.contains(pool));
        Destination { address, source: config.tunnel.source(address).filter(|_| is_tunnelled) }
    };
    Sought {
        backends: inventory
            .addresses()
            .map(|(backend, address, pool)| (backend, destination(address, pool.map(|pool| pool.name.as_str()))))
            .collect(),
        vips: inventory.vips(),
        interfaces: config.interfaces.iter().map(|interface| interface.name.clone()).collect(),
    }
}
