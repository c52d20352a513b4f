//! A reload: what the file changes is done.

use axum::http::StatusCode;

use super::{
    api::Refusal,
    apply::{self, ApplyError},
    reading::Read,
    run::Daemon,
};
use crate::{
    config::{Config, ConfigError},
    control::{chain, events::EventKind, inventory::Inventory, operations::Outcome, takedown},
    xdp,
};

impl Daemon {
    /// Does what the file changes, and tells all who wait for that. A bad one changes nothing.
    pub(super) async fn reload(&mut self, Read { file, waiting }: Read) {
        let result = self.reloaded(file).await;
        for back in waiting {
            // The client may have gone.
            let _ = back.send(result.clone());
        }
    }

    async fn reloaded(&mut self, file: Result<Config, ConfigError>) -> Result<Outcome, Refusal> {
        match self.try_reload(file).await {
            Ok(outcome) => {
                self.refused = None;
                Ok(outcome)
            }
            Err(error) => {
                let cause = chain(&error);
                self.controller.events.report(
                    EventKind::ConfigRefused,
                    &self.reader.path().display().to_string(),
                    cause.clone(),
                );
                self.refused = Some(cause.clone());
                let status = match error {
                    ApplyError::Config(_) | ApplyError::Plan(_) => StatusCode::BAD_REQUEST,
                    ApplyError::Maps(_) | ApplyError::Detach(_) | ApplyError::Inventory(_) => {
                        StatusCode::INTERNAL_SERVER_ERROR
                    }
                };
                Err(Refusal::new(status, cause, Some("nothing was changed")))
            }
        }
    }

    async fn try_reload(&mut self, file: Result<Config, ConfigError>) -> Result<Outcome, ApplyError> {
        let config = file?;
        let generation = self.controller.inventory.generation;
        if config.text == self.controller.inventory.config.text {
            let message = format!("the file is as before: generation {generation} stays");
            return Ok(Outcome { changed: false, message, warnings: Vec::new() });
        }
        let before = self.controller.inventory.config.clone();
        let events = self.controller.events.clone();
        let inventory: Inventory = apply::publish(&mut self.controller.plane, config, &events)?;
        self.controller.replace(inventory)?;
        let config = &self.controller.inventory.config;
        let mut warnings = Vec::new();
        if config.interfaces != before.interfaces {
            warnings.extend(self.program.attach(config, &events).iter().map(|failure| chain(failure)));
            for removed in
                before.interfaces.iter().filter(|old| config.interfaces.iter().all(|new| new.name != old.name))
            {
                match xdp::detach_interface(&self.pins, &removed.name) {
                    Ok(_) => events.report(EventKind::Detached, &removed.name, "the configuration no longer names it"),
                    Err(error) => warnings.push(chain(&error)),
                }
            }
        }
        let wanted = takedown::announced(config);
        let mut unwanted = takedown::announced(&before);
        unwanted.retain(|old| !wanted.contains(old));
        self.outside = None;
        if !unwanted.is_empty() {
            takedown::withdraw(&unwanted, &mut warnings).await;
        }
        self.look_outside();
        self.older = None;
        self.newer = None;
        self.sample();
        let message = format!("generation {} is in force", self.controller.inventory.generation);
        Ok(Outcome { changed: true, message, warnings })
    }
}
