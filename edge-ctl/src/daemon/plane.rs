//! What the controller asks of the packet path's maps, so that its decisions can be tested without a kernel.

use edge_common::{
    abi::{BackendNumber, Failover, State, Traffic},
    exit::Exit,
};

use crate::kernel::KernelError;

/// Since when a backend is in its state, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Why {
    /// Milliseconds of `CLOCK_BOOTTIME`; 0: not known.
    pub(crate) changed_ms: u64,
    pub(crate) reason: String,
}

/// The packet path's maps.
pub(crate) trait Plane {
    fn generation(&self) -> u64;
    fn state(&self, backend: BackendNumber) -> State;
    /// Stores the state, then what is counted from it, then the note.
    fn set_state(&mut self, backend: BackendNumber, state: State, reason: &str) -> Result<(), KernelError>;
    fn failover(&self, service: u32) -> Failover;
    fn set_failover(&mut self, service: u32, failover: Failover) -> Result<(), KernelError>;
    /// Makes all owners of a service what they would be if all its flows started now.
    fn follow_owners(&mut self, service: u32) -> Result<(), KernelError>;
    fn why(&self, backend: BackendNumber) -> Result<Why, KernelError>;
    /// The MAC address of a backend's next hop, where the controller knows it.
    fn next_hop(&self, backend: BackendNumber) -> Option<[u8; 6]>;
    fn service_traffic(&self, service: u32) -> Result<Traffic, KernelError>;
    fn backend_traffic(&self, backend: BackendNumber) -> Result<Traffic, KernelError>;
    fn exits(&self) -> Result<Vec<(Exit, u64)>, KernelError>;
    /// Interfaces that the program is attached to.
    fn attached(&self) -> Result<Vec<String>, KernelError>;
}
