//! Why a configuration did not come into force.

use std::time::Duration;

use thiserror::Error;

use super::{Refused, RehearsalError, Unfit, fitness::ALLOW_UNFIT};
use crate::{bpf::BpfError, config::ConfigError, control::inventory::InventoryError, plan::PlanError, xdp::XdpError};

/// Reason why a change was not made; nothing was changed.
#[derive(Debug, Error)]
pub(crate) enum ChangeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Guard(#[from] Refused),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error(
        "{}\n{}\nto apply it all the same, add {} {ALLOW_UNFIT}",
        unfit.what(), guard.what(), guard.needs
    )]
    UnfitAndGuard { unfit: Unfit, guard: Refused },
    #[error(transparent)]
    Rehearsal(#[from] RehearsalError),
    #[error("there is no generation to go back to{}", known.as_ref().map_or_else(String::new, |known| format!(": {known}")))]
    NothingToGoBackTo { known: Option<String> },
    /// A start found a file whose text was in force before, and has been replaced by another one since.
    #[error("the file was not applied: {why}. `edge-ctl reload` applies it")]
    Replaced { why: String },
    /// Maps that replaced others are not in use yet, and the flows of the earlier ones were not all carried over.
    #[error(
        "the last change has made new maps, and the program is not on them yet: repeat the command in some seconds"
    )]
    Growing,
    /// Larger maps would cut flows of backends that leave.
    #[error(
        "{fact}; larger maps would have no room for {names}, whose flows would be cut: write larger [limits] backends, or \
         repeat the command once these backends are removed and their flows have ended, about {} after the last packets",
        humantime::format_duration(*after)
    )]
    Held { fact: String, names: String, after: Duration },
    #[error("no change waits to be confirmed")]
    NoTrial,
    #[error("the maps cannot be read or written")]
    Maps(#[from] BpfError),
    #[error("the maps of an unfinished start cannot be removed")]
    Detach(#[from] XdpError),
    #[error(transparent)]
    Inventory(#[from] InventoryError),
}

impl ChangeError {
    /// Whether the pinned maps exist, but can't be used.
    pub(crate) const fn is_damage(&self) -> bool {
        match self {
            Self::Maps(error) => error.is_damage(),
            Self::Inventory(_) => true,
            Self::Config(_)
            | Self::Plan(_)
            | Self::Guard(_)
            | Self::Rehearsal(_)
            | Self::NothingToGoBackTo { .. }
            | Self::NoTrial
            | Self::Replaced { .. }
            | Self::Detach(_)
            | Self::Unfit(_)
            | Self::UnfitAndGuard { .. }
            | Self::Held { .. }
            | Self::Growing => false,
        }
    }

    /// Whether the request is wrong.
    pub(crate) const fn is_refusal(&self) -> bool {
        match self {
            Self::Config(_)
            | Self::Plan(_)
            | Self::Guard(_)
            | Self::Unfit(_)
            | Self::UnfitAndGuard { .. }
            | Self::Rehearsal(_)
            | Self::NothingToGoBackTo { .. }
            | Self::NoTrial
            | Self::Growing
            | Self::Held { .. }
            | Self::Replaced { .. } => true,
            Self::Maps(_) | Self::Detach(_) | Self::Inventory(_) => false,
        }
    }
}
