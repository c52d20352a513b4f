//! The program's attachments to interfaces: checked each second, and restored if missing.

use std::{collections::BTreeMap, time::Instant};

use super::retry::Retry;
use crate::{
    config::{Config, Interface},
    control::{
        chain,
        events::{EventKind, Events},
    },
    xdp::{EdgeProgram, XdpError},
};

/// Interfaces where the program could not be attached, or its attachment could not be checked, by name.
#[derive(Debug, Default)]
pub(super) struct Attachments(BTreeMap<String, Retry>);

impl Attachments {
    /// Attaches the program to all interfaces, and returns the failures. A failure on one interface does not keep the
    /// program from the others; it is reported, and tried again later.
    pub(super) fn attach(&mut self, program: &mut EdgeProgram, config: &Config, events: &Events) -> Vec<XdpError> {
        let mut failures = Vec::new();
        self.keep_only(config);
        for interface in &config.interfaces {
            match program.attach(&interface.name, interface.mode) {
                Ok(()) => self.attached(interface, "the program is attached", events),
                Err(error) => {
                    self.failed(interface, &error, events, Instant::now());
                    failures.push(error);
                }
            }
        }
        failures
    }

    /// Checks all interfaces, and attaches the program where it is missing.
    pub(super) fn look(&mut self, program: &mut EdgeProgram, config: &Config, events: &Events, now: Instant) {
        self.keep_only(config);
        for interface in &config.interfaces {
            match program.is_attached(&interface.name, interface.mode) {
                Ok(true) => {
                    if self.0.remove(&interface.name).is_some() {
                        events.report(EventKind::Attached, &interface.name, "the program is attached after all");
                    }
                }
                Ok(false) if self.is_due(interface, now) => match program.attach(&interface.name, interface.mode) {
                    Ok(()) => self.attached(interface, "the program was not attached, and is again", events),
                    Err(error) => self.failed(interface, &error, events, now),
                },
                Ok(false) => {}
                // A failed check does not mean that the program is missing: nothing is detached or replaced.
                Err(error) => self.failed(interface, &error, events, now),
            }
        }
    }

    /// Makes the retry on a changed interface due at the next look.
    pub(super) fn hasten(&mut self, interface: &str, now: Instant) {
        if let Some(retry) = self.0.get_mut(interface) {
            retry.hasten(now);
        }
    }

    /// The first interface with a failure.
    pub(super) fn first_failure(&self) -> Option<&str> {
        self.0.keys().next().map(String::as_str)
    }

    /// Why the program is not attached to the interface, or not known to be.
    pub(super) fn why(&self, interface: &str) -> Option<&str> {
        self.0.get(interface).map(Retry::why)
    }

    fn is_due(&self, interface: &Interface, now: Instant) -> bool {
        self.0.get(&interface.name).is_none_or(|retry| retry.is_due(now))
    }

    fn attached(&mut self, interface: &Interface, message: &str, events: &Events) {
        self.0.remove(&interface.name);
        events.report(EventKind::Attached, &interface.name, message);
    }

    fn failed(&mut self, interface: &Interface, error: &XdpError, events: &Events, now: Instant) {
        let before = self.0.get(&interface.name);
        let mut retry = Retry::after(before, chain(error), now);
        if retry.is_news(before) {
            let (kind, message) = match error {
                XdpError::NoInterface(_) => (
                    EventKind::Detached,
                    "the interface has been removed; if it returns, the program is attached again".to_owned(),
                ),
                error => (EventKind::LocalFault, chain(error)),
            };
            events.report(kind, &interface.name, message);
        }
        if let XdpError::NoInterface(_) = error {
            // The program is attached as soon as the interface exists.
            retry.hasten(now);
        }
        self.0.insert(interface.name.clone(), retry);
    }

    fn keep_only(&mut self, config: &Config) {
        self.0.retain(|name, _| config.names_interface(name));
    }
}
