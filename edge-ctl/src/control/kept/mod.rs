//! State that survives a reboot: operators' decisions and earlier generations, by names; never addresses or health.
//!
//! If the maps exist, they take precedence. This state is read at a cold start only.

mod chronicle;
mod disk;
mod choose;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    choose::{Choice, choose},
    chronicle::{append_events, load_events},
    disk::{load, save, set_aside},
};
use super::{change::History, data_plane::DataPlane, inventory::Inventory};
use crate::{
    config::{Weights, joined_backends},
    health::Health,
    plan::{self, Admin},
};

/// Format version of the files; other versions are not read.
pub(crate) const VERSION: u32 = 1;

/// All state that survives a reboot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) version: u32,
    /// When the state was handed over to be written, milliseconds since 1970, UTC. Tells which of two copies is newer.
    #[serde(default)]
    pub(crate) at: u64,
    /// The generation in force.
    pub(crate) generation: u64,
    pub(crate) history: History,
    pub(crate) backends: Vec<BackendWord>,
    pub(crate) failovers: Vec<FailoverWord>,
    /// Health set by operators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) forced: Vec<ForcedWord>,
    /// Weights set by operators.
    #[serde(default, skip_serializing_if = "Weights::is_empty")]
    pub(crate) weights: Weights,
}

/// A backend whose health is set by an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForcedWord {
    /// `POOL/BACKEND`.
    pub(crate) name: String,
    /// Up if true, down if false.
    pub(crate) is_up: bool,
    /// As `status` shows it.
    pub(crate) reason: String,
}

impl ForcedWord {
    pub(crate) const fn health(&self) -> Health {
        if self.is_up { Health::Up } else { Health::Down }
    }
}

/// An operator's decision about a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackendWord {
    /// `POOL/BACKEND`.
    pub(crate) name: String,
    pub(crate) decision: Decision,
    /// As `status` shows it.
    pub(crate) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decision {
    Drained,
    Disabled,
}

impl Decision {
    pub(crate) const fn admin(self) -> Admin {
        match self {
            Self::Drained => Admin::Drained,
            Self::Disabled => Admin::Disabled,
        }
    }
}

/// A service that an operator has failed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailoverWord {
    pub(crate) service: String,
    pub(crate) to: String,
    pub(crate) evacuate: bool,
}

impl Kept {
    /// Sets deadlines anew, at `boot_ms` of `CLOCK_BOOTTIME`, which has started anew with the host.
    pub(crate) fn restart(&mut self, boot_ms: u64) {
        let History { evacuations, failovers, .. } = &mut self.history;
        let deadlines = evacuations.iter_mut().map(|evacuation| &mut evacuation.deadline);
        for deadline in deadlines.chain(failovers.iter_mut().map(|note| &mut note.deadline)) {
            *deadline = deadline.restarted(boot_ms);
        }
    }

    /// The state to keep now.
    pub(crate) fn of(inventory: &Inventory, plane: &impl DataPlane, history: &History) -> Self {
        let mut backends = Vec::new();
        // A backend with two addresses gets one entry if the decision is the same for both.
        let mut decisions: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let (mut forced, mut forced_names) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
        for member in inventory.members() {
            let state = plane.state(member.number);
            if let Some(health) = plan::forced(state) {
                let key = (member.configured_name(), health == Health::Up, plane.why(member.number).reason);
                forced_names.entry(key).or_default().push(member.name());
            }
            let decision = match plan::admin(state) {
                Admin::Enabled => continue,
                Admin::Drained => Decision::Drained,
                Admin::Disabled => Decision::Disabled,
            };
            let key = (member.configured_name(), decision, plane.why(member.number).reason);
            decisions.entry(key).or_default().push(member.name());
        }
        for ((_, decision, reason), names) in decisions {
            let names = joined_backends(names.iter().map(String::as_str)).into_iter();
            backends.extend(names.map(|name| BackendWord { name, decision, reason: reason.clone() }));
        }
        for ((_, up, reason), names) in forced_names {
            let names = joined_backends(names.iter().map(String::as_str)).into_iter();
            forced.extend(names.map(|name| ForcedWord { name, is_up: up, reason: reason.clone() }));
        }
        let mut failovers = Vec::new();
        for (service, number) in inventory.services() {
            let failover = plane.failover(number);
            let to = inventory.pool_names(service).into_iter().nth(failover.first.into());
            if let Some(to) = to.filter(|_| failover.first > 0) {
                failovers.push(FailoverWord { service: service.name.clone(), to, evacuate: failover.evacuate });
            }
        }
        Self {
            version: VERSION,
            at: 0,
            generation: inventory.generation,
            history: history.clone(),
            backends,
            failovers,
            forced,
            weights: inventory.config.weights.clone(),
        }
    }
}
