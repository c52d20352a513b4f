//! Builds a status from the configuration and the maps.

#![deny(clippy::disallowed_methods)]
#![deny(clippy::wildcard_enum_match_arm)]

use std::{collections::BTreeMap, ops::Range};

use edge_common::abi::{BackendNumber, Traffic, Verdict, WhenExhausted};

use super::{
    BackendStatus, Clock, DaemonStatus, ExitStatus, FailoverStatus, InterfaceStatus, PoolStatus, Rates, Sample,
    ServiceState, ServiceStatus, Source, Status, TrafficStatus, flows, forced_status, joined, state_status,
};
use crate::{
    config::{Probe, ProbeKind, Service},
    control::{
        chain,
        data_plane::DataPlane,
        inventory::{Inventory, Member},
        narrow::{self, Narrow},
        selection::{self, Counts, Serving},
    },
};

/// The whole status. Rates are computed between `earlier` and `now`.
pub(crate) fn build(
    inventory: &Inventory,
    plane: &impl DataPlane,
    earlier: Option<&Sample>,
    now: &Sample,
    daemon: Option<DaemonStatus>,
) -> Status {
    let (attached, counts) = (plane.attached(), Counts::take(inventory, plane));
    let narrow = narrow::narrow(inventory, plane);
    let interfaces = inventory.config.interfaces.iter().map(|interface| InterfaceStatus {
        name: interface.name.clone(),
        attached: attached.as_ref().ok().map(|interfaces| interfaces.contains(&interface.name)),
        why: attached.as_ref().err().map(|error| chain(error)),
    });
    let services = joined::joined(inventory.services().map(|(service, number)| {
        let earlier = earlier.and_then(|sample| Some((sample.at, *sample.services.get(&number)?)));
        let traffic = traffic(earlier, now.at, now.services.get(&number).copied().unwrap_or_default());
        service_status(inventory, plane, &counts, (service, number), traffic, now.at)
    }));
    let records = services.iter().filter_map(|service| Some(service.transition.as_ref()?.records)).sum();
    Status {
        source: if daemon.is_some() { Source::Daemon } else { Source::PinnedMaps },
        at: now.at.unix_ms,
        generation: inventory.generation,
        daemon,
        host: Vec::new(),
        history: None,
        interfaces: interfaces.collect(),
        services,
        pools: (0..inventory.config.pools.len())
            .map(|pool| pool_status(inventory, plane, (&counts, &narrow), pool, earlier, now))
            .collect(),
        retired: inventory.retired.iter().filter_map(|retired| flows::retired(retired, plane, earlier, now)).collect(),
        nat: super::NatStatus::of(inventory, plane),
        flow_table: plane.flow_room().map(|room| flows::FlowTableStatus { records, room }),
        exits: plane
            .exits()
            .into_iter()
            .map(|(exit, packets)| ExitStatus {
                name: exit.name().to_owned(),
                verdict: match exit.verdict() {
                    Verdict::Pass => "pass",
                    Verdict::Drop => "drop",
                    Verdict::Tx => "tx",
                    Verdict::Redirect => "redirect",
                }
                .to_owned(),
                packets,
                meaning: exit.meaning().trim().to_owned(),
            })
            .collect(),
    }
}

fn service_status(
    inventory: &Inventory,
    plane: &impl DataPlane,
    counts: &Counts,
    (service, number): (&Service, u32),
    traffic: TrafficStatus,
    at: Clock,
) -> ServiceStatus {
    let pools = inventory.pool_names(service);
    let failover = plane.failover(number);
    let first = failover.first;
    let failover = pools
        .get(usize::from(first))
        .filter(|_| first > 0)
        .map(|to| FailoverStatus { to: to.clone(), evacuate: failover.evacuate });
    let serving = selection::serving(counts, plane.failover(number), service);
    let described = selection::described(inventory, service, serving);
    let (state, reason) = match (serving, &failover) {
        (Serving::Panic(_), _) => (ServiceState::Panic, described),
        (Serving::Exhausted | Serving::Open(_) | Serving::Short(_), _) => (ServiceState::Exhausted, described),
        (Serving::PassedOver(_), _) => (ServiceState::Fallback, described),
        (Serving::Pool(position), Some(failover)) => {
            let evacuating = if failover.evacuate { ", evacuating" } else { "" };
            let to = &failover.to;
            let why = if pools[position] == *to {
                String::new()
            } else {
                format!("; {}", lacks(inventory, counts, service, usize::from(first)..position))
            };
            (ServiceState::Failover, format!("failed over to {to} by an operator{evacuating}{why}"))
        }
        (Serving::Pool(0), None) if is_unknown(inventory, counts, service.pools[0]) => {
            (ServiceState::Unknown, format!("{} serves, and the health of its backends is unknown", pools[0]))
        }
        (Serving::Pool(0), None) => (ServiceState::Ok, String::new()),
        (Serving::Pool(position), None) => (ServiceState::Fallback, lacks(inventory, counts, service, 0..position)),
    };
    ServiceStatus {
        name: service.name.clone(),
        vips: service.vips.iter().map(ToString::to_string).collect(),
        ports: service.ports.iter().map(ToString::to_string).collect(),
        mode: service.mode.name().to_owned(),
        state,
        serving: serving.position().map(|position| pools[position].clone()),
        reason,
        pools,
        failover,
        when_exhausted: match service.when_exhausted {
            WhenExhausted::Open => "open",
            WhenExhausted::Reject => "reject",
            WhenExhausted::Drop => "drop",
        }
        .to_owned(),
        traffic,
        transition: flows::transition(plane, number, at),
        unrecorded: None,
        flows: flows::counts(plane, number),
        parts: Vec::new(),
    }
}

/// Whether the health of all backends of a probed pool is unknown. In a pool without a probe it is unknown by
/// configuration.
fn is_unknown(inventory: &Inventory, counts: &Counts, pool: usize) -> bool {
    inventory.config.pools[pool].probe.is_some() && counts.is_unknown(pool)
}

/// Why the pools at these positions do not serve.
fn lacks(inventory: &Inventory, counts: &Counts, service: &Service, positions: Range<usize>) -> String {
    let lacks = service.pools[positions].iter().map(|position| {
        let pool = &inventory.config.pools[*position];
        let available = counts.available(*position);
        if available >= usize::from(pool.min_healthy) && counts.withheld(*position) > 0.0 {
            return format!("{} is up again, and {}", pool.name, share(counts.withheld(*position)));
        }
        format!("{} has {available} of {} available, needs {}", pool.name, pool.backends.len(), pool.min_healthy)
    });
    lacks.collect::<Vec<_>>().join("; ")
}

fn pool_status(
    inventory: &Inventory,
    plane: &impl DataPlane,
    (counts, narrow): (&Counts, &BTreeMap<BackendNumber, Narrow>),
    position: usize,
    earlier: Option<&Sample>,
    now: &Sample,
) -> PoolStatus {
    let pool = &inventory.config.pools[position];
    PoolStatus {
        name: pool.name.clone(),
        min_healthy: pool.min_healthy,
        available: counts.available(position),
        panic: counts.panics(position),
        withheld: counts.withheld(position),
        probe: pool.probe.as_ref().map(probe_text),
        probe_latency: None,
        backends: inventory
            .members_of(position)
            .map(|member| BackendStatus {
                needed_mtu: narrow.get(&member.number).map(|narrow| narrow.needed),
                ..backend_status(inventory, &member, plane, earlier, now)
            })
            .collect(),
    }
}

fn backend_status(
    inventory: &Inventory,
    member: &Member<'_>,
    plane: &impl DataPlane,
    earlier: Option<&Sample>,
    now: &Sample,
) -> BackendStatus {
    let (state, health) = state_status(plane.state(member.number));
    let word = member.word(inventory);
    let why = plane.why(member.number);
    let age = now.at.age(why.changed_ms);
    BackendStatus {
        name: member.name(),
        address: member.backend.address.to_string(),
        weight: member.backend.weight,
        file_weight: word.map(|_| member.backend.file_weight),
        weight_reason: word.and_then(|word| word.reason.clone()),
        forced: forced_status(plane.state(member.number)),
        state,
        health,
        since: age.map(|age| now.at.unix_ms.saturating_sub(age)),
        for_seconds: age.map(|age| age / 1000),
        reason: why.reason,
        next_hop: plane.next_hop(member.number).map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")),
        path_mtu: plane.path_mtu(member.number),
        needed_mtu: None,
        certificate: None,
        suspicion: None,
        traffic: now.backend_traffic(member.number, earlier),
    }
}

/// Progress of a pool's return.
fn share(withheld: f64) -> String {
    if withheld >= 1.0 {
        return "takes new flows once it has been so for `failback_after` (`edge-ctl failback SERVICE`: now)"
            .to_owned();
    }
    format!("takes {:.0} % of its new flows so far", (1.0 - withheld) * 100.0)
}

fn probe_text(probe: &Probe) -> String {
    let (name, port) = (probe.kind.name(), probe.port);
    let what = match &probe.kind {
        ProbeKind::Http { path, .. } => format!("{name} :{port}{path}"),
        ProbeKind::Dns(dns) => format!("{name} :{port} {} {}", dns.name, dns.record),
        ProbeKind::Command { argv, .. } => format!("{name} {}", argv.join(" ")),
        ProbeKind::Icmp => name.to_owned(),
        ProbeKind::Tcp | ProbeKind::Tls { .. } | ProbeKind::Udp { .. } | ProbeKind::Grpc { .. } => {
            format!("{name} :{port}")
        }
    };
    format!("{what} every {}", humantime::format_duration(probe.interval))
}

#[expect(clippy::cast_precision_loss, reason = "rates are for people; 52 bits are plenty")]
pub(super) fn traffic(earlier: Option<(Clock, Traffic)>, at: Clock, now: Traffic) -> TrafficStatus {
    let rates = earlier.and_then(|(since, before)| {
        let seconds = at.boot_ms.saturating_sub(since.boot_ms) as f64 / 1000.0;
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        (seconds > 0.0).then(|| Rates {
            packets: rate(now.packets, before.packets),
            bytes: rate(now.bytes, before.bytes),
            flows: rate(now.flows, before.flows),
        })
    });
    TrafficStatus { packets: now.packets, bytes: now.bytes, flows: now.flows, rates, peak: None }
}
