//! What the controller asks of the packet path's maps, so that its decisions can be tested without a kernel.

use edge_common::{
    abi::{BackendNumber, Failover, State, Traffic},
    exit::Exit,
};

use crate::kernel::{Kernel, KernelError};

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
    /// Makes all owners of these services what they would be if all their flows started now.
    fn follow_owners(&mut self, services: &[u32]) -> Result<(), KernelError>;
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

    fn follow_owners(&mut self, services: &[u32]) -> Result<(), KernelError> {
        self.follow_owners(services)
    }

    fn why(&self, backend: BackendNumber) -> Why {
        let note = self.note(backend);
        let end = note.reason.iter().position(|byte| *byte == 0).unwrap_or(note.reason.len());
        let reason = String::from_utf8_lossy(&note.reason[..end]).into_owned();
        Why { changed_ms: note.changed_ms, reason }
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
