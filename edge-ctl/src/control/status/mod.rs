//! The output of `status`: the same with and without a daemon.

mod build;
mod cut_off;
mod flows;
mod history;
mod joined;
mod latency;
mod nat;
mod peaks;
mod suspicion;
mod trouble;

use std::{collections::BTreeMap, fmt};

use edge_common::abi::{BackendNumber, State, Traffic};
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    build::build,
    cut_off::show_cut_off,
    flows::{FlowTableStatus, RetiredStatus, TransitionStatus, UnrecordedStatus, show_unrecorded},
    history::HistoryStatus,
    latency::LatencyStatus,
    nat::NatStatus,
    peaks::{Peaks, peak_rates},
    suspicion::SuspicionStatus,
    trouble::{Level, Part},
};
pub(crate) use super::rates::Rates;
use super::{data_plane::DataPlane, events::unix_ms, inventory::Inventory};
use crate::{
    bpf::boot_ms,
    health::Health,
    plan::{self, Admin},
    preflight::Finding,
};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) source: Source,
    /// Time of the status: milliseconds since 1970, UTC.
    pub(crate) at: u64,
    /// Number of the configuration in force; each publication increments it.
    pub(crate) generation: u64,
    /// Absent without a daemon.
    pub(crate) daemon: Option<DaemonStatus>,
    /// Conflicts between the configuration and this host, as far as a daemon has checked.
    pub(crate) host: Vec<Finding>,
    /// History of the generation in force; absent if it is not known.
    #[serde(default)]
    pub(crate) history: Option<HistoryStatus>,
    pub(crate) interfaces: Vec<InterfaceStatus>,
    pub(crate) services: Vec<ServiceStatus>,
    pub(crate) pools: Vec<PoolStatus>,
    /// Retired backends: no longer in the configuration, but still in slots or flow records.
    pub(crate) retired: Vec<RetiredStatus>,
    /// Absent if no service is translated, or before the first check.
    #[serde(default)]
    pub(crate) nat: Option<NatStatus>,
    /// Absent if the maps' sizes are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) flow_table: Option<FlowTableStatus>,
    pub(crate) exits: Vec<ExitStatus>,
}

/// Origin of a [`Status`].
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
    /// The daemon's configuration file.
    pub(crate) config: String,
    /// Why the file, as last read, is not in force.
    pub(crate) refused: Option<String>,
    /// Why probes go to the addresses of backends and not through services; absent if both are possible.
    #[serde(default)]
    pub(crate) probes: Option<String>,
    /// Why the daemon's program is not loaded; an older one stays attached. The daemon repeats the attempt.
    pub(crate) program: Option<String>,
    /// Whether the daemon's program is not attached yet, and an older one still is.
    #[serde(default)]
    pub(crate) loading: bool,
    /// Why operators' decisions would not survive a reboot: an error of the disk.
    #[serde(default)]
    pub(crate) state_error: Option<String>,
    /// How often the maps differed from the daemon's state and were repaired.
    pub(crate) repaired: u64,
    /// Set while this host may be the cause of unanswered probes: the health of backends does not change meanwhile.
    pub(crate) frozen: Option<FrozenStatus>,
    /// Address of the status page; absent if none is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<HttpStatus>,
    /// The hooks that are told of events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notify: Vec<HookStatus>,
}

/// What a hook has done since it was configured as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HookStatus {
    pub(crate) name: String,
    /// Events that it was told of, with or without success.
    pub(crate) runs: u64,
    pub(crate) failures: u64,
    /// Events that came faster than it took them.
    pub(crate) dropped: u64,
    /// Why the last run has failed.
    pub(crate) failing: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HttpStatus {
    pub(crate) listen: String,
    /// Why the page is not served.
    pub(crate) why: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FrozenStatus {
    pub(crate) for_seconds: u64,
    pub(crate) why: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InterfaceStatus {
    pub(crate) name: String,
    /// Absent if the attachment could not be looked up.
    pub(crate) attached: Option<bool>,
    /// Why the program is not attached, or its attachment unknown; absent unless a daemon has tried.
    pub(crate) why: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServiceStatus {
    pub(crate) name: String,
    pub(crate) vips: Vec<String>,
    /// As written in the file.
    pub(crate) ports: Vec<String>,
    pub(crate) mode: String,
    pub(crate) state: ServiceState,
    /// The pool that new flows go to.
    pub(crate) serving: Option<String>,
    /// What happens to new flows and why, in words.
    pub(crate) reason: String,
    /// The service's pools in order of priority.
    pub(crate) pools: Vec<String>,
    pub(crate) failover: Option<FailoverStatus>,
    pub(crate) when_exhausted: String,
    pub(crate) traffic: TrafficStatus,
    /// The transition after a change; absent when the service is stable.
    pub(crate) transition: Option<TransitionStatus>,
    /// Set while new flows of the service are not recorded; never without a daemon.
    #[serde(default)]
    pub(crate) unrecorded: Option<UnrecordedStatus>,
    /// Counts of the flow table since the service was first configured, by the names of `FlowCount`.
    pub(crate) flows: BTreeMap<String, u64>,
    /// The parts of a service whose backends have two addresses, `SERVICE@ipv4` and `SERVICE@ipv6`. The service shows
    /// the worse of the two states.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<Self>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServiceState {
    /// The service's first pool serves.
    Ok,
    /// An operator has failed it over.
    Failover,
    /// The pools of higher priority can't serve.
    Fallback,
    /// The first pool serves, but its probes have not found out yet whether any backend is up.
    Unknown,
    /// Too few backends of the pool are up, and there is no other pool: all its backends serve, up or not.
    Panic,
    /// No pool has enough backends: the remaining ones serve, or else `when_exhausted` decides.
    Exhausted,
    /// No backend of the serving pool can be reached, and there is no other pool; never without a daemon.
    Unreachable,
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
    /// Whether all backends serve, up or not, since too few are up.
    pub(crate) panic: bool,
    /// Share of the pool's new flows that go elsewhere, 0 to 1: the pool was left and has not been up for long enough
    /// since, or flows are returning to it.
    pub(crate) withheld: f64,
    /// Probe of its backends; absent if they are not probed.
    pub(crate) probe: Option<String>,
    /// How long its probes take; absent without a daemon, and before the first probe that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) probe_latency: Option<LatencyStatus>,
    pub(crate) backends: Vec<BackendStatus>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BackendStatus {
    /// `POOL/BACKEND`.
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) weight: u32,
    /// Weight in the file, and reason of the change, if an operator has set another weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file_weight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weight_reason: Option<String>,
    /// Health set by an operator, in place of the result of probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) forced: Option<HealthStatus>,
    pub(crate) state: BackendState,
    /// The result of probes, or the forced health; `unknown` without either, and for a disabled backend.
    pub(crate) health: HealthStatus,
    /// Time of the last change of state: milliseconds since 1970, UTC; absent if unknown.
    pub(crate) since: Option<u64>,
    /// Seconds in this state, by a clock that is never set.
    pub(crate) for_seconds: Option<u64>,
    pub(crate) reason: String,
    /// Destination MAC address of the backend's frames; absent if the packet path looks it up for each packet.
    pub(crate) next_hop: Option<String>,
    /// MTU of the path to the backend, bytes of IP packet, if a router has reported one below the egress interface's.
    pub(crate) path_mtu: Option<u16>,
    /// MTU that the path needs for IPv6 in the tunnel, bytes of IP packet; absent if the path and the egress interface
    /// have it, or if no IPv6 service reaches the backend by a tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) needed_mtu: Option<u16>,
    /// The last certificate that the backend's probes received; absent if there was none.
    #[serde(default)]
    pub(crate) certificate: Option<CertificateStatus>,
    /// Why the backend is suspected by what its clients' packets show; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) suspicion: Option<SuspicionStatus>,
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

/// The health that an operator has set.
fn forced_status(state: State) -> Option<HealthStatus> {
    plan::forced(state).map(|health| match health {
        Health::Up => HealthStatus::Up,
        Health::Down => HealthStatus::Down,
        Health::Unknown => HealthStatus::Unknown,
    })
}

/// State and health of a backend for `status`.
fn state_status(state: State) -> (BackendState, HealthStatus) {
    let (named, health) = match plan::health(state) {
        Health::Up => (BackendState::Up, HealthStatus::Up),
        Health::Down => (BackendState::Down, HealthStatus::Down),
        Health::Unknown => (BackendState::Unknown, HealthStatus::Unknown),
    };
    match plan::admin(state) {
        Admin::Enabled => (named, health),
        Admin::Drained => (BackendState::Draining, health),
        Admin::Disabled => (BackendState::Disabled, health),
    }
}

/// Validity of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CertificateStatus {
    /// Milliseconds since 1970, UTC.
    pub(crate) until: u64,
    /// Whole days left; negative after expiry.
    pub(crate) days: i64,
    pub(crate) state: CertificateState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CertificateState {
    Valid,
    /// Valid for fewer days than the probe's `warn_days`.
    ExpiresSoon,
    Expired,
}

impl fmt::Display for CertificateStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |days: i64| if days == 1 { "day" } else { "days" };
        match (self.state, self.days) {
            (CertificateState::Expired, days) => {
                write!(f, "its certificate EXPIRED {} {} ago", -days - 1, plural(-days - 1))
            }
            (CertificateState::Valid | CertificateState::ExpiresSoon, days) => {
                write!(f, "its certificate is valid for {days} {} more", plural(days))
            }
        }
    }
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
    /// The largest rates of the last hour; absent without a daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peak: Option<Rates>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ExitStatus {
    pub(crate) name: String,
    /// The program's verdict for such packets: pass, drop, tx or redirect.
    pub(crate) verdict: String,
    pub(crate) packets: u64,
    pub(crate) meaning: String,
}

/// Counters at one time, to compute rates from.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    at: Clock,
    services: BTreeMap<u32, Traffic>,
    backends: BTreeMap<BackendNumber, Traffic>,
}

/// One moment on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Milliseconds since 1970, UTC; may be set.
    pub(crate) unix_ms: u64,
    /// Milliseconds since boot, suspension included; never set.
    pub(crate) boot_ms: u64,
}

impl Clock {
    pub(crate) fn now() -> Self {
        Self { unix_ms: unix_ms(), boot_ms: boot_ms() }
    }

    /// Milliseconds since `boot_ms`, a time of the second clock; `None` if that time was not recorded.
    fn age(self, boot_ms: u64) -> Option<u64> {
        (boot_ms > 0).then(|| self.boot_ms.saturating_sub(boot_ms))
    }
}

impl Sample {
    pub(crate) fn take(inventory: &Inventory, plane: &impl DataPlane, at: Clock) -> Self {
        let services = inventory.services.iter().map(|number| (*number, plane.service_traffic(*number)));
        let backends = inventory.known().map(|known| (known.number, plane.backend_traffic(known.number)));
        Self { at, services: services.collect(), backends: backends.collect() }
    }

    /// Flows of all services that have started since the maps were made.
    pub(crate) fn flows(&self) -> u64 {
        self.services.values().map(|traffic| traffic.flows).sum()
    }

    fn backend_traffic(&self, number: BackendNumber, earlier: Option<&Self>) -> TrafficStatus {
        let earlier = earlier.and_then(|sample| Some((sample.at, *sample.backends.get(&number)?)));
        build::traffic(earlier, self.at, self.backends.get(&number).copied().unwrap_or_default())
    }
}
