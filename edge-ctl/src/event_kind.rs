//! The kinds of events: their names, and whether an operator should look at them.

use serde::{Deserialize, Serialize};

/// Declares the kinds once, each with its name in JSON: those that need attention, and the others.
macro_rules! kinds {
    (
        attention { $($(#[$about:meta])* $kind:ident = $name:literal,)+ }
        others { $($(#[$about_other:meta])* $other:ident = $other_name:literal,)+ }
    ) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub(crate) enum EventKind {
            $($(#[$about])* $kind,)+
            $($(#[$about_other])* $other,)+
        }

        impl EventKind {
            pub(crate) const ALL: &[Self] = &[$(Self::$kind,)+ $(Self::$other,)+];

            /// The event's name in JSON.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                    $(Self::$other => $other_name,)+
                }
            }

            /// Whether an operator should look at it.
            pub(crate) const fn needs_attention(self) -> bool {
                match self {
                    $(Self::$kind => true,)+
                    $(Self::$other => false,)+
                }
            }
        }
    };
}

kinds! {
    attention {
        ConfigRefused = "config_refused",
        /// The generation on trial was reverted.
        ConfigUndone = "config_undone",
        BackendDown = "backend_down",
        BackendUnknown = "backend_unknown",
        /// A backend does not answer its clients, and its probes pass.
        BackendSuspect = "backend_suspect",
        PoolLeft = "pool_left",
        /// New flows of a service cannot be recorded.
        FlowsUnrecorded = "flows_unrecorded",
        /// Three quarters of the ports by which a backend is reached are in use.
        PortsScarce = "ports_scarce",
        NextHopLost = "next_hop_lost",
        /// The path to a backend is too narrow for IPv6 in a tunnel.
        PathNarrow = "path_narrow",
        /// A backend's certificate expires within the warning time, or has expired.
        CertificateExpires = "certificate_expires",
        /// No packet can be sent to a backend, and there is no other backend in its place.
        Unreachable = "unreachable",
        /// This host may be the cause of unanswered probes: the health of backends stays as it was.
        Frozen = "frozen",
        /// So few backends of a pool are up that all of them serve, since there is no other pool.
        Panic = "panic",
        LocalFault = "local_fault",
        /// A part of the configuration does not fit this host.
        HostUnfit = "host_unfit",
        /// The maps differed from the daemon's state and were repaired.
        Repaired = "repaired",
    }
    others {
        DaemonStarted = "daemon_started",
        DaemonStopped = "daemon_stopped",
        Adopted = "adopted",
        /// A backend that did not answer its clients does again.
        BackendTrusted = "backend_trusted",
        ConfigApplied = "config_applied",
        /// An operator confirmed the generation on trial.
        ConfigConfirmed = "config_confirmed",
        /// No service lost availability during the soak.
        ConfigGood = "config_good",
        Attached = "attached",
        Detached = "detached",
        BackendUp = "backend_up",
        BackendDrained = "backend_drained",
        BackendEnabled = "backend_enabled",
        BackendDisabled = "backend_disabled",
        /// An operator set a backend's health to up or down.
        HealthForced = "health_forced",
        /// A backend's probes decide its health again.
        HealthAuto = "health_auto",
        /// An operator changed the weights of backends, or reset them to the file's.
        WeightChanged = "weight_changed",
        Failover = "failover",
        Failback = "failback",
        /// Services left a pool at an operator's request.
        PoolEvacuated = "pool_evacuated",
        /// An evacuation ended; services have returned to the pool, or may return.
        EvacuationOver = "evacuation_over",
        PoolReturned = "pool_returned",
        /// Enough of a pool has been up for long enough: new flows begin to return to it.
        PoolReturning = "pool_returning",
        /// A service is in transition: some slots have an owner that is not their pick.
        TransitionStarted = "transition_started",
        /// A service is stable: each slot's owner is its pick, and no flow is recorded.
        TransitionFinished = "transition_finished",
        /// New flows of a service can be recorded again, or need not be.
        FlowsRecorded = "flows_recorded",
        /// Fewer than three quarters of those ports are in use again.
        PortsPlenty = "ports_plenty",
        NextHopFound = "next_hop_found",
        /// The path has not been too narrow for twice the time for which a learnt path MTU is used.
        PathWide = "path_wide",
        /// A backend's certificate is valid for longer than the warning time again.
        CertificateValid = "certificate_valid",
        /// Enough backends answer again: probes count.
        Thawed = "thawed",
        /// Enough of the pool is up again.
        PanicOver = "panic_over",
        /// That part of the configuration fits again.
        HostFits = "host_fits",
        /// Number of events that a slow subscriber has lost; sent to that subscriber only.
        Lagged = "lagged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_names_are_the_names() {
        for kind in EventKind::ALL {
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{}\"", kind.name()));
        }
    }
}
