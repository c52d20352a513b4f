//! Failovers that evacuations have displaced, and that come back after them. Their time may be over before.

use edge_common::abi::Failover;

use super::{Evacuation, base_of, settled};
use crate::{
    bpf::BpfError,
    config::is_meant,
    control::{
        data_plane::DataPlane,
        events::{EventKind, Events},
        inventory::Inventory,
    },
};

/// Whether the evacuations keep a failover of `service`, an operator's name for it.
pub(crate) fn displaces(evacuations: &[Evacuation], service: &str) -> bool {
    evacuations.iter().flat_map(|evacuation| &evacuation.before).any(|base| is_meant(service, &base.service))
}

/// Ends a displaced failover: the service goes where the evacuations alone take it, also after them.
///
/// # Errors
/// If the maps do not have the service; the evacuations are unchanged then.
pub(crate) fn end_displaced(
    inventory: &Inventory,
    plane: &mut impl DataPlane,
    events: &Events,
    evacuations: &mut Vec<Evacuation>,
    service: &str,
) -> Result<(), BpfError> {
    let mut after = evacuations.clone();
    for evacuation in &mut after {
        evacuation.before.retain(|base| !is_meant(service, &base.service));
    }
    for (part, number) in inventory.service(service).unwrap_or_default() {
        let Some(base) = base_of(evacuations, part) else { continue };
        // Otherwise an operator has failed the service over since.
        if plane.failover(number) == settled(inventory, part, evacuations, base) {
            plane.set_failover(number, settled(inventory, part, &after, Failover::default()))?;
        }
    }
    *evacuations = after;
    events.report(
        EventKind::Failback,
        service,
        "its failover, which an evacuation has displaced, is over: its time has passed",
    );
    Ok(())
}
