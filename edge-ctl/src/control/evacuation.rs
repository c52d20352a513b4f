//! Evacuations: by an operator's request all services leave a pool, and return by another request or after a set time.
//!
//! ```text
//! pools of a service     [a, b, c], an operator's failover `base` (most have none)
//! evacuated              a      -> failover to b
//!                        a, b   -> failover to c
//!                        a, b, c -> no other pool: left alone
//! ```
//!
//! [`settled`] implements that rule; evacuation and return set the failover that it returns. If a service's failover
//! differs from it, an operator has changed it since, and it stays as it is.

#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

mod carry_out;
mod displaced;
mod forecast;

#[cfg(test)]
mod tests;

use edge_common::abi::Failover;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    carry_out::{bring_back, carry_out},
    displaced::{displaces, end_displaced},
    forecast::PeakRates,
};
use super::{deadline::Deadline, inventory::Inventory};
use crate::config::{Service, is_meant};

/// Most evacuations at a time; all of them are kept in the maps.
pub(super) const MOST: usize = 16;

/// An operator's request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Milliseconds until services return automatically.
    pub(crate) for_ms: Option<u64>,
    pub(crate) reason: Option<String>,
    /// Established flows stay on the pool.
    pub(crate) drain: bool,
    /// Backends are also drained or disabled, for services that have no other pool.
    pub(crate) force: bool,
}

/// An operator's request about one pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) pool: &'a str,
    pub(crate) wanted: &'a Wanted,
    pub(crate) now: Moment,
    /// For the forecast; it is left out where nothing is known.
    pub(crate) peaks: &'a PeakRates,
}

/// Time of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Milliseconds since 1970, UTC. For display only.
    pub(crate) unix_ms: u64,
    /// Milliseconds of `CLOCK_BOOTTIME`.
    pub(crate) boot_ms: u64,
}

/// An evacuation in force, with the state needed to undo it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Evacuation {
    /// The pool's name, as given by the operator.
    pub(crate) pool: String,
    /// Milliseconds since 1970, UTC. For display only.
    pub(crate) since: u64,
    #[serde(flatten)]
    pub(crate) deadline: Deadline,
    pub(crate) drain: bool,
    pub(crate) reason: Option<String>,
    /// Names (`POOL/BACKEND`) of the backends that the evacuation has drained (if `drain`) or disabled (if not).
    pub(crate) backends: Vec<String>,
    /// Earlier failovers by operators of the services concerned.
    pub(crate) before: Vec<Base>,
}

/// A service's failover without evacuations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    pub(crate) service: String,
    pub(crate) first: u8,
    pub(crate) evacuate: bool,
}

/// The first evacuation whose time is over.
pub(crate) fn over(evacuations: &[Evacuation], boot_ms: u64) -> Option<&Evacuation> {
    evacuations.iter().find(|evacuation| evacuation.deadline.is_over(boot_ms))
}

/// A service's failover without evacuations, if it was recorded.
fn base_of(evacuations: &[Evacuation], service: &Service) -> Option<Failover> {
    let kept = evacuations.iter().flat_map(|evacuation| &evacuation.before).find(|base| base.service == service.name);
    kept.map(|base| Failover { first: base.first, evacuate: base.evacuate })
}

/// The failover that a service has during these evacuations, the oldest first: evacuations that would leave it without a
/// pool leave it alone.
fn settled(inventory: &Inventory, service: &Service, evacuations: &[Evacuation], base: Failover) -> Failover {
    let first = |count| passed(inventory, service, &evacuations[..count], base);
    (0..=evacuations.len()).rev().find_map(first).unwrap_or(base)
}

/// The failover that takes a service past the evacuated pools; `None` if there is no other pool.
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
