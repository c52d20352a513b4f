//! Places tables of slots that services share while they are stable, so that their packets find owners in few lines of
//! a processor's cache.

use std::collections::BTreeMap;

use edge_common::abi::{Mode, SLOTS_PER_CELL};

use super::{CommonRecord, Snapshot, regions::Regions};
use crate::config::Config;

/// A table for each set of services with the same pools and number of slots, as far as there is room: without a table
/// their packets only cost more. `new` has the services; `before` is the previous generation, if its tables stay.
pub(super) fn place(
    config: &Config,
    before: Option<&Snapshot>,
    regions: &mut Regions,
    new: &Snapshot,
) -> Vec<CommonRecord> {
    let mut alike: BTreeMap<(&[usize], u32), Vec<u32>> = BTreeMap::new();
    for (service, record) in config.services.iter().zip(&new.services) {
        // A translated flow's entry decides, and so does a connection ID.
        if service.mode != Mode::Nat && service.quic_cid.is_none() {
            alike.entry((record.pools.as_slice(), record.slots)).or_default().push(record.number);
        }
    }
    let several = alike.into_iter().filter(|(_, services)| services.len() > 1);
    let place = |((_, slots), services): ((&[usize], u32), Vec<u32>)| {
        let is_it = |known: &&CommonRecord| known.slots == slots && known.services == services;
        let known = before.and_then(|before| before.common.iter().find(is_it));
        // From the other end than services' own slots, which must not lack room.
        let cell = known.map(|known| known.cell).or_else(|| regions.highest(slots / SLOTS_PER_CELL))?;
        Some(CommonRecord { cell, slots, services })
    };
    several.filter_map(place).collect()
}
