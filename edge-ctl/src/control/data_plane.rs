//! The packet path's maps as decisions use them: a trait, so that decisions can be tested without a kernel.

use std::time::Duration;

use edge_common::abi::{BackendNumber, Dimension, Exit, Failover, FlowCounts, State, Traffic};

use crate::{
    bpf::{self, BpfError, Held, NatIdle, NatUse, PinnedMaps, Progress, Transition, Waits},
    health::Signs,
    xdp,
};

/// Time and reason of the last change of a backend's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Why {
    /// Milliseconds of `CLOCK_BOOTTIME`; 0 if unknown.
    pub(crate) changed_ms: u64,
    pub(crate) reason: String,
}

/// The packet path's maps.
pub(crate) trait DataPlane {
    fn state(&self, backend: BackendNumber) -> State;
    /// Changes the state, then the counts that depend on it, then the note. Returns the previous state; `change` is
    /// called again if another writer changed the state meanwhile.
    fn change_state(
        &mut self,
        backend: BackendNumber,
        change: impl Fn(State) -> State,
        reason: &str,
    ) -> Result<State, BpfError>;
    /// Changes the state to `state`, whatever it was before.
    fn set_state(&mut self, backend: BackendNumber, state: State, reason: &str) -> Result<(), BpfError> {
        self.change_state(backend, |_| state, reason).map(drop)
    }
    fn failover(&self, service: u32) -> Failover;
    fn set_failover(&mut self, service: u32, failover: Failover) -> Result<(), BpfError>;
    /// Number of places, in the order in which slots return, that are withheld from the pool with this number.
    fn withheld(&self, pool: u16) -> u32;
    fn set_withheld(&mut self, pool: u16, withheld: u32, reason: &str);
    /// Changes the number of places withheld from a backend, and nothing else in its state.
    fn set_share(&mut self, backend: BackendNumber, withheld: u8) -> Result<(), BpfError>;
    /// Begins a reconcile pass over the services in transition, unless one is under way. `waits` has the waits of all
    /// services.
    fn begin_pass(&mut self, waits: &[(u32, Waits)]) -> Result<(), BpfError>;
    /// Does a few milliseconds' work of the pass; `now` is `CLOCK_MONOTONIC`.
    fn go_on(&mut self, now: Duration) -> Result<Progress, BpfError>;
    /// Progress of a service in transition; `None` if the service is stable.
    fn transition(&self, service: u32) -> Option<Transition>;
    /// Number of slots and records that name a backend; `None` before the first look.
    fn held(&self, backend: BackendNumber) -> Option<Held>;
    /// Frees the entries of translated flows that are over or, by the `idle` timeouts of their services, idle, in a part of
    /// the table per call; `now` is `CLOCK_MONOTONIC`.
    fn sweep_nat(&mut self, _idle: &NatIdle, _now: Duration) -> Result<(), BpfError> {
        Ok(())
    }
    fn flow_counts(&self, service: u32) -> FlowCounts;
    /// Use of the table of translated flows; `None` before the first complete sweep, or if nothing is translated.
    fn nat_use(&self) -> Option<NatUse> {
        None
    }
    /// Flow records that the flow table has room for; `None` if that is not known.
    fn flow_room(&self) -> Option<u32> {
        None
    }
    fn why(&self, backend: BackendNumber) -> Why;
    /// The number of SYNs to a backend that were sent again, and the bits of the clients that did so since the last call.
    fn take_repeated(&self, _backend: BackendNumber) -> Option<(u32, u64)> {
        None
    }
    /// What the packets of a backend's clients show of it; `now` is `CLOCK_MONOTONIC`.
    fn signs(&self, _backend: BackendNumber, _now: Duration) -> Option<Signs> {
        None
    }
    /// The MAC address of a backend's next hop, if the controller has it.
    fn next_hop(&self, backend: BackendNumber) -> Option<[u8; 6]>;
    /// MTU of the interface by which a backend is reached, if the controller has it, in bytes of IP packet.
    fn egress_mtu(&self, backend: BackendNumber) -> Option<u16>;
    /// MTU of a backend's path, if packets have learnt one, in bytes of IP packet.
    fn path_mtu(&self, backend: BackendNumber) -> Option<u16>;
    fn service_traffic(&self, service: u32) -> Traffic;
    fn backend_traffic(&self, backend: BackendNumber) -> Traffic;
    fn exits(&self) -> Vec<(Exit, u64)>;
    /// Repairs the counts that depend on states. Returns the pools whose counts were wrong.
    fn repair_counts(&mut self) -> Result<Vec<String>, BpfError>;
    /// Interfaces that the program is attached to.
    fn attached(&self) -> Result<Vec<String>, BpfError>;
}

impl DataPlane for PinnedMaps {
    fn sweep_nat(&mut self, idle: &NatIdle, now: Duration) -> Result<(), BpfError> {
        self.sweep_nat(idle, now)
    }

    fn nat_use(&self) -> Option<NatUse> {
        self.nat_use().cloned()
    }

    fn flow_room(&self) -> Option<u32> {
        Some(self.capacity().of_dimension(Dimension::Flows))
    }

    fn state(&self, backend: BackendNumber) -> State {
        self.state(backend)
    }

    fn change_state(
        &mut self,
        backend: BackendNumber,
        change: impl Fn(State) -> State,
        reason: &str,
    ) -> Result<State, BpfError> {
        self.change_state(backend, change, reason)
    }

    fn failover(&self, service: u32) -> Failover {
        self.failover(service)
    }

    fn set_failover(&mut self, service: u32, failover: Failover) -> Result<(), BpfError> {
        self.set_failover(service, failover)
    }

    fn withheld(&self, pool: u16) -> u32 {
        self.withheld(pool)
    }

    fn set_withheld(&mut self, pool: u16, withheld: u32, reason: &str) {
        self.set_withheld(pool, withheld, reason);
    }

    fn set_share(&mut self, backend: BackendNumber, withheld: u8) -> Result<(), BpfError> {
        self.set_share(backend, withheld)
    }

    fn begin_pass(&mut self, waits: &[(u32, Waits)]) -> Result<(), BpfError> {
        self.begin_pass(waits)
    }

    fn go_on(&mut self, now: Duration) -> Result<Progress, BpfError> {
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

    fn signs(&self, backend: BackendNumber, now: Duration) -> Option<Signs> {
        self.signs(backend, now)
    }

    fn take_repeated(&self, backend: BackendNumber) -> Option<(u32, u64)> {
        self.take_repeated(backend)
    }

    fn why(&self, backend: BackendNumber) -> Why {
        let note = self.note(backend);
        Why { changed_ms: note.changed_ms, reason: bpf::text_of(&note).into_owned() }
    }

    fn next_hop(&self, backend: BackendNumber) -> Option<[u8; 6]> {
        self.next_hop(backend)
    }

    fn egress_mtu(&self, backend: BackendNumber) -> Option<u16> {
        self.egress_mtu(backend)
    }

    fn path_mtu(&self, backend: BackendNumber) -> Option<u16> {
        self.path_mtu(backend)
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

    fn repair_counts(&mut self) -> Result<Vec<String>, BpfError> {
        self.repair_counts()
    }

    fn attached(&self) -> Result<Vec<String>, BpfError> {
        xdp::attached_here(self.pins())
    }
}
