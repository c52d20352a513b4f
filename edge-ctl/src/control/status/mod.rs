//! What `status` shows: the same with and without a daemon.

mod build;
mod cut_off;
mod flows;
mod history;
mod joined;
mod nat;

use std::{collections::BTreeMap, fmt};

use edge_common::abi::{BackendNumber, State, Traffic};
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    build::build,
    cut_off::show_cut_off,
    flows::{RetiredStatus, TransitionStatus, UnrecordedStatus, show_unrecorded},
    history::HistoryStatus,
    nat::NatStatus,
};
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
    /// When this was looked at: milliseconds since 1970, UTC.
    pub(crate) at: u64,
    /// Counts published configurations.
    pub(crate) generation: u64,
    /// Absent without a daemon.
    pub(crate) daemon: Option<DaemonStatus>,
    /// What of the configuration does not go with this host, as far as a daemon has looked.
    pub(crate) host: Vec<Finding>,
    /// What became of the generation in force; absent where nothing is known.
    #[serde(default)]
    pub(crate) history: Option<HistoryStatus>,
    pub(crate) interfaces: Vec<InterfaceStatus>,
    pub(crate) services: Vec<ServiceStatus>,
    pub(crate) pools: Vec<PoolStatus>,
    /// Retired backends: removed from the configuration, and named by slots or flow records.
    pub(crate) retired: Vec<RetiredStatus>,
    /// Absent where nothing is translated, or nobody has looked yet.
    #[serde(default)]
    pub(crate) nat: Option<NatStatus>,
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
    /// Why probes go to backends' addresses and not through services; absent where they can do both.
    #[serde(default)]
    pub(crate) probes: Option<String>,
    /// Why its program is not loaded: an older one goes on. It is tried again.
    pub(crate) program: Option<String>,
    /// Whether its program is not attached yet, and an older one goes on.
    #[serde(default)]
    pub(crate) loading: bool,
    /// Why what operators have said would not survive a reboot: the disk.
    #[serde(default)]
    pub(crate) unkept: Option<String>,
    /// How often the maps were not as this daemon knows them, and were repaired.
    pub(crate) repaired: u64,
    /// Set while this host may be to blame for what its probes do not hear: health is as it was before.
    pub(crate) frozen: Option<FrozenStatus>,
    /// Where the status page is served; absent where it is not to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<HttpStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HttpStatus {
    pub(crate) listen: String,
    /// Why it is not.
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
    /// Absent where that could not be looked up.
    pub(crate) attached: Option<bool>,
    /// Why it is not attached, or not known to be; absent without a daemon that has tried.
    pub(crate) why: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServiceStatus {
    pub(crate) name: String,
    pub(crate) vips: Vec<String>,
    /// As the file writes them.
    pub(crate) ports: Vec<String>,
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
    /// What is under way after a change; absent when the service is stable.
    pub(crate) transition: Option<TransitionStatus>,
    /// Set while new flows of it are not recorded where they are sent; never without a daemon.
    #[serde(default)]
    pub(crate) unrecorded: Option<UnrecordedStatus>,
    /// What was done with flow records since the service was first configured, by the names of `FlowCount`.
    pub(crate) flows: BTreeMap<String, u64>,
    /// Where backends have two addresses: `SERVICE@ipv4` and `SERVICE@ipv6`, of which the service has what is worse.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<Self>,
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
    /// Its first pool serves, and nobody knows whether any of it is up: its probes have found nothing.
    Unknown,
    /// Too little of the pool is up, and there is no other: all of it serves, up or not.
    Panic,
    /// No pool has as many backends as it needs: what is left serves, else `when_exhausted` decides.
    Exhausted,
    /// Nothing can be sent to any backend of the pool that serves, and there is no other; never without a daemon.
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
    /// Whether all of it serves, up or not, since too little of it is up.
    pub(crate) panic: bool,
    /// The part of its new flows that is withheld from it, 0 to 1: it was left, and has not been up again for long enough, or
    /// flows are returning to it.
    pub(crate) withheld: f64,
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
    /// The file's, where an operator has given it another one, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file_weight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weight_reason: Option<String>,
    /// Its health by an operator's word, in place of what probes find.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) forced: Option<HealthStatus>,
    pub(crate) state: BackendState,
    /// The result of probes, or what is forced; `unknown` without either, and for a disabled backend.
    pub(crate) health: HealthStatus,
    /// When the state last changed: milliseconds since 1970, UTC; absent where it is not known.
    pub(crate) since: Option<u64>,
    /// Seconds in this state, by a clock that is never set.
    pub(crate) for_seconds: Option<u64>,
    pub(crate) reason: String,
    /// MAC address that its frames go to; absent where the packet path looks it up for each packet.
    pub(crate) next_hop: Option<String>,
    /// MTU of the path to it, bytes of IP packet, where a router has said that it is less than the egress's.
    pub(crate) path_mtu: Option<u16>,
    /// MTU that the path needs for IPv6 in the tunnel, bytes of IP packet; absent where the path and the egress have it, and
    /// where no IPv6 service reaches the backend by a tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) needed_mtu: Option<u16>,
    /// The certificate that its probes were shown last; absent where none was.
    #[serde(default)]
    pub(crate) certificate: Option<CertificateStatus>,
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

/// The health that an operator has forced.
fn forced_status(state: State) -> Option<HealthStatus> {
    plan::forced(state).map(|health| match health {
        Health::Up => HealthStatus::Up,
        Health::Down => HealthStatus::Down,
        Health::Unknown => HealthStatus::Unknown,
    })
}

/// What a backend is shown as.
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

/// Until when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CertificateStatus {
    /// Milliseconds since 1970, UTC.
    pub(crate) until: u64,
    /// Whole days left; negative once it has expired.
    pub(crate) days: i64,
    pub(crate) state: CertificateState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CertificateState {
    Valid,
    /// For fewer days than the probe's `warn_days`.
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

/// Counters at one moment, to compute rates from.
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
        Self { unix_ms: unix_ms(), boot_ms: boot_ms() }
    }

    /// Milliseconds since a moment of the second clock; `None` for one that was not written down.
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
