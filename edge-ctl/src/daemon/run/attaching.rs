//! Replaces the attached program by one that was loaded, if this passes its rehearsal.

use super::Daemon;
use crate::{
    control::{chain, change::RehearsalError, events::EventKind},
    daemon::controller::Controller,
    xdp::{self, EdgeProgram, XdpError},
};

impl Daemon {
    /// Attaches the loaded program to all interfaces, in place of the one before.
    pub(super) async fn attach(&mut self, loaded: Result<EdgeProgram, XdpError>) {
        self.busy.begin();
        let is_loaded = loaded.is_ok();
        let Controller { inventory, events, plane, .. } = &self.controller;
        if is_loaded && xdp::attached(&self.pins).is_ok_and(|interfaces| !interfaces.is_empty()) {
            let rehearser = self.rehearsing.ready(events).await;
            let unrehearsed = |why: &str| {
                let message = format!("the program is attached without a rehearsal: {why}");
                events.report(EventKind::LocalFault, "rehearsal", message);
            };
            match rehearser.rehearse_in_force(plane, inventory) {
                Ok(None) => {}
                Ok(Some(why)) => unrehearsed(&why),
                Err(error @ RehearsalError::Impossible(_)) => unrehearsed(&chain(&error)),
                Err(error) => {
                    let why = format!("the program that is attached goes on: {}", chain(&error));
                    self.program.refuse(why, events);
                    return;
                }
            }
        }
        self.program.loaded(loaded, &inventory.config, events);
        self.leave_outgrown_maps();
    }

    /// Carries over the flows that were recorded in smaller maps while the program was being loaded onto the present
    /// ones, and gives the smaller maps up, unless an interface still has the program that uses them.
    pub(super) fn leave_outgrown_maps(&mut self) {
        if self.before.is_none() || !self.program.is_only_one() {
            return;
        }
        let Some(before) = self.before.take() else { return };
        if let Err(error) = before.carry_newer_flows(&self.controller.plane) {
            self.fault("flows", &error);
        }
        if let Err(error) = self.pins.forget_outgrown() {
            self.fault("pins", &error);
        }
    }
}
