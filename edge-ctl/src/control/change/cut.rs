//! The backends whose flows are cut if a configuration comes into force in new maps. Pure.

#![deny(clippy::disallowed_methods)]

use edge_common::abi::BackendNumber;

use crate::{
    config::{Config, is_same},
    control::inventory::Inventory,
};

/// Names of backends that have flows, and no number in new maps: those that `wanted` lacks or has at another address,
/// and retired ones that flows are still recorded with according to `is_used`.
pub(crate) fn cut(inventory: &Inventory, wanted: &Config, is_used: impl Fn(BackendNumber) -> bool) -> Vec<String> {
    let stays = |pool: &str, name: &str, address| {
        let pools = wanted.pools.iter().filter(|known| is_same(&known.name, pool));
        pools.flat_map(|pool| &pool.backends).any(|known| known.name == name && known.address == address)
    };
    let members = inventory.members();
    let leave = members.filter(|member| !stays(&member.pool.name, &member.backend.name, member.backend.address));
    let retired = inventory.retired.iter();
    let gone = retired.filter(|known| is_used(known.number) && !stays(&known.pool, &known.name, known.address));
    leave.map(|member| member.name()).chain(gone.map(|known| format!("{}/{}", known.pool, known.name))).collect()
}
