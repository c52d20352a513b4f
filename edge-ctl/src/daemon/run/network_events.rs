//! Handles changes of the host's network.

use super::Daemon;
use crate::{
    control::events::EventKind,
    daemon::{apply, controller::Controller},
    net::NetEvent,
};

impl Daemon {
    pub(super) fn net_event(&mut self, event: NetEvent) {
        if let Some(outside) = &self.outside {
            outside.looking.changed();
        }
        match event {
            NetEvent::NextHops(hops) => {
                for (backend, hop) in hops {
                    let Some(name) = self.controller.inventory.name(backend) else { continue };
                    let known = self.controller.plane.next_hop(backend).is_some();
                    if let Err(error) = self.controller.plane.set_next_hop(backend, hop) {
                        self.fault(&name, &error);
                        continue;
                    }
                    let events = &self.controller.events;
                    // That nothing can be sent there was reported already, with its cause.
                    let is_news = known && hop.is_none() && self.controller.is_reachable(backend);
                    if is_news && self.lost.insert(backend) {
                        events.report(
                            EventKind::NextHopLost,
                            &name,
                            "its MAC address is not known; the packet path looks it up in the kernel's tables for each packet",
                        );
                    } else if hop.is_some() && self.lost.remove(&backend) {
                        events.report(EventKind::NextHopFound, &name, "its MAC address is known again");
                    }
                }
            }
            NetEvent::Routes(changes) => {
                let Controller { inventory, events, .. } = &self.controller;
                self.probing.routes_changed(&changes, &inventory.config, events);
            }
            NetEvent::Reach(changes) => {
                if let Err(error) = self.controller.reach(changes) {
                    self.fault("unreachable backends", &error);
                }
            }
            // An interface that came back has lost its program.
            NetEvent::LinkChanged(name) => {
                let Controller { inventory, events, .. } = &self.controller;
                self.program.link_changed(&name, &inventory.config, events);
                self.probing.attached(self.program.interfaces(&inventory.config));
                self.probing.link_changed(&name, &inventory.config, events);
            }
            NetEvent::HostChanged => {}
            NetEvent::Vips(vips) => self.controller.plane.set_host_vips(&vips),
            NetEvent::Devices(devices) => {
                let Controller { inventory, plane, events, .. } = &mut self.controller;
                apply::set_devices(plane, &devices, &inventory.config, events);
                self.probing.devices_changed(devices);
                self.probing.attached(self.program.interfaces(&inventory.config));
            }
        }
    }
}
