//! How probes are sent: the services of a backend that they go through, and the programs that send them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    panic::resume_unwind,
    sync::Arc,
    time::Instant,
};

use edge_common::abi::{BackendNumber, Mode};
use futures::FutureExt as _;
use tokio::task::{self, JoinHandle};

use super::retry::Retry;
use crate::{
    bpf::{BpfError, PinDir, PinnedMaps},
    config::{Config, Pool, ProbeThrough},
    control::{
        chain,
        events::{EventKind, Events},
        inventory::Inventory,
    },
    net::{self, Destinations, Devices, PrivateNet, ResolvedRoute},
    probe::{Carrier, Network, ProbeTarget, Subject, Through},
    xdp::{ProbePrograms, XdpError},
};

/// Subject of events.
const PROBES: &str = "probes";

/// Sends probes on the path of clients' packets, if this host can. If it can't, or no longer can, probes go to
/// backends' addresses over the host's own network, and loading is tried again.
pub(super) struct Probing {
    pins: PinDir,
    state: State,
    /// Why the last try to load the programs failed.
    refused: Option<Retry>,
    /// Interfaces on which answers can't be received, by name.
    deaf: BTreeMap<String, Retry>,
    /// The host's devices, as last reported.
    devices: Devices,
    network: Network,
}

type Loaded = Result<(ProbePrograms, Carrier), XdpError>;

/// State of the programs. Like the packet path's program, they are loaded on a thread of their own, except at the
/// start.
enum State {
    Loading(JoinHandle<Loaded>),
    Loaded(Box<ProbePrograms>, Arc<Carrier>),
    Refused,
}

impl Probing {
    /// Loads the programs.
    pub(super) fn start(pins: &PinDir, events: &Events) -> Self {
        let (refused, deaf, devices, network) = (None, BTreeMap::new(), Devices::new(), Network::default());
        let mut probing = Self { pins: pins.clone(), state: State::Refused, refused, deaf, devices, network };
        probing.loaded(load(pins), events);
        probing
    }

    pub(super) fn network(&self) -> Network {
        self.network.clone()
    }

    /// Why probes do not go through services, or not to all backends.
    pub(super) fn why_not(&self) -> Option<String> {
        let deaf = self.deaf.iter().map(|(interface, retry)| format!("no answers by {interface}: {}", retry.why()));
        let all: Vec<_> = self.refused.iter().map(|refused| refused.why().to_owned()).chain(deaf).collect();
        (!all.is_empty()).then(|| all.join("\n"))
    }

    pub(super) fn routes_changed(
        &mut self,
        changes: &[(BackendNumber, Option<ResolvedRoute>)],
        config: &Config,
        events: &Events,
    ) {
        self.network.routes.set(changes);
        self.look(config, events);
    }

    pub(super) fn devices_changed(&mut self, devices: Devices) {
        self.devices = devices;
    }

    /// Notes the interfaces that the packet path's program is attached to, by name; `None` if they are not known.
    pub(super) fn attached(&mut self, interfaces: Option<Vec<&str>>) {
        let watched = interfaces.filter(|_| !self.devices.is_empty()).map(|interfaces| {
            let names = net::heard_on(&self.devices, interfaces);
            let watched = self.devices.iter().filter(|(_, device)| names.contains(&device.name));
            watched.map(|(index, _)| *index).collect()
        });
        self.network.watched.set(watched);
    }

    /// Handles the change of an interface: retries failed attachments there.
    pub(super) fn link_changed(&mut self, interface: &str, config: &Config, events: &Events) {
        if let Some(retry) = self.deaf.get_mut(interface) {
            retry.hasten(Instant::now());
        }
        self.look(config, events);
    }

    /// Checks the programs and their device, and retries missing ones whose time has come.
    pub(super) fn look(&mut self, config: &Config, events: &Events) {
        let now = Instant::now();
        match &mut self.state {
            State::Loading(loading) => {
                if let Some(loaded) = loading.now_or_never() {
                    // The task is never aborted, so an error is a panic, which goes on here.
                    self.loaded(loaded.unwrap_or_else(|error| resume_unwind(error.into_panic())), events);
                }
            }
            State::Loaded(_, carrier) if is_closed(carrier) => {
                let message = format!("their device {} has been removed; it is made anew", carrier.door().name);
                events.report(EventKind::LocalFault, PROBES, message);
                self.network.carriage.set(None);
                self.load();
            }
            State::Refused if self.refused.as_ref().is_none_or(|refused| refused.is_due(now)) => self.load(),
            State::Loaded(..) | State::Refused => {}
        }
        self.take_answers(config, events, now);
    }

    fn load(&mut self) {
        let pins = self.pins.clone();
        self.state = State::Loading(task::spawn_blocking(move || load(&pins)));
    }

    fn loaded(&mut self, loaded: Loaded, events: &Events) {
        match loaded {
            Ok((programs, carrier)) => {
                let carrier = Arc::new(carrier);
                self.network.carriage.set(Some(Arc::clone(&carrier)));
                self.state = State::Loaded(Box::new(programs), carrier);
                if self.refused.take().is_some() {
                    events.report(EventKind::Attached, PROBES, "they go through services from now on");
                }
            }
            Err(error) => {
                self.state = State::Refused;
                let refused = Retry::after(self.refused.as_ref(), chain(&error), Instant::now());
                if refused.is_news(self.refused.as_ref()) {
                    let message =
                        format!("they go to backends' own addresses, not through services: {}", refused.why());
                    events.report(EventKind::LocalFault, PROBES, message);
                }
                self.refused = Some(refused);
            }
        }
    }

    /// Receives answers on the interfaces that backends are reached by, and on those of the configuration, as they are
    /// now.
    fn take_answers(&mut self, config: &Config, events: &Events, now: Instant) {
        let State::Loaded(programs, carrier) = &mut self.state else { return };
        match programs.keep_door(carrier.door()) {
            None => {}
            Some(Ok(())) => {
                events.report(EventKind::LocalFault, PROBES, "their program was detached; it is attached again");
            }
            Some(Err(error)) => tracing::warn!("probes are not sent: {}", chain(&error)),
        }
        let mut interfaces: BTreeSet<_> = config.interfaces.iter().map(|interface| interface.name.clone()).collect();
        for index in self.network.routes.interfaces() {
            match net::name_of(index) {
                Ok(name) => interfaces.extend(name),
                // The present interfaces stay until the lookup succeeds.
                Err(_) => return,
            }
        }
        let is_absent = |interface: &str| matches!(net::index_of(interface), Ok(None));
        self.deaf.retain(|interface, _| interfaces.contains(interface) && !is_absent(interface));
        let may = |interface: &str| self.deaf.get(interface).is_none_or(|retry| retry.is_due(now));
        for (interface, taken) in programs.answer_by(&interfaces, may) {
            let before = self.deaf.remove(&interface);
            match taken {
                Ok(()) if before.is_some() => {
                    events.report(EventKind::Attached, PROBES, format!("answers by {interface} are taken again"));
                }
                Ok(()) => {}
                Err(error) => {
                    let retry = Retry::after(before.as_ref(), chain(&error), now);
                    if retry.is_news(before.as_ref()) {
                        let message = format!(
                            "answers by {interface} can't be taken, so backends there are probed at their own addresses: {}",
                            retry.why()
                        );
                        events.report(EventKind::LocalFault, PROBES, message);
                    }
                    self.deaf.insert(interface, retry);
                }
            }
        }
        carrier.hear(programs.heard());
        carrier.reserve(config.limits.nat_flows.map(|_| config.nat.ports));
    }
}

fn load(pins: &PinDir) -> Loaded {
    // The pins existed a moment ago; a process that has removed them starts anew, too.
    let maps = PinnedMaps::open(pins)?.ok_or(BpfError::Unpublished)?;
    let net = PrivateNet::make()?;
    let (programs, probes) = ProbePrograms::load(&maps, net.door())?;
    Ok((programs, Carrier::new(net, Box::new(probes))))
}

/// Whether the carrier's device is no longer in this network namespace, or another one has its name. A failed lookup (no
/// descriptor left) has another cause.
fn is_closed(carrier: &Carrier) -> bool {
    let door = carrier.door();
    net::index_of(&door.name).is_ok_and(|index| index != Some(door.index))
}

/// All targets of probes: backends and references.
pub(super) fn targets(inventory: &Inventory) -> Vec<ProbeTarget> {
    let own = inventory.config.own_probes();
    let destinations = Destinations::of(&inventory.config);
    let in_nat = inventory.config.pools_of(Mode::Nat);
    let targets = inventory.addresses().filter_map(|(backend, address, pool)| {
        let pool = pool?;
        let probe = pool.probe_of(own.get(&(pool.name.as_str(), address)).copied())?;
        let through = match probe.through {
            ProbeThrough::Service if probe.kind.is_sent_here() => through(&inventory.config, pool, address),
            ProbeThrough::Service | ProbeThrough::Address => Vec::new(),
        };
        let destination = destinations.to(Some(&pool.name), address);
        let translated = through.is_empty() && in_nat.contains(pool.name.as_str());
        Some(ProbeTarget { subject: Subject::Backend(backend), destination, probe, through, translated })
    });
    let references = inventory.config.reference_targets.iter().enumerate();
    targets.chain(references.map(|(position, target)| ProbeTarget::reference(position, *target))).collect()
}

/// The services through which a backend is probed: for each mode and IP version the first service in the file, at its
/// first VIP. More services would mean more probes, and each new service could take down backends that serve others.
fn through(config: &Config, pool: &Pool, address: IpAddr) -> Vec<Through> {
    let mut found: Vec<Through> = Vec::new();
    let is_this = |&index: &usize| config.pools.get(index).is_some_and(|one| one.name == pool.name);
    // In `nat`, the backend does not have the VIP: it answers at its own address alone, where its clients' packets go,
    // too.
    let services =
        config.services.iter().filter(|service| service.mode != Mode::Nat && service.pools.iter().any(is_this));
    for (mode, vip) in
        services.flat_map(|service| service.vips.iter().map(|&vip| (config.tunnel.forwards(service.mode), vip)))
    {
        let same_family = vip.is_ipv4() == address.is_ipv4();
        // For the other IP version, the route to the backend has no source address.
        let source = if same_family { None } else { config.tunnel.source(vip) };
        let is_known = |one: &Through| one.mode == mode && one.vip.is_ipv4() == vip.is_ipv4();
        if (same_family || !matches!(mode, Mode::Dsr) && source.is_some()) && !found.iter().any(is_known) {
            found.push(Through { mode, vip, source });
        }
    }
    found
}
