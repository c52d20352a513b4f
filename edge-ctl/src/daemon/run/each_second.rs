//! The work of each second: compares the contents of maps and links with their wanted state.

use super::{Daemon, RunError, ended::LoopStep};
use crate::{
    bpf::{self, BpfError, LockError, Records, boot_ms},
    control::{
        change::{self, ChangeError, Verdict},
        events::{EventKind, unix_ms},
        inventory::Inventory,
        kept::Kept,
        status::Clock,
    },
    daemon::{apply, controller::Controller, network},
    xdp,
};

impl Daemon {
    /// Does the work of each second: compares the contents of maps and links with their wanted state.
    pub(super) async fn tick(&mut self) -> LoopStep {
        self.sample();
        self.compare_handshakes();
        match self.keep_pins() {
            Ok(()) => {}
            Err(RunError::Lock(LockError::Held { .. })) => return LoopStep::Stop,
            Err(error) => self.fault("pins", &error),
        }
        if let Err(error) = self.reconcile().await {
            self.fault("maps", &error);
        }
        self.end_trial().await;
        self.end_evacuation();
        self.end_failover();
        if let Some(shortage) = self.probes.shortage() {
            self.fault("descriptors", &shortage);
        }
        if self.soak.tick(&self.controller, &self.program, &mut self.history, boot_ms()) {
            let subject = format!("generation {}", self.controller.inventory.generation);
            self.controller.events.report(
                EventKind::ConfigGood,
                &subject,
                "no service has lost availability in its soak",
            );
            self.write_history();
        }
        let seconds = i64::try_from(unix_ms() / 1000).unwrap_or(i64::MAX);
        self.controller.look_at_certificates(seconds);
        self.keep();
        self.notify_manager();
        let Controller { inventory, events, plane, .. } = &self.controller;
        self.program.take_over(inventory, plane, events);
        self.program.look(&inventory.config, events);
        let _waits_or_fails_and_is_tried_again = self.leave_interfaces();
        self.probing.attached(self.program.interfaces(&inventory.config));
        self.probing.look(&inventory.config, events);
        if !self.program.is_loading() {
            self.rehearsing.look(plane, events).await;
        }
        if let Some(http) = &mut self.http {
            http.look(&self.controller.events);
        }
        self.leave_outgrown_maps();
        self.clear_others();
        self.chronicle.keep(&self.controller.events);
        LoopStep::Continue
    }

    /// Removes the pins of other versions after the soak, once this version's program is attached everywhere.
    fn clear_others(&mut self) {
        let entry = self.history.entry(self.controller.inventory.generation);
        let is_good = entry.is_some_and(|entry| entry.verdict == Verdict::Good);
        if !is_good || !self.program.is_everywhere() {
            return;
        }
        for (other, _lock) in std::mem::take(&mut self.others) {
            let directory = other.version_dir().display().to_string();
            match xdp::detach_all(&other) {
                Ok(left) => {
                    let left = if left.is_empty() {
                        String::new()
                    } else {
                        format!(", and detached from {}", left.join(", "))
                    };
                    let message = format!("the pins of that version are removed{left}");
                    self.controller.events.report(EventKind::Detached, &directory, message);
                }
                Err(error) => self.fault(&directory, &error),
            }
        }
    }

    /// Hands the state that survives a reboot to the threads that write it, and reports a failed write.
    pub(in crate::daemon) fn keep(&mut self) {
        let Controller { inventory, plane, events, .. } = &self.controller;
        let kept = Kept::of(inventory, plane, &self.history);
        self.copier.keep(&kept);
        self.keeper.keep(&kept);
        let fault = self.keeper.fault();
        if let Some(why) = fault.as_ref().filter(|_| self.state_error.is_none()) {
            events.report(EventKind::LocalFault, "state", why.clone());
        }
        self.state_error = fault;
    }

    /// Restores the pins of maps if they were removed, and the lock if it was removed with them.
    fn keep_pins(&mut self) -> Result<(), RunError> {
        if self.controller.plane.are_pinned()? {
            return Ok(());
        }
        if !self.lock.is_of(&self.pins)? {
            self.lock = bpf::lock_pins(&self.pins)?;
            network::claim(&self.pins)?;
        }
        self.controller.plane.pin_again()?;
        self.controller.repaired += 1;
        self.controller.events.report(EventKind::Repaired, "pins", "pins of maps were removed, and are there again");
        Ok(())
    }

    /// Takes over another writer's generation, since generations only grow, and repairs other differences.
    async fn reconcile(&mut self) -> Result<(), ChangeError> {
        self.repair_published();
        let published = self.controller.plane.generation();
        if published != self.controller.inventory.generation {
            let snapshot = self.controller.plane.snapshot()?.ok_or(BpfError::Unpublished)?;
            let inventory = Inventory::from_snapshot(&snapshot)?;
            let message = "another program has published it; it is in force".to_owned();
            self.controller.events.report(EventKind::Repaired, &format!("generation {published}"), message);
            self.history = change::recall(&self.controller.plane, &inventory, Clock::now());
            self.take_over(inventory).await?;
            self.controller.repaired += 1;
        }
        self.audit()?;
        self.controller.age()?;
        self.controller.look_at_records();
        self.controller.look_at_ports()?;
        self.controller.look_at_paths();
        Ok(self.controller.reconcile()?)
    }

    /// Repairs the map that names the generation in force, before anything else is read from the maps.
    fn repair_published(&mut self) {
        let Controller { plane, events, repaired, .. } = &mut self.controller;
        if plane.repair_published() {
            let message = "the maps named another one, or none; it is in force again";
            events.report(EventKind::Repaired, &format!("generation {}", plane.generation()), message);
            *repaired += 1;
        }
    }

    /// Repairs what another program, or a fault, has changed in the maps.
    fn audit(&mut self) -> Result<(), ChangeError> {
        let Controller { inventory, plane, events, repaired, .. } = &mut self.controller;
        let found = plane.audit(&inventory.config)?;
        for (subject, message) in found.repaired {
            events.report(EventKind::Repaired, &subject, message);
            *repaired += 1;
        }
        match plane.look_at_history() {
            Records::Same => {}
            Records::Damaged => {
                let message = "another program has written into it; it is stored again";
                events.report(EventKind::Repaired, "history", message);
                *repaired += 1;
                change::write_down(plane, &mut self.history)?;
            }
            // The command line evacuates pools and fails services over while this process does not answer.
            Records::Foreign => {
                let theirs = change::recall(plane, inventory, Clock::now());
                (self.history.evacuations, self.history.failovers) = (theirs.evacuations, theirs.failovers);
            }
        }
        if found.is_bank_damaged {
            let message = "another program has written into it; it is published anew";
            events.report(EventKind::Repaired, &format!("generation {}", inventory.generation), message);
            *repaired += 1;
            let inventory = apply::publish_anew(plane, inventory, &mut self.history, events)?;
            self.controller.replace(inventory)?;
        }
        Ok(())
    }
}
