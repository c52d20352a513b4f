//! Operators' words with an end: evacuations of pools and failovers of services; requests, and the end after a set time.

use super::{
    api::{Back, Refusal},
    controller::Controller,
    run::Daemon,
};
use crate::{
    bpf::boot_ms,
    control::{
        change::History,
        evacuation::{self, Moment, Request, Wanted},
        events::unix_ms,
        failovers,
        operations::{Operation, OperationError, Outcome},
    },
};

impl Daemon {
    pub(super) fn evacuate(&mut self, pool: &str, wanted: &Wanted, back: Back) {
        let now = Moment { unix_ms: unix_ms(), boot_ms: boot_ms() };
        let mut evacuations = self.history.evacuations.clone();
        let peaks = self.peaks.rates(&self.controller.inventory);
        let request = Request { pool, wanted, now, peaks: &peaks };
        let result = self.controller.evacuate(&mut evacuations, request);
        let result = self.noted(evacuations, result);
        // The client may have gone.
        let _ = back.send(result.map_err(Refusal::from));
    }

    pub(super) fn bring_back(&mut self, pool: &str, back: Back) {
        let _ = back.send(self.end(pool, "ended by an operator").map_err(Refusal::from));
    }

    /// Ends the first evacuation whose time is over.
    pub(super) fn end_evacuation(&mut self) {
        let over = evacuation::over(&self.history.evacuations, boot_ms()).map(|over| over.pool.clone());
        if let Some(pool) = over
            && let Err(error) = self.end(&pool, "its time is over")
        {
            // The next attempt follows in a second.
            self.fault(&pool, &error);
        }
    }

    pub(super) fn operate(&mut self, operation: &Operation, back: Back) {
        let result = self.operate_and_note(operation);
        // The client may have gone.
        let _ = back.send(result.map_err(Refusal::from));
        // At once and not in a second, since the host may be about to go down.
        self.keep();
    }

    fn operate_and_note(&mut self, operation: &Operation) -> Result<Outcome, OperationError> {
        let outcome = self.controller.operate(operation)?;
        let now = Moment { unix_ms: unix_ms(), boot_ms: boot_ms() };
        let Controller { inventory, plane, .. } = &self.controller;
        if failovers::note(&mut self.history.failovers, inventory, plane, operation, now) {
            self.write_history();
        }
        Ok(outcome)
    }

    /// Takes back the first failover whose time is over.
    pub(super) fn end_failover(&mut self) {
        let Controller { inventory, plane, .. } = &self.controller;
        let History { evacuations, failovers: notes, .. } = &mut self.history;
        let are_fewer = failovers::forget_others(notes, inventory, plane, evacuations);
        let over = failovers::over(notes, inventory, plane, evacuations, boot_ms()).map(|over| over.service.clone());
        if are_fewer {
            self.write_history();
        }
        let Some(service) = over else { return };
        let ended = if evacuation::displaces(&self.history.evacuations, &service) {
            self.end_displaced(&service)
        } else {
            self.operate_and_note(&Operation::Failback { service: service.clone() }).map(drop)
        };
        if let Err(error) = ended {
            // The next attempt follows in a second.
            self.fault(&service, &error);
        }
    }

    /// Ends a failover that an evacuation has displaced.
    fn end_displaced(&mut self, service: &str) -> Result<(), OperationError> {
        self.controller.end_displaced(&mut self.history.evacuations, service)?;
        self.history.failovers.retain(|note| note.service != service);
        self.write_history();
        self.keep();
        Ok(())
    }

    fn end(&mut self, pool: &str, why: &str) -> Result<Outcome, OperationError> {
        let mut evacuations = self.history.evacuations.clone();
        let result = self.controller.end_evacuation(&mut evacuations, pool, why);
        self.noted(evacuations, result)
    }

    /// Stores the evacuations in the maps and on the disk.
    fn noted(
        &mut self,
        evacuations: Vec<evacuation::Evacuation>,
        result: Result<Outcome, OperationError>,
    ) -> Result<Outcome, OperationError> {
        if result.as_ref().is_ok_and(|outcome| outcome.changed) {
            self.history.evacuations = evacuations;
            self.write_history();
            self.keep();
        }
        result
    }
}
