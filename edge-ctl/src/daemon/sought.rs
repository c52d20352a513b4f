//! The objects that the watch of the host's network observes for a configuration.

use crate::{
    config::AttachMode,
    control::inventory::Inventory,
    net::{Destinations, Sought},
};

/// The routes to all backends, as for clients' packets, the VIPs and the interfaces.
pub(super) fn sought(inventory: &Inventory) -> Sought {
    let config = &inventory.config;
    let destinations = Destinations::of(config);
    Sought {
        backends: inventory
            .addresses()
            .map(|(backend, address, pool)| (backend, destinations.to(pool.map(|pool| pool.name.as_str()), address)))
            .collect(),
        vips: inventory.vips(),
        interfaces: config.interfaces.iter().map(|interface| interface.name.clone()).collect(),
        native: config.interfaces.iter().any(|interface| interface.mode == AttachMode::Native),
    }
}
