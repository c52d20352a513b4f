//! A whole pool that services leave by an operator's word, and return to by another one, or when its time is over.
//!
//! ```text
//! pools of a service     [a, b, c], an operator's failover `base` (most have none)
//! evacuated              a      -> failover to b
//!                        a, b   -> failover to c
//!                        a, b, c -> no other pool: left alone
//! ```
//!
//! [`passed`] is that rule; what evacuation and return do is what it says after them. A service whose failover is not what it says
//! was changed by an operator since, and is left alone.

#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

mod carry_out;

#[cfg(test)]
mod tests;

use std::time::Duration;

use edge_common::abi::Failover;
use serde::{Deserialize, Serialize};

pub(crate) use self::carry_out::{bring_back, carry_out};
use super::inventory::Inventory;
use crate::config::{Service, is_meant};

/// Evacuations at a time: more is not a plan, and all of them are kept in the maps.
pub(super) const MOST: usize = 16;

/// What an operator asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Milliseconds until it returns by itself.
    pub(crate) for_ms: Option<u64>,
    pub(crate) reason: Option<String>,
    /// Established flows stay.
    pub(crate) drain: bool,
    /// Its backends are drained or disabled as well, for services that have no other pool.
    pub(crate) force: bool,
}

/// When something is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Milliseconds since 1970, UTC. For people.
    pub(crate) unix_ms: u64,
    /// Milliseconds of `CLOCK_BOOTTIME`.
    pub(crate) boot_ms: u64,
}

/// An evacuation that is in force, with what has to be known to undo it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Evacuation {
    /// As the operator has called it.
    pub(crate) pool: String,
    /// Milliseconds since 1970, UTC. For people.
    pub(crate) since: u64,
    pub(crate) for_ms: Option<u64>,
    /// Milliseconds of `CLOCK_BOOTTIME`.
    pub(crate) until_ms: Option<u64>,
    pub(crate) drain: bool,
    pub(crate) reason: Option<String>,
    /// `POOL/BACKEND` of those that it has drained or disabled.
    pub(crate) backends: Vec<String>,
    /// Failovers that operators had made before, of services that it concerns.
    pub(crate) before: Vec<Base>,
}

/// A service's failover without evacuations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    pub(crate) service: String,
    pub(crate) first: u8,
    pub(crate) evacuate: bool,
}

impl Evacuation {
    /// How long it lasts by itself; `None`: until somebody ends it.
    pub(crate) fn left(&self, boot_ms: u64) -> Option<Duration> {
        // A deadline further off than it was at first is one of an earlier boot.
        let left = self.until_ms?.saturating_sub(boot_ms).min(self.for_ms.unwrap_or(u64::MAX));
        Some(Duration::from_millis(left))
    }
}

/// The first of them whose time is over.
pub(crate) fn over(evacuations: &[Evacuation], boot_ms: u64) -> Option<&Evacuation> {
    evacuations.iter().find(|evacuation| evacuation.left(boot_ms).is_some_and(|left| left.is_zero()))
}

/// The failover of a service without evacuations, as far as that is kept.
fn base_of(evacuations: &[Evacuation], service: &Service) -> Option<Failover> {
    let kept = evacuations.iter().flat_map(|evacuation| &evacuation.before).find(|base| base.service == service.name);
    kept.map(|base| Failover { first: base.first, evacuate: base.evacuate })
}

/// The failover that takes a service past the pools that are evacuated; `None`: there is no other one.
fn passed(inventory: &Inventory, service: &Service, evacuations: &[Evacuation], base: Failover) -> Option<Failover> {
    let mut wanted = base;
    for (position, pool) in service.pools.iter().enumerate().skip(base.first.into()) {
        let name = &inventory.config.pools[*pool].name;
        match evacuations.iter().find(|evacuation| is_meant(&evacuation.pool, name)) {
            None => {
                wanted.first = u8::try_from(position).unwrap_or(u8::MAX);
                return Some(wanted);
            }
            Some(evacuation) => wanted.evacuate |= !evacuation.drain,
        }
    }
    None
}
