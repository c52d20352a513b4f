//! A change that does not fit into the maps while the daemon runs: larger maps replace them.
//!
//! ```text
//! attached    old program, old maps ---------------------------------.-> new program, new maps
//! controller  old maps -> new maps are made, published, filled -> new maps                    flows that were recorded
//!                         with states, owners and flows              (program is loaded)      meanwhile are carried over
//! ```

use std::{mem, sync::Arc};

use super::{Daemon, channels::channels};
use crate::{
    bpf::{BpfError, PinnedMaps, boot_ms},
    config::is_same,
    control::{
        chain,
        change::{Candidate, ChangeError},
        events::{EventKind, Events},
        inventory::Inventory,
        operations::Outcome,
    },
    daemon::{
        apply::{carry, set_devices},
        controller::Controller,
        growth::grow,
        passes::Passes,
        program::Program,
    },
    net,
    plan::PlanError,
    probe::ProbeEngine,
};

impl Daemon {
    /// Brings `wanted` into force in larger maps. `why` is the reason why the present maps do not suffice.
    ///
    /// # Errors
    /// `why`, if backends would lose their flows by the growth; otherwise the error that prevents it. Nothing has
    /// changed then.
    pub(in crate::daemon) async fn grow(&mut self, wanted: Candidate, why: PlanError) -> Result<Outcome, ChangeError> {
        // New maps have no numbers for backends that the configuration does not have, so their flows could not be
        // carried over.
        if self.before.is_some()
            || !self.controller.inventory.retired.is_empty()
            || leaves(&self.controller.inventory, &wanted)
        {
            return Err(why.into());
        }
        let devices = net::devices().await.map_err(|error| {
            self.fault("network devices", &error);
            ChangeError::from(why.clone())
        })?;
        let events = self.controller.events.clone();
        let rehearser = self.rehearsing.ready(&events).await;
        let (mut maps, inventory) = grow(&self.controller.plane, wanted, &mut self.history, rehearser, &events)?;
        events.report(EventKind::Adopted, "maps", format!("others take their place: {why}"));
        set_devices(&mut maps, &devices, &inventory.config, &events);
        let before = self.controller.inventory.config.clone();
        self.go_on_with(maps, inventory, &events)?;
        let mut warnings = Vec::new();
        self.leave(&before, &mut warnings).await;
        let generation = self.controller.inventory.generation;
        let message = format!(
            "generation {generation} comes into force in larger maps, as soon as the program is loaded onto them"
        );
        Ok(Outcome { changed: true, message, warnings })
    }

    /// Continues with the new maps. Everything that refers to backends by number begins anew.
    fn go_on_with(&mut self, mut maps: PinnedMaps, inventory: Inventory, events: &Events) -> Result<(), ChangeError> {
        self.outside = None;
        let (senders, receivers) = channels();
        (self.senders, self.receivers) = (senders, Some(receivers));
        self.probes =
            ProbeEngine::new(self.senders.reports.clone(), Arc::clone(&self.descriptors), self.probing.network());
        // The old maps are held until no packet reads them.
        let once_more = PinnedMaps::open(&self.pins)?.ok_or(BpfError::Unpublished)?;
        let small = mem::replace(&mut self.controller.plane, once_more);
        self.before = carry(small, &mut maps, events);
        self.controller = Controller::adopt(inventory, maps, events.clone())?;
        let config = self.controller.inventory.config.clone();
        match Program::start(&self.pins, &config, false, None, events) {
            Ok(program) => self.program = program,
            Err(error) => events.report(EventKind::LocalFault, "program", chain(&error)),
        }
        (self.passes, self.older, self.newer) = (Passes::new(), None, None);
        self.lost.clear();
        self.soak.start(&self.controller, &self.program, &self.history, boot_ms());
        self.look_outside();
        self.sample();
        Ok(())
    }
}

/// Whether `wanted` lacks a backend that is in force, or has it at another address.
fn leaves(inventory: &Inventory, wanted: &Candidate) -> bool {
    let stays = |pool: &str, name: &str, address| {
        let pools = wanted.config.pools.iter().filter(|known| is_same(&known.name, pool));
        pools.flat_map(|pool| &pool.backends).any(|known| known.name == name && known.address == address)
    };
    inventory.members().any(|member| !stays(&member.pool.name, &member.backend.name, member.backend.address))
}
