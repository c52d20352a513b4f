//! The backends whose flows are cut if a configuration comes into force in new maps. Pure.

#![deny(clippy::disallowed_methods)]

use edge_common::abi::BackendNumber;

use super::ChangeError;
use crate::{
    config::{Config, is_same},
    control::{few, inventory::Inventory},
    plan::PlanError,
};

/// Most backends that a refusal names.
const NAMED: usize = 8;

/// Names of backends that have flows, and no number in new maps.
pub(crate) struct Cut {
    /// Backends in force that the wanted configuration lacks or has at another address.
    pub(crate) leave: Vec<String>,
    /// Backends that were removed before.
    pub(crate) retired: Vec<String>,
}

impl Cut {
    pub(crate) fn is_empty(&self) -> bool {
        self.leave.is_empty() && self.retired.is_empty()
    }

    pub(crate) fn names(self) -> Vec<String> {
        [self.leave, self.retired].concat()
    }

    /// Why new maps are not made where the present ones do not suffice because of `why`.
    pub(crate) fn refusal(&self, inventory: &Inventory, why: PlanError) -> ChangeError {
        if !self.leave.is_empty() {
            return why.into();
        }
        let ports = inventory.config.services.iter().flat_map(|service| &service.ports);
        let after = ports.map(|ports| ports.flow_idle_timeout).max().unwrap_or_default();
        ChangeError::Held { fact: why.fact(), names: few(&self.retired, NAMED), after }
    }
}

/// The backends whose flows are cut by `wanted` in new maps. Flows are still recorded with a retired backend according to
/// `is_used`.
pub(crate) fn cut(inventory: &Inventory, wanted: &Config, is_used: impl Fn(BackendNumber) -> bool) -> Cut {
    let stays = |pool: &str, name: &str, address| {
        let pools = wanted.pools.iter().filter(|known| is_same(&known.name, pool));
        pools.flat_map(|pool| &pool.backends).any(|known| known.name == name && known.address == address)
    };
    let members = inventory.members();
    let leave = members.filter(|member| !stays(&member.pool.name, &member.backend.name, member.backend.address));
    let retired = inventory.retired.iter();
    let gone = retired.filter(|known| is_used(known.number) && !stays(&known.pool, &known.name, known.address));
    Cut {
        leave: leave.map(|member| member.name()).collect(),
        retired: gone.map(|known| format!("{}/{}", known.pool, known.name)).collect(),
    }
}
