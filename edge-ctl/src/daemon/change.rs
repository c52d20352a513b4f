//! Changes of the configuration: by the file, by a request, or at the end of a trial. All use `control::change`; their
//! effects outside the maps are applied here.

use std::{panic::resume_unwind, time::Duration};

use axum::http::StatusCode;
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    api::{Back, Refusal},
    controller::Controller,
    reading::Read,
    run::Daemon,
};
use crate::{
    bpf::boot_ms,
    config::Config,
    control::{
        chain,
        change::{self, Candidate, ChangeError, Changed, Look, Weigh, WeighError, Weighed, Words},
        events::EventKind,
        inventory::Inventory,
        operations::Outcome,
        takedown,
    },
    xdp,
};

/// Longest look at this host before a refusal: health waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);

impl Daemon {
    /// Applies the changes of the file, and sends the result to all waiting clients. A bad file changes nothing.
    pub(super) async fn reload(&mut self, Read { file, waiting }: Read) {
        let result = match file {
            Ok(candidate) => self.change(candidate).await,
            Err(error) => Err(error.into()),
        };
        self.refused = result.as_ref().err().map(|error| chain(error));
        let path = self.reader.path().display().to_string();
        // Nobody waits for the answer to a signal.
        for warning in result.iter().flat_map(|outcome| &outcome.warnings).filter(|_| waiting.is_empty()) {
            self.controller.events.report(EventKind::LocalFault, &path, warning.clone());
        }
        let result = self.reported(&path, result);
        for back in waiting {
            // The client may have gone.
            let _ = back.send(result.clone());
        }
    }

    /// Applies the configuration of a request.
    pub(super) async fn apply(&mut self, candidate: Candidate, back: Back) {
        let file = candidate.file.clone().unwrap_or_default();
        // If the text is that of the daemon's own file, the next start must not apply it again.
        let own =
            (file == self.reader.path().display().to_string()).then_some(change::checksum(&candidate.config.text));
        let result = self.change(candidate).await;
        if result.is_ok() && own.is_some() {
            self.refused = None;
            self.history.file = own;
            self.write_history();
        }
        let _ = back.send(self.reported(&file, result));
    }

    pub(super) async fn roll_back(&mut self, to: Option<u64>, words: Words, back: Back) {
        let result = match change::roll_back(&self.history, self.controller.inventory.generation, to, words) {
            Ok(candidate) => self.change(candidate).await,
            Err(error) => Err(error),
        };
        let _ = back.send(self.reported("rollback", result));
    }

    pub(super) fn confirm(&mut self, back: Back) {
        let result = change::confirm(&self.controller.plane, &mut self.history);
        if let Ok(outcome) = &result {
            let subject = format!("generation {}", self.controller.inventory.generation);
            self.controller.events.report(EventKind::ConfigConfirmed, &subject, outcome.message.clone());
        }
        let _ = back.send(result.map_err(|error| refusal(&error)));
    }

    /// Reverts the generation on trial once its time is over or services have lost availability.
    pub(super) async fn end_trial(&mut self) {
        let why = self.history.trial.as_ref().and_then(|trial| match self.soak.blame() {
            Some(why) => Some(format!("it has reduced availability: {why}")),
            None => (trial.until_ms <= boot_ms()).then(|| "it was not confirmed in time".to_owned()),
        });
        let Some((trial, why)) = self.history.trial.as_ref().zip(why) else {
            self.overdue = None;
            return;
        };
        let (generation, back_to) = (trial.generation, trial.back_to);
        let undone = match change::undo(&self.history, &why) {
            Ok(candidate) => self.change(candidate).await,
            Err(error) => Err(error),
        };
        match undone {
            Ok(Outcome { warnings, .. }) => {
                self.overdue = None;
                let message = format!("{why}; the text of generation {back_to} is in force again");
                let message = [vec![message], warnings].concat().join("\n");
                self.controller.events.report(EventKind::ConfigUndone, &format!("generation {generation}"), message);
                self.history.trial = None;
                self.write_history();
            }
            // The next attempt follows in a second.
            Err(error) => {
                let why = chain(&error);
                if self.overdue.as_ref() != Some(&why) {
                    self.fault("undo", &error);
                    self.overdue = Some(why);
                }
            }
        }
    }

    /// Brings the candidate into force: in the present maps, or else in new ones.
    async fn change(&mut self, mut candidate: Candidate) -> Result<Outcome, ChangeError> {
        self.busy.begin();
        let is_new = candidate.config.text != self.controller.inventory.config.text;
        candidate.host = if is_new && candidate.must_fit() { Some(self.brought_by(&candidate).await) } else { None };
        let unfit = candidate.warnings();
        let mut outcome = self.fitting(candidate).await?;
        outcome.warnings.extend(unfit);
        Ok(outcome)
    }

    /// What the candidate brings to this host that the configuration in force does not have.
    async fn brought_by(&self, candidate: &Candidate) -> Look {
        let new = change::less(candidate.host.clone().unwrap_or(Ok(Vec::new()))?, &self.fit.findings);
        if candidate.words.allow_unfit || !change::loses(&new) {
            return Ok(new);
        }
        // Before a refusal: the last look for the configuration in force may be older than a fault of the host.
        let in_force = self.controller.inventory.config.clone();
        let known = match timeout(PATIENCE, spawn_blocking(move || change::look(&in_force))).await {
            // The task is never aborted, so an error is a panic, which goes on here.
            Ok(done) => done.unwrap_or_else(|error| resume_unwind(error.into_panic())),
            Err(_) => Ok(Vec::new()),
        };
        Ok(change::less(new, &known?))
    }

    /// Brings a candidate into force that goes with this host.
    async fn fitting(&mut self, candidate: Candidate) -> Result<Outcome, ChangeError> {
        let wanted = candidate.clone();
        let events = self.controller.events.clone();
        let rehearser = self.rehearsing.ready(&events).await;
        let Controller { plane, inventory, .. } = &mut self.controller;
        let changed = change::change(plane, inventory, &mut self.history, candidate, rehearser, &events);
        match changed {
            Ok(Changed { inventory: Some(inventory), mut outcome }) => {
                outcome.warnings.extend(self.take_over(inventory).await?);
                Ok(outcome)
            }
            Ok(Changed { inventory: None, outcome }) => Ok(outcome),
            Err(ChangeError::Plan(why)) => self.grow(wanted, why).await,
            Err(error) => Err(error),
        }
    }

    /// Continues with a generation that has just been published: interfaces, announcements, probes.
    pub(super) async fn take_over(&mut self, inventory: Inventory) -> Result<Vec<String>, ChangeError> {
        let before = self.controller.inventory.config.clone();
        let events = self.controller.events.clone();
        self.controller.replace(inventory)?;
        self.soak.start(&self.controller, &self.program, &self.history, boot_ms());
        let config = &self.controller.inventory.config;
        let mut warnings = Vec::new();
        if config.interfaces != before.interfaces {
            warnings.extend(self.program.attach(config, &events).iter().map(|failure| chain(failure)));
        }
        self.outside = None;
        self.leave(&before, &mut warnings).await;
        self.look_outside();
        self.older = None;
        self.newer = None;
        self.sample();
        Ok(warnings)
    }

    /// Removes the effects of the earlier configuration outside the maps that the present one does not have: programs
    /// on interfaces, and announced addresses.
    pub(super) async fn leave(&mut self, before: &Config, warnings: &mut Vec<String>) {
        warnings.extend(self.leave_interfaces());
        let Controller { inventory, .. } = &self.controller;
        let wanted = takedown::announced(&inventory.config);
        let mut unwanted = takedown::announced(before);
        unwanted.retain(|old| !wanted.contains(old));
        if !unwanted.is_empty() {
            takedown::withdraw(&unwanted, warnings).await;
        }
    }

    /// Detaches the program from interfaces that the configuration no longer names, once it is attached to all that it
    /// does name: until then it may be the only one that packets meet. Returns a warning for each that is not detached.
    pub(super) fn leave_interfaces(&self) -> Vec<String> {
        let Controller { inventory, events, .. } = &self.controller;
        let left = match xdp::attached_besides(&self.pins, |name| inventory.config.names_interface(name)) {
            Ok(left) => left,
            Err(error) => return vec![chain(&error)],
        };
        let mut warnings = Vec::new();
        for removed in &left {
            if !self.program.is_everywhere() {
                warnings.push(format!(
                    "the program stays on {removed} until it is attached to all interfaces of the configuration"
                ));
                continue;
            }
            match xdp::detach_interface(&self.pins, removed) {
                Ok(_) => events.report(EventKind::Detached, removed, "the configuration no longer names it"),
                Err(error) => warnings.push(chain(&error)),
            }
        }
        warnings
    }

    /// Publishes the configuration in force with other weights.
    pub(super) async fn weigh(&mut self, wanted: &Weigh, back: Back) {
        self.busy.begin();
        let events = self.controller.events.clone();
        let rehearser = self.rehearsing.ready(&events).await;
        let Controller { plane, inventory, .. } = &mut self.controller;
        let weighed = change::weigh(plane, inventory, &mut self.history, wanted, rehearser, &events);
        let result = weighed.and_then(|Weighed { inventory, outcome }| {
            if let Some(inventory) = inventory {
                self.controller.replace(inventory).map_err(ChangeError::from)?;
                self.keep();
            }
            Ok(outcome)
        });
        // The client may have gone.
        let _ = back.send(result.map_err(|error| match error {
            WeighError::Operation(error) => error.into(),
            WeighError::Change(error) => refusal(&error),
        }));
    }

    pub(super) fn write_history(&mut self) {
        let maps = &self.controller.plane;
        if let Err(error) = change::write_down(maps, &mut self.history) {
            self.fault("history", &error);
        }
    }

    fn reported(&self, subject: &str, result: Result<Outcome, ChangeError>) -> Result<Outcome, Refusal> {
        result.map_err(|error| {
            self.controller.events.report(EventKind::ConfigRefused, subject, chain(&error));
            refusal(&error)
        })
    }
}

fn refusal(error: &ChangeError) -> Refusal {
    let status = if error.is_refusal() { StatusCode::BAD_REQUEST } else { StatusCode::INTERNAL_SERVER_ERROR };
    Refusal::new(status, chain(error), Some("nothing was changed"))
}
