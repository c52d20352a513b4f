//! The backends whose flows are cut if a configuration comes into force in new maps. Pure.

#![deny(clippy::disallowed_methods)]

use super::ChangeError;
use crate::{
    config::Config,
    control::few,
    plan::{PlanError, RetiredRecord},
};

/// Most backends that a refusal names.
const NAMED: usize = 8;

/// The names of these backends, `POOL/BACKEND`.
pub(crate) fn names(cut: &[RetiredRecord]) -> Vec<String> {
    cut.iter().map(|known| format!("{}/{}", known.pool, known.name)).collect()
}

/// Why new maps, which have no room for the backends `cut`, are not made where the present ones do not suffice because
/// of `why`.
pub(crate) fn refusal(cut: &[RetiredRecord], in_force: &Config, why: &PlanError) -> ChangeError {
    let ports = in_force.services.iter().flat_map(|service| &service.ports);
    let after = ports.map(|ports| ports.flow_idle_timeout).max().unwrap_or_default();
    ChangeError::Held { fact: why.fact(), names: few(&names(cut), NAMED), after }
}
