//! Compares a configuration with a host, and finds what does not fit. Pure.

mod announce;
mod modes;
mod nat;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use edge_common::abi::{MAX_STATIONS, Mode};

use super::{Finding, Host, Severity, findings::Findings, host::of_interface, limits::compare_limits, probes::Unmade};
use crate::{
    config::{Announce, AttachMode, Config, Interface, Pool, Service},
    net::{Destination, Destinations, Receiver, SurveyedRoute, stations},
};

/// Longest IP packet whose frame surely fits the single page that drivers give to a program without fragments: 4 KiB
/// less the kernel's headroom and tailroom.
const ONE_PAGE: u32 = 3498;

/// All findings about `config` on `host`, errors first.
pub(crate) fn compare(config: &Config, host: &Host) -> Vec<Finding> {
    let mut findings = Findings::default();
    if let Some(why) = &host.kernel {
        findings.fail("kernel", why, "boot a newer kernel");
    }
    for interface in &config.interfaces {
        compare_interface(&mut findings, interface, host);
        compare_offloads(&mut findings, interface, config, host);
    }
    compare_stations(&mut findings, config, host);
    tunnel_sources(&mut findings, config, host);
    tunnel_ranges(&mut findings, config, host);
    let destinations = Destinations::of(config);
    nat::nat(&mut findings, config, &destinations, host);
    for pool in &config.pools {
        compare_pool(&mut findings, pool, config, &destinations, host);
        modes::ways(&mut findings, pool, &destinations, host);
    }
    for service in &config.services {
        compare_service(&mut findings, service, config, &destinations, host);
    }
    next_hops(&mut findings, config, &destinations, host);
    compare_limits(&mut findings, config, &host.pinned);
    if config.has_sample_key() {
        findings.warn(
            "hash_key",
            "it is the public key of a sample file: a client with this key can send all flows to one backend",
            "`openssl rand -hex 16` makes one; on every edge the same. Changing it moves flows",
        );
    }
    if host.sysctls.get("net.core.bpf_jit_enable") == Some(&0) {
        findings.warn(
            "net.core.bpf_jit_enable",
            "it is 0: the kernel interprets the program, at several times its cost for each packet",
            "sysctl -w net.core.bpf_jit_enable=1",
        );
    }
    findings.sorted()
}

fn compare_interface(findings: &mut Findings, interface: &Interface, host: &Host) {
    let name = &interface.name;
    let subject = format!("interface {name}");
    let Some(found) = host.network.interfaces.get(name) else {
        let message = "this host has no interface of this name: no client's packet can arrive by it";
        return findings.fail(&subject, message, "`ip -br link` lists those that there are");
    };
    if !found.ethernet {
        let message = "it is not Ethernet: the program finds no service in its packets";
        return findings.fail(&subject, message, "name the Ethernet interface below it");
    }
    if !found.up {
        findings.warn(&subject, "it is down, or has no carrier", format!("ip link set {name} up; look at the cable"));
    }
    if interface.mode == AttachMode::Native && found.mtu > ONE_PAGE && found.xdp.is_none_or(|xdp| xdp.generic) {
        findings.warn(
            &subject,
            format!(
                "its MTU is {}: most drivers attach no program in native mode where a frame needs more than a page",
                found.mtu
            ),
            format!("ip link set {name} mtu {ONE_PAGE} (or less), or mode = \"generic\", which is slower"),
        );
    }
    for (family, uses) in [("ipv4", true), ("ipv6", false)] {
        let forwarding = of_interface(family, name, "forwarding");
        let needed = host.network.routes.keys().any(|destination| destination.address.is_ipv4() == uses);
        if needed && host.sysctls.get(&forwarding) == Some(&0) {
            findings.warn(
                &subject,
                format!(
                    "{forwarding} is 0: while a backend's MAC address is not known, the kernel's lookup returns no next \
                     hop to the program, and packets to that backend are dropped"
                ),
                format!("sysctl -w {forwarding}=1"),
            );
        }
    }
}

/// Checks that every MAC address at which frames should be accepted has a place.
fn compare_stations(findings: &mut Findings, config: &Config, host: &Host) {
    let needed = stations(&host.network.devices, config.interfaces.iter().map(Receiver::of)).len();
    if needed > MAX_STATIONS {
        findings.warn(
            "interfaces",
            format!(
                "{needed} pairs of an interface, or of a port of a bond, and a MAC address should accept frames, and there is \
                 room for {MAX_STATIONS}: frames to the others go to the host"
            ),
            "fewer `virtual_macs`, fewer VLAN and macvlan interfaces with addresses of their own, or fewer ports in a bond",
        );
    }
}

/// Offloads that change frames before the program sees them.
fn compare_offloads(findings: &mut Findings, interface: &Interface, config: &Config, host: &Host) {
    let name = &interface.name;
    let Some(found) = host.network.interfaces.get(name) else { return };
    let subject = format!("interface {name}");
    if found.vlans && found.offloads.rx_vlan {
        findings.warn(
            &subject,
            "it has VLANs, and its driver takes the tags out of frames (rx-vlan-offload): the program sees frames without \
             one, and what it answers or forwards can leave in the wrong VLAN",
            format!("ethtool -K {name} rxvlan off"),
        );
    }
    // If the program only sends packets back, the kernel splits the merged segments again.
    let away = config.services.iter().any(|service| service.mode != Mode::Dsr)
        || host
            .network
            .routes
            .values()
            .any(|route| matches!(route, SurveyedRoute::Via { egress, .. } if egress != name));
    if interface.mode == AttachMode::Generic && found.offloads.gro && away {
        findings.warn(
            &subject,
            "in generic mode the program sees segments put together (GRO), which can't be divided in a tunnel, nor sent to \
             another interface: uploads stand still or are slow",
            format!("ethtool -K {name} gro off"),
        );
    }
}

fn tunnel_sources(findings: &mut Findings, config: &Config, host: &Host) {
    let sources = [config.tunnel.source_v4.map(IpAddr::V4), config.tunnel.source_v6.map(IpAddr::V6)];
    for source in sources.into_iter().flatten().filter(|source| !host.network.addresses.contains(source)) {
        findings.warn(
            "tunnel",
            format!(
                "{source} is no address of this host: ICMP errors about tunnel packets (\"too big\") do not arrive \
                 here, and a network that checks sources drops the packets"
            ),
            "`ip -br address` lists the addresses of this host",
        );
    }
}

/// Warns of ranges of tunnel sources that the host would forward. Only errors about tunnel packets are processed at these addresses;
/// a host that forwards sends all other packets on by its routes, and so back to the router that they came from.
fn tunnel_ranges(findings: &mut Findings, config: &Config, host: &Host) {
    for range in config.tunnel.ranges() {
        let family = if range.first.is_ipv4() { "ipv4" } else { "ipv6" };
        let forwards = |interface: &Interface| {
            host.sysctls.get(&of_interface(family, &interface.name, "forwarding")).is_some_and(|value| *value != 0)
        };
        let router = range.ends().into_iter().find_map(|address| router(host, Destination::of(address)));
        if let Some(router) = router.filter(|_| config.interfaces.iter().any(forwards)) {
            findings.warn(
                "tunnel",
                format!(
                    "this host forwards packets, and sends those for {range} to the router {router}: if that routes the prefix \
                     to this host, they loop until their TTL expires"
                ),
                format!("ip route add unreachable {range}"),
            );
        }
    }
}

fn compare_pool(findings: &mut Findings, pool: &Pool, config: &Config, destinations: &Destinations<'_>, host: &Host) {
    let subject = format!("pool {}", pool.name);
    if pool.probe.is_none() {
        let message = "it has no probe: a backend that died keeps its flows and gets new ones";
        findings.warn(&subject, message, format!("a section [pool.probe] below `{}`", pool.name));
    }
    if let Some(Unmade { why, remedy }) = host.unmade.get(&pool.name) {
        let message = format!("its probe can't be made: {why}; its backends serve, dead or not");
        findings.fail(&subject, message, remedy);
    }
    let own = backends(pool, destinations).filter(|backend| host.network.addresses.contains(&backend.address));
    for Destination { address, .. } in own {
        let message = format!("{address} is an address of this host: the packet path sends to other hosts only");
        findings.warn(&subject, message, "a backend on another host, or in a network namespace of its own");
    }
    let uses = |mode: Mode| uses(config, pool).any(|service| service.mode == mode);
    let behind: Vec<_> = backends(pool, destinations)
        .filter_map(|destination| Some((destination.address, router(host, destination)?)))
        .collect();
    if uses(Mode::Dsr) && !behind.is_empty() {
        let all = behind.len() == pool.backends.len();
        let first = behind.first().map(|(address, router)| format!("{address} behind {router}"));
        findings.add(
            if all { Severity::Error } else { Severity::Warning },
            &subject,
            format!(
                "{} of its backends are behind a router ({}), which would send a frame in `dsr` back to an edge, as it is \
                 addressed to the VIP; nothing is sent there",
                of(behind.len(), pool.backends.len()),
                first.unwrap_or_default(),
            ),
            "mode = \"ipip\" for backends behind a router, or backends on a network of this host",
        );
    }
}

fn compare_service(
    findings: &mut Findings,
    service: &Service,
    config: &Config,
    destinations: &Destinations<'_>,
    host: &Host,
) {
    let subject = format!("service {}", service.name);
    let pools = || service.pools.iter().filter_map(|pool| config.pools.get(*pool));
    let native = config.interfaces.iter().any(|interface| interface.mode == AttachMode::Native);
    let backends: Vec<_> = pools().flat_map(|pool| backends(pool, destinations)).collect();
    let unreachable = backends.iter().filter_map(|to| Some((*to, no_route(host, *to, native)?)));
    let unreachable: Vec<(Destination, String)> = unreachable.collect();
    if let Some((Destination { address, source, .. }, why)) = unreachable.first() {
        let all = unreachable.len() == backends.len();
        // The kernel looks up no IPv4 route from an address that it does not have.
        let own = source.filter(|source| host.network.addresses.contains(source));
        let from = own.map_or(String::new(), |source| format!(" from {source}"));
        findings.add(
            if all { Severity::Error } else { Severity::Warning },
            &subject,
            format!(
                "{} of its backends cannot be reached from this host: {why}",
                of(unreachable.len(), backends.len())
            ),
            format!("`ip route get {address}{from}` shows what the kernel would do"),
        );
    }
    if let Announce::L2 { interface } = &service.announce {
        announce::announced(findings, service, interface, host);
    }
}

/// Checks that the kernel's neighbour table has room for the next hops.
fn next_hops(findings: &mut Findings, config: &Config, destinations: &Destinations<'_>, host: &Host) {
    let mut hops: BTreeMap<bool, BTreeSet<IpAddr>> = BTreeMap::new();
    for destination in config.pools.iter().flat_map(|pool| backends(pool, destinations)) {
        if let Some(SurveyedRoute::Via { next_hop, .. }) = host.network.routes.get(&destination) {
            hops.entry(next_hop.is_ipv4()).or_default().insert(*next_hop);
        }
    }
    for (is_v4, hops) in hops {
        let name = format!("net.{}.neigh.default.gc_thresh3", if is_v4 { "ipv4" } else { "ipv6" });
        let room = host.sysctls.get(&name).copied().unwrap_or(i64::MAX);
        let needed = i64::try_from(hops.len()).unwrap_or(i64::MAX);
        if needed > room {
            findings.warn(
                &name,
                format!(
                    "it is {room}, and {needed} next hops are needed: the kernel forgets some of their MAC addresses"
                ),
                format!("sysctl -w {name}={}", needed.saturating_mul(2)),
            );
        }
    }
}

/// The destinations of a pool's packets.
fn backends(pool: &Pool, destinations: &Destinations<'_>) -> impl Iterator<Item = Destination> {
    pool.backends.iter().map(|backend| destinations.to(Some(&pool.name), backend.address))
}

fn uses<'a>(config: &'a Config, pool: &Pool) -> impl Iterator<Item = &'a Service> {
    let position = config.pools.iter().position(|other| other.name == pool.name);
    config.services.iter().filter(move |service| position.is_some_and(|position| service.pools.contains(&position)))
}

/// The router in front of a destination, if there is one.
fn router(host: &Host, destination: Destination) -> Option<IpAddr> {
    match host.network.routes.get(&destination)? {
        SurveyedRoute::Via { next_hop, .. } => (*next_hop != destination.address).then_some(*next_hop),
        SurveyedRoute::None(_) => None,
    }
}

/// Why no packet can be sent to a destination; `native` is whether the program runs in native mode.
fn no_route(host: &Host, destination: Destination, native: bool) -> Option<String> {
    let address = destination.address;
    match host.network.routes.get(&destination)? {
        SurveyedRoute::None(why) => Some(format!("{address}: {why}")),
        SurveyedRoute::Via { egress, .. } => match host.network.interfaces.get(egress) {
            Some(interface) if !interface.up => Some(format!("{address}: {egress} is down, or has no carrier")),
            Some(interface) if !interface.ethernet => Some(format!("{address}: {egress} is not Ethernet")),
            Some(interface) if native => {
                interface.not_native.as_ref().map(|why| format!("{address}: {why} ({egress})"))
            }
            _ => None,
        },
    }
}

fn of(some: usize, all: usize) -> String {
    if some == all { "all".to_owned() } else { format!("{some} of {all}") }
}

#[cfg(test)]
mod tests;
