//! Checks across sections: references, families, destinations that two services have.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use edge_common::abi::Mode;

use super::{
    Clients, Interface, Ports, Protocol, Tunnel, backend_ports,
    host::{LimitsDraft, MOST},
    nat::NatDraft,
    pools::{BackendDraft, PoolDraft},
    problems::{Problems, Read},
    schema::nearest,
    server_numbers,
    services::{AnnounceDraft, ServiceDraft},
    values::shorten,
    walk::Located,
};

/// Most VIPs that a service may have announced: each needs kernel requests of its own.
const MOST_ANNOUNCED: usize = 1024;

/// All sections, each as far as it could be read.
pub(super) struct Sections {
    pub(super) slots: Read<Located<u32>>,
    pub(super) tunnel: Read<Tunnel>,
    pub(super) nat: Read<NatDraft>,
    pub(super) limits: Read<LimitsDraft>,
    pub(super) interfaces: Read<Vec<Located<Interface>>>,
    pub(super) pools: Read<Vec<PoolDraft>>,
    pub(super) services: Read<Vec<ServiceDraft>>,
}

impl Sections {
    /// Records contradictions between sections. A section that could not be read causes no problems in the others.
    pub(super) fn check(&self, problems: &Problems<'_>) {
        self.check_sizes(problems);
        let pools = self.pools.as_deref().unwrap_or_default();
        let services = self.services.as_deref().unwrap_or_default();
        // A larger number was refused above, and would take too long to check one by one.
        if self.destinations() <= MOST.destinations as usize {
            check_destinations(problems, services);
        }
        check_announcements(problems, services, self.interfaces.as_deref().ok());
        check_loops(problems, services, pools);
        let flows = self.limits.ok().and_then(|limits| limits.nat_flows);
        let _read = self.nat.as_ref().map(|nat| nat.check(problems, services, flows));
        if self.pools.is_ok() {
            let by_name: HashMap<&str, &PoolDraft> =
                pools.iter().filter_map(|pool| Some((pool.name.as_ref().ok()?.value.as_str(), pool))).collect();
            server_numbers::check(problems, services, &by_name);
            backend_ports::check(problems, services, pools);
            let mut lacking = BTreeMap::new();
            for service in services {
                for name in service.pools.as_deref().unwrap_or_default() {
                    match by_name.get(name.value.as_str()) {
                        Some(pool) => self.check_families(problems, service, name, pool, &mut lacking),
                        None => unknown_pool(problems, name, pools),
                    }
                }
            }
            for (what, (at, write)) in lacking {
                problems.add(at, what, write);
            }
        }
    }

    /// Addresses of this host that the file names.
    pub(super) fn own_addresses(&self) -> Vec<IpAddr> {
        let tunnel = self.tunnel.unwrap_or_default();
        let translated = self.nat.as_ref().map(|nat| nat.sources.as_slice()).unwrap_or_default().iter();
        let tunnelled = [tunnel.source_v4.map(IpAddr::V4), tunnel.source_v6.map(IpAddr::V6)].into_iter().flatten();
        translated.map(|source| source.value).chain(tunnelled).collect()
    }

    /// Records why `service` can't reach backends of `pool`, which it lists at `name`; missing sources go to `lacking`.
    fn check_families(
        &self,
        problems: &Problems<'_>,
        service: &ServiceDraft,
        name: &Located<String>,
        pool: &PoolDraft,
        lacking: &mut BTreeMap<String, (usize, String)>,
    ) {
        match service.mode {
            Ok(Mode::Dsr) => {
                let mismatch = service.vips().iter().find_map(|vip| {
                    let clients = Clients::of(vip.value);
                    let serves = |to: &BackendDraft| to.serves(clients).filter(|own| Clients::of(*own) != clients);
                    let (backend, other) =
                        pool.backends.iter().find_map(|backend| Some((backend, serves(backend)?)))?;
                    Some((vip.value, backend, other))
                });
                if let Some((vip, backend, other)) = mismatch {
                    let (wanted, had) = (family(vip), family(other));
                    let what = format!(
                        "mode \"dsr\" keeps the packet {wanted}, but backend `{}/{}` has only {had}: {other}",
                        name.value, backend.name,
                    );
                    let write =
                        format!("address = [\"{other}\", \"...\"] with one of each IP version, or mode = \"nat\"");
                    problems.add(name.at, what, write);
                }
            }
            Ok(Mode::Nat) => {
                if let Ok(nat) = &self.nat
                    && let Some((what, write)) = nat.lacks(service, name, pool)
                {
                    lacking.entry(what).or_insert((name.at, write));
                }
            }
            Ok(mode @ (Mode::Ipip | Mode::Gue)) => {
                let Ok(tunnel) = self.tunnel else { return };
                let lacks = |v4: bool| if v4 { tunnel.source_v4.is_none() } else { tunnel.source_v6.is_none() };
                let come = |clients: &&Clients| service.vips().iter().any(|vip| Clients::of(vip.value) == **clients);
                let come: Vec<_> = Clients::BOTH.iter().filter(come).collect();
                for (v4, key, example) in [(true, "source_v4", "10.0.0.1"), (false, "source_v6", "fd00::1")] {
                    let goes = |backend: &&BackendDraft| {
                        come.iter().any(|clients| backend.serves(**clients).is_some_and(|to| to.is_ipv4() == v4))
                    };
                    let found = pool.backends.iter().find(goes);
                    if let (Some(backend), true) = (found, lacks(v4)) {
                        let backend = format!("`{}/{}`", name.value, backend.name);
                        let (mode, v) = (if mode == Mode::Ipip { "ipip" } else { "gue" }, if v4 { 4 } else { 6 });
                        let what = format!("mode \"{mode}\" to IPv{v} backends needs [tunnel] `{key}`");
                        let write = format!(
                            "[tunnel] with {key} = \"{example}\", an address of this host (first needed for {backend})"
                        );
                        lacking.entry(what).or_insert((name.at, write));
                    }
                }
            }
            Ok(Mode::IpipRange) | Err(_) => {}
        }
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Ports, and the service that has them.
type Owned<'a> = (&'a Ports, &'a ServiceDraft);

/// Refuses two services with a port of the same VIP and protocol. `any` has only the ports that others leave.
fn check_destinations(problems: &Problems<'_>, services: &[ServiceDraft]) {
    // By first port, which is distinct among the ranges of a VIP and protocol.
    let mut seen: HashMap<(IpAddr, Protocol), BTreeMap<u16, Owned<'_>>> = HashMap::new();
    for service in services {
        let doors = service.ports().iter().flat_map(|ports| service.vips().iter().map(move |vip| (vip, &ports.value)));
        let mut reported = None;
        for (vip, ports) in doors {
            let known = seen.entry((vip.value, ports.protocol)).or_default();
            match known.range(..=ports.last).next_back() {
                Some((_, (other, owner))) if other.last >= ports.first => {
                    // A range is reported once, not again for each VIP.
                    if reported.replace(ports.first) == Some(ports.first) {
                        continue;
                    }
                    let name = owner.name.as_ref().map_or("?", |name| name.value.as_str());
                    let line = problems.line(owner.at);
                    let what = format!("service `{name}` on line {line} has {other} of {} already", vip.value);
                    problems.add(vip.at, what, "another VIP or port, or one service with the pools of both");
                }
                _ => {
                    known.insert(ports.first, (ports, service));
                }
            }
        }
        if problems.enough() {
            return;
        }
    }
}

/// Refuses backends whose address is a VIP of this file: their packets would come back to this host.
fn check_loops(problems: &Problems<'_>, services: &[ServiceDraft], pools: &[PoolDraft]) {
    let vips: HashMap<IpAddr, usize> =
        services.iter().flat_map(ServiceDraft::vips).map(|vip| (vip.value, vip.at)).collect();
    for address in pools.iter().flat_map(|pool| &pool.backends).flat_map(|backend| &backend.addresses) {
        if let Some(vip) = vips.get(&address.value) {
            let what = format!(
                "backend address {} is the VIP on line {}: its packets would come back here",
                address.value,
                problems.line(*vip)
            );
            problems.add(address.at, what, "the backend's own address; the VIP goes on its loopback interface");
        }
    }
}

fn check_announcements(problems: &Problems<'_>, services: &[ServiceDraft], interfaces: Option<&[Located<Interface>]>) {
    let Some(interfaces) = interfaces else { return };
    let mut seen: HashMap<IpAddr, (Option<&str>, &AnnounceDraft)> = HashMap::new();
    for service in services {
        let Ok(announce) = &service.announce else { continue };
        let interface = announce.interface(interfaces).filter(|_| announce.l2);
        if let Some(named) = &announce.interface
            && !interfaces.iter().any(|interface| interface.value.name == named.value)
        {
            let known = || interfaces.iter().map(|interface| interface.value.name.as_str());
            let write = nearest(&named.value, known()).or(known().next()).unwrap_or("eth0");
            let what = format!("`announce_interface` is \"{}\", which is no [[interface]] of this file", named.value);
            problems.add(named.at, what, format!("announce_interface = \"{write}\""));
            continue;
        }
        if announce.l2 && interface.is_none() {
            let names: Vec<_> = interfaces.iter().map(|interface| format!("\"{}\"", interface.value.name)).collect();
            let write = format!("announce_interface = {}", names.join(" or "));
            problems.add(announce.at, "announce = \"l2\" with several interfaces needs `announce_interface`", write);
            continue;
        }
        if interface.is_some() && service.vips().len() > MOST_ANNOUNCED {
            let what =
                format!("announce = \"l2\" for {} addresses; {MOST_ANNOUNCED} is the most", service.vips().len());
            problems.add(announce.at, what, "a route to them on the router, and announce = \"none\"");
        }
        for vip in service.vips() {
            let (first, first_draft) = *seen.entry(vip.value).or_insert((interface, announce));
            if first != interface {
                let what = format!(
                    "services of VIP {} disagree on `announce`; see line {}",
                    vip.value,
                    problems.line(first_draft.at)
                );
                problems.add(
                    announce.at,
                    what,
                    "the same `announce` and `announce_interface` in all services of a VIP",
                );
                break;
            }
        }
    }
}

fn unknown_pool(problems: &Problems<'_>, name: &Located<String>, pools: &[PoolDraft]) {
    // The intended pool may be one whose name was refused.
    if problems.enough() || pools.iter().any(|pool| pool.name.is_err()) {
        return;
    }
    let names: Vec<&str> = pools.iter().filter_map(|pool| Some(pool.name.as_ref().ok()?.value.as_str())).collect();
    let what = format!("there is no pool `{}`", shorten(&name.value));
    let write = match nearest(&name.value, names.iter().copied()) {
        Some(near) => format!("\"{near}\", if you meant that"),
        None => format!("[[pool]] with name = \"{}\", or the name of a pool that is there", shorten(&name.value)),
    };
    problems.add(name.at, what, write);
}
