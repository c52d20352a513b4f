//! From a configuration file to maps and links, and back to nothing.

use std::path::Path;

use edge_common::abi::State;
use thiserror::Error;
use tracing::warn;

use super::{
    events::{Events, Kind},
    inventory::{Inventory, InventoryError},
    operate::Outcome,
};
use crate::{
    config::{self, Announce, Config, ConfigError},
    kernel::{Kernel, KernelError, PinDir},
    model::{Capacity, PlanError, Snapshot},
    net::{self, Announced, NetError},
};

/// Why a configuration is not in force. Nothing was changed by it.
#[derive(Debug, Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("the maps cannot be read or written")]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Inventory(#[from] InventoryError),
}

/// What a start found, and what it has made of it.
pub(crate) struct Start {
    pub(crate) kernel: Kernel,
    pub(crate) inventory: Inventory,
    /// Nothing was pinned before.
    pub(crate) fresh: bool,
    /// Why the file is not in force, where what is pinned goes on instead.
    pub(crate) refused: Option<ApplyError>,
}

/// Brings the file into force: over what is pinned, or else in new maps.
///
/// What is pinned outlives a bad file: the configuration that was published last is gone on with.
pub(crate) fn start(pins: &PinDir, path: &Path, events: &Events) -> Result<Start, ApplyError> {
    let file = config::load(path);
    let pinned = match Kernel::open(pins)? {
        Some(kernel) => kernel.snapshot()?.map(|snapshot| (kernel, snapshot)),
        None => None,
    };
    let Some((mut kernel, snapshot)) = pinned else {
        let config = file?;
        // Left by a start that was killed before it published anything: perhaps of other sizes, and nobody's yet.
        Kernel::detach(pins)?;
        let mut kernel = Kernel::create(pins, &Capacity::of(&config))?;
        let inventory = publish(&mut kernel, config, events)?;
        return Ok(Start { kernel, inventory, fresh: true, refused: None });
    };
    kernel.settle()?;
    tell_of_adoption(&kernel, &snapshot, events);
    let applied = match file {
        Ok(config) if config.text == snapshot.config => {
            let inventory = Inventory::new(config, &snapshot)?;
            return Ok(Start { kernel, inventory, fresh: false, refused: None });
        }
        Ok(config) => publish(&mut kernel, config, events),
        Err(error) => Err(error.into()),
    };
    match applied {
        Ok(inventory) => Ok(Start { kernel, inventory, fresh: false, refused: None }),
        Err(error) => {
            let inventory = Inventory::from_snapshot(&snapshot)?;
            events.tell(Kind::ConfigRefused, &path.display().to_string(), super::api::chain(&error));
            Ok(Start { kernel, inventory, fresh: false, refused: Some(error) })
        }
    }
}

/// Publishes `config` after what is published.
pub(crate) fn publish(kernel: &mut Kernel, config: Config, events: &Events) -> Result<Inventory, ApplyError> {
    let image = kernel.plan(&config)??;
    let inventory = Inventory::new(config, &image.snapshot)?;
    kernel.publish(&image)?;
    events.tell(
        Kind::ConfigApplied,
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

/// Makes the links what the configuration says. What fails is told, and the rest is done all the same.
pub(crate) fn attach(kernel: &mut Kernel, config: &Config, events: &Events) -> Vec<KernelError> {
    let mut failures = Vec::new();
    for interface in &config.interfaces {
        match kernel.attach(&interface.name, interface.mode) {
            Ok(()) => events.tell(Kind::Attached, &interface.name, "the program is attached"),
            Err(error) => {
                events.tell(Kind::LocalTrouble, &interface.name, super::api::chain(&error));
                failures.push(error);
            }
        }
    }
    failures
}

/// VIPs that the configuration wants announced, each once.
pub(crate) fn announced(config: &Config) -> Vec<Announced> {
    let mut announced: Vec<Announced> = Vec::new();
    for service in &config.services {
        if let Announce::L2 { interface } = &service.announce {
            let one = Announced { vip: service.vip, interface: interface.clone() };
            if !announced.contains(&one) {
                announced.push(one);
            }
        }
    }
    announced
}

/// Takes announced VIPs off their interfaces.
pub(crate) async fn withdraw(vips: &[Announced], warnings: &mut Vec<String>) -> Vec<String> {
    let taken: Result<_, NetError> = net::withdraw(vips).await;
    match taken {
        Ok(taken) => taken.iter().map(|one| format!("{} from {}", one.vip, one.interface)).collect(),
        Err(error) => {
            warn!(%error, "announced VIPs could not be withdrawn");
            warnings.push(format!("announced VIPs stay on their interfaces: {}", super::api::chain(&error)));
            Vec::new()
        }
    }
}

/// Takes everything down: announced addresses, links, programs and maps.
pub(crate) async fn detach(
    pins: &PinDir,
    vips: &[Announced],
    mut warnings: Vec<String>,
) -> Result<Outcome, KernelError> {
    // The address goes first: clients find nobody sooner than a program that is gone.
    let withdrawn = withdraw(vips, &mut warnings).await;
    let interfaces = Kernel::detach(pins)?;
    let mut message = match &interfaces[..] {
        [] => "nothing was attached; the pinned maps are gone".to_owned(),
        interfaces => format!("detached from {}; the pinned maps are gone", interfaces.join(", ")),
    };
    if !withdrawn.is_empty() {
        message = format!("{message}; withdrawn: {}", withdrawn.join(", "));
    }
    Ok(Outcome { changed: true, message, warnings })
}

fn tell_of_adoption(kernel: &Kernel, snapshot: &Snapshot, events: &Events) {
    let states: Vec<_> = snapshot.backends().map(|(_, backend)| kernel.state(backend.number)).collect();
    let with = |bits| states.iter().filter(|state| state.has_all(bits)).count();
    let failovers = snapshot.services.iter().filter(|service| kernel.failover(service.number).first > 0).count();
    let attached = kernel.attached();
    events.tell(
        Kind::Adopted,
        &format!("generation {}", snapshot.generation),
        format!(
            "found {} backends: {} down, {} drained, {} disabled; {failovers} services failed over; attached to {}",
            states.len(),
            with(State::DOWN),
            with(State::DRAINED),
            with(State::DISABLED),
            if attached.is_empty() { "nothing".to_owned() } else { attached.join(", ") }
        ),
    );
}
