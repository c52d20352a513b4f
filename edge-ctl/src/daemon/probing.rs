//! How probes are sent: which of a backend's services they go through, and by what.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use edge_common::abi::{BackendNumber, Mode};
use nix::net::if_::if_indextoname;

use crate::{
    bpf::PinnedMaps,
    config::{Config, Pool, ProbeThrough},
    control::{
        chain,
        events::{EventKind, Events},
        inventory::Inventory,
    },
    net::{PrivateNet, Way},
    probe::{Carrier, Network, ProbeTarget, Subject, Through, Ways},
    xdp::{ProbePrograms, XdpError},
};

/// What sends probes by the way of clients' packets, where this host can.
pub(super) struct Probing {
    programs: Result<ProbePrograms, String>,
    carrier: Option<Arc<Carrier>>,
    ways: Ways,
    /// Interfaces that answers can't be taken from were reported.
    reported: BTreeSet<String>,
}

impl Probing {
    /// Loads what it needs. Where that can't be, probes go to backends' addresses, by the host's own network.
    pub(super) fn start(maps: &PinnedMaps, events: &Events) -> Self {
        let ways = Ways::default();
        match load(maps) {
            Ok((programs, carrier)) => {
                Self { programs: Ok(programs), carrier: Some(Arc::new(carrier)), ways, reported: BTreeSet::new() }
            }
            Err(error) => {
                let why = chain(&error);
                let message = format!("they go to backends' own addresses, not through services: {why}");
                events.report(EventKind::LocalFault, "probes", message);
                Self { programs: Err(why), carrier: None, ways, reported: BTreeSet::new() }
            }
        }
    }

    pub(super) fn network(&self) -> Network {
        Network { carrier: self.carrier.clone(), ways: self.ways.clone() }
    }

    /// Why probes do not go through services.
    pub(super) fn why_not(&self) -> Option<&str> {
        self.programs.as_ref().err().map(String::as_str)
    }

    pub(super) fn ways_changed(&mut self, changes: &[(BackendNumber, Option<Way>)], config: &Config, events: &Events) {
        self.ways.set(changes);
        self.look(config, events);
    }

    /// Takes answers from the interfaces by which backends are reached, and those of the configuration, as they are now.
    pub(super) fn look(&mut self, config: &Config, events: &Events) {
        let Ok(programs) = &mut self.programs else { return };
        let by_ways = self.ways.interfaces().into_iter().filter_map(|index| {
            let name = if_indextoname(index).ok()?;
            name.into_string().ok()
        });
        let interfaces = config.interfaces.iter().map(|interface| interface.name.clone()).chain(by_ways).collect();
        let refused: Vec<XdpError> = programs.answer_by(&interfaces);
        let mut now = BTreeSet::new();
        for error in refused {
            let why = chain(&error);
            if !self.reported.contains(&why) {
                events.report(EventKind::LocalFault, "probes", format!("answers can't be taken: {why}"));
            }
            now.insert(why);
        }
        self.reported = now;
    }
}

fn load(maps: &PinnedMaps) -> Result<(ProbePrograms, Carrier), XdpError> {
    let net = PrivateNet::make()?;
    let (programs, probes) = ProbePrograms::load(maps, net.door())?;
    Ok((programs, Carrier::new(net, Box::new(probes))))
}

/// What is probed, and how.
pub(super) fn targets(inventory: &Inventory) -> Vec<ProbeTarget> {
    let own = inventory.config.own_probes();
    let targets = inventory.addresses().filter_map(|(backend, address, pool)| {
        let pool = pool?;
        let probe = pool.probe_of(own.get(&(pool.name.as_str(), address)).copied())?;
        let through = match probe.through {
            ProbeThrough::Service if probe.kind.is_over_tcp() => through(&inventory.config, pool, address),
            ProbeThrough::Service | ProbeThrough::Address => Vec::new(),
        };
        Some(ProbeTarget { subject: Subject::Backend(backend), address, probe, through })
    });
    let references = inventory.config.reference_targets.iter().enumerate();
    targets.chain(references.map(|(position, target)| ProbeTarget::reference(position, *target))).collect()
}

/// The services through which a backend is probed: of each mode and IP version the first one in the file. More of them would be
/// more probes, and each new service a way for backends to go down that serve others.
fn through(config: &Config, pool: &Pool, address: IpAddr) -> Vec<Through> {
    let mut found: Vec<Through> = Vec::new();
    let is_this = |&index: &usize| config.pools.get(index).is_some_and(|one| one.name == pool.name);
    for service in config.services.iter().filter(|service| service.pools.iter().any(is_this)) {
        let (mode, vip) = (service.mode, service.vip);
        let same_family = vip.is_ipv4() == address.is_ipv4();
        // Of the other IP version the way to the backend names no address to send from.
        let source = if same_family { None } else { config.tunnel.source(vip) };
        let is_known = |one: &Through| one.mode == mode && one.vip.is_ipv4() == vip.is_ipv4();
        if (same_family || mode == Mode::Ipip && source.is_some()) && !found.iter().any(is_known) {
            found.push(Through { mode, vip, source });
        }
    }
    found
}
