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
    control::{
        chain,
        change::{self, Candidate, ChangeError},
        events::{EventKind, Events},
        few,
        inventory::Inventory,
        operations::Outcome,
        status::Peaks,
    },
    daemon::{
        apply::{carry, set_devices},
        controller::Controller,
        growth::grow,
        passes::Passes,
        program::Program,
    },
    net,
    plan::{self, Capacity, Leaving, PlanError},
    probe::ProbeEngine,
};

/// Most backends that a warning names.
const NAMED: usize = 8;

impl Daemon {
    /// Brings `wanted` into force in larger maps. `why` is the reason why the present maps do not suffice.
    ///
    /// A way back is made at any price: it names the backends whose flows are cut.
    ///
    /// # Errors
    /// `why`, or the backends to wait for, if flows would be cut by another change; otherwise the error that prevents it. Nothing has changed then.
    pub(in crate::daemon) async fn grow(&mut self, wanted: Candidate, why: PlanError) -> Result<Outcome, ChangeError> {
        if self.before.is_some() {
            return Err(ChangeError::Growing);
        }
        let Controller { plane, inventory, .. } = &self.controller;
        let capacity = Capacity::of(&wanted.config);
        let Leaving { cut, .. } = plane.with_previous(|previous| plan::leaving(previous, &wanted.config, &capacity))?;
        if !cut.is_empty() && !wanted.how.is_back() {
            return Err(change::refusal(&cut, &inventory.config, &why));
        }
        let (text_of, deadline) = (wanted.text_of, wanted.deadline());
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
        if !cut.is_empty() {
            warnings.push(format!(
                "flows are cut: the new maps have no room for these backends, which this configuration lacks: {}",
                few(&change::names(&cut), NAMED)
            ));
        }
        self.leave(&before, &mut warnings).await;
        let generation = self.controller.inventory.generation;
        let origin = text_of.map_or(String::new(), |origin| format!(", with the text of generation {origin},"));
        let mut message = format!(
            "generation {generation}{origin} comes into force in new maps, as soon as the program is loaded onto them"
        );
        if let Some(deadline) = deadline {
            message = format!("{message}\n{deadline}");
        }
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
        // Services and backends have other numbers.
        (self.passes, self.older, self.newer, self.peaks) = (Passes::new(), None, None, Peaks::default());
        self.lost.clear();
        self.soak.start(&self.controller, &self.program, &self.history, boot_ms());
        self.look_outside();
        self.sample();
        Ok(())
    }
}
