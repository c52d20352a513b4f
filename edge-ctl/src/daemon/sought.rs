//! What the watch of the host's network is to look for, for a configuration.

use std::{collections::BTreeSet, net::IpAddr};

use edge_common::abi::Mode;

use crate::{
    control::inventory::Inventory,
    net::{Destination, Sought},
};

/// Ways to all backends, as clients' packets are sent: to those that some service reaches by a tunnel from the tunnel's
/// source, to those that some service reaches in `dsr` over no router.
pub(super) fn sought(inventory: &Inventory) -> Sought {
    let config = &inventory.config;
    let [tunnelled, direct] = [Mode::Ipip, Mode::Dsr].map(|mode| config.pools_of(mode));
    let destination = |address: IpAddr, pool: Option<&str>| {
        let is_in = |pools: &BTreeSet<&str>| pool.is_some_and(|pool| pools.contains(pool));
        Destination {
            address,
            source: config.tunnel.source(address).filter(|_| is_in(&tunnelled)),
            on_link: is_in(&direct),
        }
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
