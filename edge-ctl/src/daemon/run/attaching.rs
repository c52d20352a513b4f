//! A program that was loaded takes the place of the one before it, if it passes its rehearsal.

use super::Daemon;
use crate::{
    control::{chain, change::RehearsalError},
    daemon::controller::Controller,
    xdp::{self, EdgeProgram, XdpError},
};

impl Daemon {
    /// The program is loaded: it takes the place of the one before on all interfaces.
    pub(super) async fn attach(&mut self, loaded: Result<EdgeProgram, XdpError>) {
        let is_loaded = loaded.is_ok();
        let Controller { inventory, events, plane, .. } = &self.controller;
        if is_loaded && xdp::attached(&self.pins).is_ok_and(|interfaces| !interfaces.is_empty()) {
            let rehearser = self.rehearsing.ready(events).await;
            match rehearser.rehearse_in_force(plane, inventory) {
                Ok(()) | Err(RehearsalError::Impossible(_)) => {}
                Err(error) => {
                    let why = format!("the program that is attached goes on: {}", chain(&error));
                    self.program.refuse(why, events);
                    return;
                }
            }
        }
        self.program.loaded(loaded, &inventory.config, events);
        // Recorded while it was being loaded.
        if let Some(before) = self.before.take_if(|_| is_loaded)
            && let Err(error) = before.carry_newer_flows(plane)
        {
            self.fault("flows", &error);
        }
    }
}
