//! From a configuration file to published maps.

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use edge_common::abi::{MAX_STATIONS, State};
use thiserror::Error;

use super::reading;
use crate::{
    bpf::{BpfError, PinDir, PinnedMaps},
    config::{Config, ConfigError},
    control::{
        chain,
        events::{EventKind, Events},
        inventory::{Inventory, InventoryError},
    },
    net::{self, Devices, Receiver},
    plan::{self, Capacity, Image, PlanError, Snapshot},
    xdp::{self, XdpError},
};

/// Why a configuration is not in force. Nothing was changed by it.
#[derive(Debug, Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("the maps cannot be read or written")]
    Maps(#[from] BpfError),
    #[error("the maps of an unfinished start cannot be removed")]
    Detach(#[from] XdpError),
    #[error(transparent)]
    Inventory(#[from] InventoryError),
}

/// What a start found in the pinned maps, and the configuration that it has brought into force.
pub(crate) struct Start {
    pub(crate) maps: PinnedMaps,
    pub(crate) inventory: Inventory,
    /// Nothing was pinned before.
    pub(crate) fresh: bool,
    /// Why the file is not in force, where the pinned configuration stays in force instead.
    pub(crate) refused: Option<ApplyError>,
}

/// Brings the file into force, in the pinned maps or else in new ones.
///
/// A bad file does not end what is pinned: the configuration that was published last stays in force.
pub(crate) fn start(pins: &PinDir, path: &Path, events: &Events) -> Result<Start, ApplyError> {
    let file = reading::read_at_start(path);
    let pinned = match PinnedMaps::open(pins)? {
        Some(maps) => maps.snapshot()?.map(|snapshot| (maps, snapshot)),
        None => None,
    };
    let Some((mut maps, snapshot)) = pinned else {
        let config = file?;
        // Maps of a start that was killed before it published anything; their sizes may differ, and no packet uses them.
        xdp::clear(pins)?;
        let mut maps = PinnedMaps::create(pins, &Capacity::of(&config))?;
        let inventory = publish(&mut maps, config, events)?;
        return Ok(Start { maps, inventory, fresh: true, refused: None });
    };
    maps.repair()?;
    report_adoption(&maps, &snapshot, events);
    let applied = match file {
        Ok(config) if config.text == snapshot.config => {
            let inventory = Inventory::new(config, &snapshot)?;
            return Ok(Start { maps, inventory, fresh: false, refused: None });
        }
        Ok(config) => publish(&mut maps, config, events),
        Err(error) => Err(error.into()),
    };
    match applied {
        Ok(inventory) => Ok(Start { maps, inventory, fresh: false, refused: None }),
        Err(error) => {
            let inventory = Inventory::from_snapshot(&snapshot)?;
            events.report(EventKind::ConfigRefused, &path.display().to_string(), chain(&error));
            Ok(Start { maps, inventory, fresh: false, refused: Some(error) })
        }
    }
}

/// Plans the publication of `config` after the published generation.
///
/// # Errors
/// When it does not fit, or the published generation cannot be read.
pub(crate) fn plan(maps: &PinnedMaps, config: &Config) -> Result<Result<Image, PlanError>, BpfError> {
    maps.with_previous(|previous| plan::plan(config, maps.capacity(), previous))
}

/// Publishes `config` after the published generation.
pub(crate) fn publish(maps: &mut PinnedMaps, config: Config, events: &Events) -> Result<Inventory, ApplyError> {
    let image = plan(maps, &config)??;
    let inventory = Inventory::new(config, &image.snapshot)?;
    match net::own(&vips(&inventory.config)) {
        Ok(own) => maps.set_host_vips(&own),
        // What was known stands, and the watch asks again.
        Err(error) => events.report(EventKind::LocalFault, "addresses", chain(&error)),
    }
    maps.publish(&image)?;
    events.report(
        EventKind::ConfigApplied,
        &format!("generation {}", image.snapshot.generation),
        format!(
            "{} services, {} pools, {} backends",
            inventory.config.services.len(),
            inventory.config.pools.len(),
            inventory.members().count()
        ),
    );
    Ok(inventory)
}

/// All VIPs.
pub(crate) fn vips(config: &Config) -> BTreeSet<IpAddr> {
    config.services.iter().map(|service| service.vip).collect()
}

/// Stores at which MAC addresses of its interfaces the host takes frames.
pub(crate) fn set_stations(maps: &mut PinnedMaps, devices: &Devices, config: &Config, events: &Events) {
    let receivers = config
        .interfaces
        .iter()
        .map(|interface| Receiver { name: &interface.name, virtual_macs: &interface.virtual_macs });
    let left_out = maps.set_stations(&net::stations(devices, receivers));
    if left_out > 0 {
        let message = format!(
            "{left_out} MAC addresses of devices on the interfaces are left out: there is room for {MAX_STATIONS}, and frames \
             to those are not taken"
        );
        events.report(EventKind::LocalFault, "network devices", message);
    }
}

fn report_adoption(maps: &PinnedMaps, snapshot: &Snapshot, events: &Events) {
    let states: Vec<_> = snapshot.backends().map(|(_, backend)| maps.state(backend.number)).collect();
    let with = |bits| states.iter().filter(|state| state.has_all(bits)).count();
    let failovers = snapshot.services.iter().filter(|service| maps.failover(service.number).first > 0).count();
    let attached = xdp::attached(maps.pins());
    events.report(
        EventKind::Adopted,
        &format!("generation {}", snapshot.generation),
        format!(
            "found {} backends: {} down, {} drained, {} disabled; {failovers} services failed over; attached to {}",
            states.len(),
            with(State::DOWN),
            with(State::DRAINED),
            with(State::DISABLED),
            match attached {
                Ok(interfaces) if interfaces.is_empty() => "nothing".to_owned(),
                Ok(interfaces) => interfaces.join(", "),
                Err(error) => format!("what could not be looked up ({})", chain(&error)),
            }
        ),
    );
}
