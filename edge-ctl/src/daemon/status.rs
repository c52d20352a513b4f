//! What `status` shows, made by one function from the configuration and the maps, with and without the daemon.

mod flows;

use std::{collections::BTreeMap, ops::Range};

use edge_common::abi::{BackendNumber, Mode, State, Traffic, Verdict, WhenExhausted};
use serde::{Deserialize, Serialize};

pub(crate) use self::flows::{LeavingStatus, TransitionStatus};
use super::{
    inventory::{Inventory, Member},
    plane::Plane,
    selection::{self, Serving},
};
use crate::{
    config::{Probe, ProbeKind, Service},
    health::Health,
    kernel::boot_time,
    model::{self, Admin},
};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) source: Source,
    /// When this was told: milliseconds since 1970, UTC.
    pub(crate) at: u64,
    /// Counts published configurations.
    pub(crate) generation: u64,
    /// Absent without a daemon.
    pub(crate) daemon: Option<DaemonStatus>,
    pub(crate) interfaces: Vec<InterfaceStatus>,
    pub(crate) services: Vec<ServiceStatus>,
    pub(crate) pools: Vec<PoolStatus>,
    /// Backends that the configuration has no more, as long as slots or flow records name them.
    pub(crate) leaving: Vec<LeavingStatus>,
    pub(crate) exits: Vec<ExitStatus>,
}

/// Who made a [`Status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    Daemon,
    PinnedMaps,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DaemonStatus {
    pub(crate) pid: u32,
    pub(crate) version: String,
    /// Milliseconds since 1970, UTC.
    pub(crate) started: u64,
    /// Its configuration file.
    pub(crate) config: String,
    /// Why the file, as it was last read, is not in force.
    pub(crate) refused: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InterfaceStatus {
    pub(crate) name: String,
    pub(crate) attached: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServiceStatus {
    pub(crate) name: String,
    pub(crate) vip: String,
    pub(crate) port: u16,
    pub(crate) protocol: String,
    pub(crate) mode: String,
    pub(crate) state: ServiceState,
    /// The pool that new flows go to.
    pub(crate) serving: Option<String>,
    /// What becomes of new flows, and why, for people.
    pub(crate) reason: String,
    /// Its pools in order of priority.
    pub(crate) pools: Vec<String>,
    pub(crate) failover: Option<FailoverStatus>,
    pub(crate) when_exhausted: String,
    pub(crate) traffic: TrafficStatus,
    /// What is under way after a change; absent when the service is settled.
    pub(crate) transition: Option<TransitionStatus>,
    /// What was done with flow records since the service was first configured, by the names of `FlowCount`.
    pub(crate) flows: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServiceState {
    /// Its first pool serves.
    Ok,
    /// An operator has failed it over.
    Failover,
    /// The pools of higher priority can't serve.
    Fallback,
    /// No pool has as many backends as it needs: what is left serves, else `when_exhausted` decides.
    Exhausted,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailoverStatus {
    pub(crate) to: String,
    pub(crate) evacuate: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PoolStatus {
    pub(crate) name: String,
    pub(crate) min_healthy: u16,
    /// Backends that take new flows.
    pub(crate) available: usize,
    /// How its backends are probed; absent where they are not.
    pub(crate) probe: Option<String>,
    pub(crate) backends: Vec<BackendStatus>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BackendStatus {
    /// `POOL/BACKEND`.
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) weight: u32,
    pub(crate) state: BackendState,
    /// What probes say; `unknown` without any, and of a disabled backend.
    pub(crate) health: HealthStatus,
    /// When the state last changed: milliseconds since 1970, UTC; absent where nobody wrote it down.
    pub(crate) since: Option<u64>,
    /// Seconds in this state, by a clock that is never set.
    pub(crate) for_seconds: Option<u64>,
    pub(crate) reason: String,
    /// MAC address that its frames go to; absent where the packet path asks the kernel for each packet.
    pub(crate) next_hop: Option<String>,
    pub(crate) traffic: TrafficStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BackendState {
    Up,
    Down,
    Unknown,
    Draining,
    Disabled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HealthStatus {
    Up,
    Down,
    Unknown,
}

/// Sums since the maps were made, and rates over the last second or two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrafficStatus {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) flows: u64,
    pub(crate) rates: Option<Rates>,
}

/// Per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rates {
    pub(crate) packets: f64,
    pub(crate) bytes: f64,
    pub(crate) flows: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ExitStatus {
    pub(crate) name: String,
    /// What the kernel does with such a packet: pass, drop, tx or redirect.
    pub(crate) verdict: String,
    pub(crate) packets: u64,
    pub(crate) meaning: String,
}

/// Counters at one moment, to tell rates from.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    at: Clock,
    services: BTreeMap<u32, Traffic>,
    backends: BTreeMap<BackendNumber, Traffic>,
}

/// The same moment on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Milliseconds since 1970, UTC; may be set.
    pub(crate) unix_ms: u64,
    /// Milliseconds since boot, suspension included; never set.
    pub(crate) boot_ms: u64,
}

impl Clock {
    pub(crate) fn now() -> Self {
        Self { unix_ms: super::events::unix_ms(), boot_ms: u64::try_from(boot_time().as_millis()).unwrap_or(u64::MAX) }
    }

    /// Milliseconds since a moment of the second clock; `None` for one that was not written down.
    fn age(self, boot_ms: u64) -> Option<u64> {
        (boot_ms > 0).then(|| self.boot_ms.saturating_sub(boot_ms))
    }
}

impl Sample {
    pub(crate) fn take(inventory: &Inventory, plane: &impl Plane, at: Clock) -> Self {
        let services = inventory.services.iter().map(|number| (*number, plane.service_traffic(*number)));
        let backends = inventory.known().map(|known| (known.number, plane.backend_traffic(known.number)));
        Self { at, services: services.collect(), backends: backends.collect() }
    }

    fn backend_traffic(&self, number: BackendNumber, earlier: Option<&Self>) -> TrafficStatus {
        let earlier = earlier.and_then(|sample| Some((sample.at, *sample.backends.get(&number)?)));
        traffic(earlier, self.at, self.backends.get(&number).copied().unwrap_or_default())
    }
}

/// All of it. Rates are those between `earlier` and `now`, which is only compared with.
pub(crate) fn build(
    inventory: &Inventory,
    plane: &impl Plane,
    earlier: Option<&Sample>,
    now: &Sample,
    daemon: Option<DaemonStatus>,
) -> Status {
    let attached = plane.attached();
    let interfaces = inventory.config.interfaces.iter().map(|interface| InterfaceStatus {
        name: interface.name.clone(),
        attached: attached.contains(&interface.name),
    });
    Status {
        source: if daemon.is_some() { Source::Daemon } else { Source::PinnedMaps },
        at: now.at.unix_ms,
        generation: inventory.generation,
        daemon,
        interfaces: interfaces.collect(),
        services: inventory
            .services()
            .map(|(service, number)| {
                let earlier = earlier.and_then(|sample| Some((sample.at, *sample.services.get(&number)?)));
                let traffic = traffic(earlier, now.at, now.services.get(&number).copied().unwrap_or_default());
                service_status(inventory, plane, service, number, traffic, now.at)
            })
            .collect(),
        pools: (0..inventory.config.pools.len())
            .map(|pool| pool_status(inventory, plane, pool, earlier, now))
            .collect(),
        leaving: inventory.leaving.iter().filter_map(|gone| flows::leaving(gone, plane, earlier, now)).collect(),
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
    plane: &impl Plane,
    service: &Service,
    number: u32,
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
    let serving = selection::serving(inventory, plane, service, number);
    let described = selection::described(inventory, service, serving);
    let (state, reason) = match (serving, &failover) {
        (Serving::Exhausted | Serving::Open(_) | Serving::Short(_), _) => (ServiceState::Exhausted, described),
        (Serving::PassedOver(_), _) => (ServiceState::Fallback, described),
        (Serving::Pool(position), Some(failover)) => {
            let evacuating = if failover.evacuate { ", evacuating" } else { "" };
            let to = &failover.to;
            let why = if pools[position] == *to {
                String::new()
            } else {
                format!("; {}", lacks(inventory, plane, service, usize::from(first)..position))
            };
            (ServiceState::Failover, format!("failed over to {to} by an operator{evacuating}{why}"))
        }
        (Serving::Pool(0), None) => (ServiceState::Ok, String::new()),
        (Serving::Pool(position), None) => (ServiceState::Fallback, lacks(inventory, plane, service, 0..position)),
    };
    ServiceStatus {
        name: service.name.clone(),
        vip: service.vip.to_string(),
        port: service.port,
        protocol: service.protocol.name().to_owned(),
        mode: match service.mode {
            Mode::Dsr => "dsr",
            Mode::Ipip => "ipip",
        }
        .to_owned(),
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
        flows: flows::counts(plane, number),
    }
}

/// Why the pools at these positions don't serve.
fn lacks(inventory: &Inventory, plane: &impl Plane, service: &Service, positions: Range<usize>) -> String {
    let lacks = service.pools[positions].iter().map(|position| {
        let pool = &inventory.config.pools[*position];
        let available = selection::available(inventory, plane, *position);
        format!("{} has {available} of {} available, needs {}", pool.name, pool.backends.len(), pool.min_healthy)
    });
    lacks.collect::<Vec<_>>().join("; ")
}

fn pool_status(
    inventory: &Inventory,
    plane: &impl Plane,
    position: usize,
    earlier: Option<&Sample>,
    now: &Sample,
) -> PoolStatus {
    let pool = &inventory.config.pools[position];
    PoolStatus {
        name: pool.name.clone(),
        min_healthy: pool.min_healthy,
        available: selection::available(inventory, plane, position),
        probe: pool.probe.as_ref().map(probe_text),
        backends: inventory.members_of(position).map(|member| backend_status(&member, plane, earlier, now)).collect(),
    }
}

fn backend_status(member: &Member<'_>, plane: &impl Plane, earlier: Option<&Sample>, now: &Sample) -> BackendStatus {
    let (state, health) = state_status(plane.state(member.number));
    let why = plane.why(member.number);
    let age = now.at.age(why.changed_ms);
    BackendStatus {
        name: member.name(),
        address: member.backend.address.to_string(),
        weight: member.backend.weight,
        state,
        health,
        since: age.map(|age| now.at.unix_ms.saturating_sub(age)),
        for_seconds: age.map(|age| age / 1000),
        reason: why.reason,
        next_hop: plane.next_hop(member.number).map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")),
        traffic: now.backend_traffic(member.number, earlier),
    }
}

fn state_status(state: State) -> (BackendState, HealthStatus) {
    let (named, health) = match model::health(state) {
        Health::Up => (BackendState::Up, HealthStatus::Up),
        Health::Down => (BackendState::Down, HealthStatus::Down),
        Health::Unknown => (BackendState::Unknown, HealthStatus::Unknown),
    };
    match model::admin(state) {
        Admin::Enabled => (named, health),
        Admin::Drained => (BackendState::Draining, health),
        Admin::Disabled => (BackendState::Disabled, health),
    }
}

fn probe_text(probe: &Probe) -> String {
    let what = match &probe.kind {
        ProbeKind::Tcp => format!("tcp :{}", probe.port),
        ProbeKind::Http { path, .. } => format!("http :{}{path}", probe.port),
    };
    format!("{what} every {}", humantime::format_duration(probe.interval))
}

#[expect(clippy::cast_precision_loss, reason = "rates are for people; 52 bits are plenty")]
fn traffic(earlier: Option<(Clock, Traffic)>, at: Clock, now: Traffic) -> TrafficStatus {
    let rates = earlier.and_then(|(since, before)| {
        let seconds = at.boot_ms.saturating_sub(since.boot_ms) as f64 / 1000.0;
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        (seconds > 0.0).then(|| Rates {
            packets: rate(now.packets, before.packets),
            bytes: rate(now.bytes, before.bytes),
            flows: rate(now.flows, before.flows),
        })
    });
    TrafficStatus { packets: now.packets, bytes: now.bytes, flows: now.flows, rates }
}
