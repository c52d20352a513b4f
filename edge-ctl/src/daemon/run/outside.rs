//! Tasks beside the loop, for the configuration in force.

use super::Daemon;
use crate::{
    control::takedown,
    daemon::{controller::Controller, fit, probing, sought::sought},
    net::{self, Announcer, Watch},
};

/// Tasks beside the loop, for one configuration. Dropping this ends them.
#[derive(Debug)]
pub(in crate::daemon) struct Outside {
    pub(super) watch: Watch,
    pub(in crate::daemon) looking: fit::Looking,
    _announcer: Option<Announcer>,
}

impl Daemon {
    /// Starts probes, the netlink watch and announcements for the configuration in force, and stops the earlier ones,
    /// except for probes that are the same.
    pub(in crate::daemon) fn look_outside(&mut self) {
        self.outside = None;
        self.suspects.follow(&self.controller.inventory);
        let Self { controller: Controller { inventory, plane, .. }, probes, .. } = self;
        let announced = takedown::announced(&inventory.config);
        // Identical probes continue: a reload must not hide the failure that they are about to find.
        probes.probe(probing::targets(inventory));
        self.outside = Some(Outside {
            watch: net::watch(sought(inventory), self.senders.net_events.clone()),
            looking: fit::Looking::start(inventory.config.clone(), *plane.capacity(), self.senders.findings.clone()),
            _announcer: (!announced.is_empty()).then(|| net::announce(announced)),
        });
        self.hooks.follow(&self.controller.inventory.config.notify, &self.controller.events);
        if let Some(http) = &mut self.http {
            http.follow(self.controller.inventory.config.http, &self.controller.events);
        }
    }
}
