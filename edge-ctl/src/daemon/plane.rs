//! What the controller asks of the packet path's maps, so that its decisions can be tested without a kernel.

use std::time::Duration;

use edge_common::abi::{BackendNumber, Exit, Failover, FlowCounts, State, Traffic};

use crate::kernel::{self, Held, Kernel, KernelError, Progress, Transition, Waits};

/// Since when a backend is in its state, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Why {
    /// Milliseconds of `CLOCK_BOOTTIME`; 0: not known.
    pub(crate) changed_ms: u64,
    pub(crate) reason: String,
}

/// The packet path's maps.
pub(crate) trait Plane {
    fn state(&self, backend: BackendNumber) -> State;
    /// Stores the state, then what is counted from it, then the note.
    fn set_state(&mut self, backend: BackendNumber, state: State, reason: &str) -> Result<(), KernelError>;
    fn failover(&self, service: u32) -> Failover;
    fn set_failover(&mut self, service: u32, failover: Failover) -> Result<(), KernelError>;
    /// Begins a round over the services that are not settled, unless one is under way; these are the waits of all.
    fn begin_round(&mut self, waits: &[(u32, Waits)]) -> Result<(), KernelError>;
    /// Does a few milliseconds' work of the round; `now` is `CLOCK_MONOTONIC`.
    fn go_on(&mut self, now: Duration) -> Result<Progress, KernelError>;
    /// What is under way in a service that is not settled.
    fn transition(&self, service: u32) -> Option<Transition>;
    /// What still names a backend, where somebody has looked.
    fn held(&self, backend: BackendNumber) -> Option<Held>;
    fn flow_counts(&self, service: u32) -> FlowCounts;
    fn why(&self, backend: BackendNumber) -> Why;
    /// The MAC address of a backend's next hop, where the controller knows it.
    fn next_hop(&self, backend: BackendNumber) -> Option<[u8; 6]>;
    fn service_traffic(&self, service: u32) -> Traffic;
    fn backend_traffic(&self, backend: BackendNumber) -> Traffic;
    fn exits(&self) -> Vec<(Exit, u64)>;
    /// Interfaces that the program is attached to.
    fn attached(&self) -> Vec<String>;
}

impl Plane for Kernel {
    fn state(&self, backend: BackendNumber) -> State {
        self.state(backend)
    }

    fn set_state(&mut self, backend: BackendNumber, state: State, reason: &str) -> Result<(), KernelError> {
        self.set_state(backend, state, reason)
    }

    fn failover(&self, service: u32) -> Failover {
        self.failover(service)
    }

    fn set_failover(&mut self, service: u32, failover: Failover) -> Result<(), KernelError> {
        self.set_failover(service, failover)
    }

    fn begin_round(&mut self, waits: &[(u32, Waits)]) -> Result<(), KernelError> {
        self.begin_round(waits)
    }

    fn go_on(&mut self, now: Duration) -> Result<Progress, KernelError> {
        self.go_on(now)
    }

    fn transition(&self, service: u32) -> Option<Transition> {
        self.transition(service)
    }

    fn held(&self, backend: BackendNumber) -> Option<Held> {
        self.held(backend)
    }

    fn flow_counts(&self, service: u32) -> FlowCounts {
        self.flow_counts(service)
    }

    fn why(&self, backend: BackendNumber) -> Why {
        let note = self.note(backend);
        Why { changed_ms: note.changed_ms, reason: kernel::text_of(&note).into_owned() }
    }

    fn next_hop(&self, backend: BackendNumber) -> Option<[u8; 6]> {
        self.next_hop(backend)
    }

    fn service_traffic(&self, service: u32) -> Traffic {
        self.service_traffic(service)
    }

    fn backend_traffic(&self, backend: BackendNumber) -> Traffic {
        self.backend_traffic(backend)
    }

    fn exits(&self) -> Vec<(Exit, u64)> {
        self.exits()
    }

    fn attached(&self) -> Vec<String> {
        self.attached()
    }
}
