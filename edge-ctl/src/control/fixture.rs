//! Fixtures for tests: two providers with three backends each, a TCP and a UDP service, and maps in plain memory.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use edge_common::abi::{BackendNumber, Exit, Failover, FlowCounts, State, Traffic};

use super::{
    data_plane::{DataPlane, Why},
    inventory::Inventory,
};
use crate::{
    bpf::{BpfError, Held, PinnedMaps, Progress, Transition, Waits, monotonic_time},
    config,
};

const TEXT: &str = r#"
hash_key = "000102030405060708090a0b0c0d0e0f"
slots = 1024

[[interface]]
name = "eth0"

[[pool]]
name = "provider-a"
backend = [
    { name = "a1", address = "10.1.0.11" },
    { name = "a2", address = "10.1.0.12" },
    { name = "shared", address = "10.1.0.13", weight = 50 },
]
min_healthy = 2
failback_after = "0s"
failback_over = "0s"
slow_start = "0s"
probe = { type = "http", port = 80, path = "/healthz", interval = "1s", timeout = "500ms", rise = 2, fall = 3 }

[[pool]]
name = "provider-b"
failback_after = "0s"
failback_over = "0s"
slow_start = "0s"
backend = [
    { name = "b1", address = "10.2.0.11" },
    { name = "b2", address = "10.2.0.12" },
    { name = "shared", address = "10.2.0.13" },
]
probe = { type = "tcp", port = 80, rise = 2, fall = 3 }

[[service]]
name = "web"
vips = ["192.0.2.10"]
ports = ["80/tcp"]
mode = "dsr"
pools = ["provider-a", "provider-b"]

[[service]]
name = "dns"
vips = ["192.0.2.10"]
ports = ["53/udp"]
mode = "dsr"
pools = ["provider-b"]
when_exhausted = "reject"
"#;

/// An inventory with services 1 and 2, and backends 1 to 6.
pub(crate) fn inventory() -> Inventory {
    let config = config::parse(TEXT, "edge.toml").expect("the fixture is a good configuration");
    Inventory {
        generation: 7,
        config,
        services: vec![1, 2],
        pools: vec![0, 1],
        backends: vec![vec![1, 2, 3], vec![4, 5, 6]],
        retired: Vec::new(),
    }
}

const TWO_ADDRESSES: &str = r#"
hash_key = "000102030405060708090a0b0c0d0e0f"
slots = 1024
interface = [{ name = "eth0" }]
[defaults.pool]
failback_after = "0s"
failback_over = "0s"
slow_start = "0s"
[[pool]]
name = "a"
backend = [{ name = "a1", address = ["10.1.0.11", "2001:db8:a::11"] }]
[[pool]]
name = "b"
backend = [{ name = "b1", address = ["10.2.0.11", "2001:db8:b::11"] }]
[[service]]
name = "web"
vips = ["192.0.2.10", "2001:db8::10"]
ports = ["80/tcp"]
mode = "dsr"
pools = ["a", "b"]
"#;

/// An inventory with services 1 and 2. Backends 1 and 2 are the addresses of a1, and 3 and 4 those of b1.
pub(crate) fn two_addresses() -> Inventory {
    Inventory {
        generation: 1,
        config: config::parse(TWO_ADDRESSES, "edge.toml").expect("it is good"),
        services: vec![1, 2],
        pools: vec![0, 1, 2, 3],
        backends: vec![vec![1], vec![2], vec![3], vec![4]],
        retired: Vec::new(),
    }
}

/// Maps in plain memory.
#[derive(Debug, Default)]
pub(crate) struct FakeDataPlane {
    pub(crate) states: BTreeMap<BackendNumber, State>,
    /// Number of reads of a state.
    pub(crate) reads: Cell<u64>,
    pub(crate) failovers: BTreeMap<u32, Failover>,
    /// Withheld places by the number of the pool.
    pub(crate) withheld: BTreeMap<u16, u32>,
    pub(crate) whys: BTreeMap<BackendNumber, Why>,
    /// Transitions by the number of the service.
    pub(crate) transitions: BTreeMap<u32, Transition>,
    pub(crate) held: BTreeMap<BackendNumber, Held>,
    /// The waits of each pass that was begun, and the results of their steps.
    pub(crate) passes: Vec<Vec<(u32, Waits)>>,
    pub(crate) steps: VecDeque<Progress>,
    /// Whether steps of passes fail.
    pub(crate) fails: bool,
    /// Pools whose counts are wrong.
    pub(crate) miscounted: Vec<String>,
    /// MTU of the interface by which each backend is reached.
    pub(crate) egress_mtu: Option<u16>,
    /// Learnt path MTUs.
    pub(crate) path_mtus: BTreeMap<BackendNumber, u16>,
    pub(crate) packets: u64,
    pub(crate) clock: Duration,
}

impl FakeDataPlane {
    /// Maps as after a first publication: all backends are unknown.
    pub(crate) fn fresh(inventory: &Inventory) -> Self {
        let unknown = State(State::NEW | State::ALIVE | State::ENABLED);
        let states = inventory.members().map(|member| (member.number, unknown)).collect();
        Self { states, path_mtus: [(2, 1400)].into(), clock: Duration::from_secs(1000), ..Self::default() }
    }
}

impl DataPlane for FakeDataPlane {
    fn state(&self, backend: BackendNumber) -> State {
        self.reads.set(self.reads.get() + 1);
        self.states.get(&backend).copied().unwrap_or_default()
    }

    fn change_state(
        &mut self,
        backend: BackendNumber,
        change: impl Fn(State) -> State,
        reason: &str,
    ) -> Result<State, BpfError> {
        let before = self.state(backend);
        self.states.insert(backend, change(before));
        let changed_ms = u64::try_from(self.clock.as_millis()).expect("small");
        self.whys.insert(backend, Why { changed_ms, reason: reason.to_owned() });
        Ok(before)
    }

    fn failover(&self, service: u32) -> Failover {
        self.failovers.get(&service).copied().unwrap_or_default()
    }

    fn set_failover(&mut self, service: u32, failover: Failover) -> Result<(), BpfError> {
        self.failovers.insert(service, failover);
        Ok(())
    }

    fn withheld(&self, pool: u16) -> u32 {
        self.withheld.get(&pool).copied().unwrap_or_default()
    }

    fn set_withheld(&mut self, pool: u16, withheld: u32, _reason: &str) {
        self.withheld.insert(pool, withheld);
    }

    fn set_share(&mut self, backend: BackendNumber, withheld: u8) -> Result<(), BpfError> {
        let state = self.states.entry(backend).or_default();
        state.0 = state.0 & 0xff_ffff | u32::from(withheld) << State::WITHHELD_SHIFT;
        Ok(())
    }

    fn begin_pass(&mut self, waits: &[(u32, Waits)]) -> Result<(), BpfError> {
        self.passes.push(waits.to_vec());
        Ok(())
    }

    fn go_on(&mut self, _now: Duration) -> Result<Progress, BpfError> {
        if self.fails { Err(BpfError::Unpublished) } else { Ok(self.steps.pop_front().unwrap_or_default()) }
    }

    fn transition(&self, service: u32) -> Option<Transition> {
        self.transitions.get(&service).cloned()
    }

    fn held(&self, backend: BackendNumber) -> Option<Held> {
        self.held.get(&backend).copied()
    }

    fn flow_counts(&self, service: u32) -> FlowCounts {
        FlowCounts(std::array::from_fn(|n| self.packets * u64::from(service) / (n as u64 + 1)))
    }

    fn why(&self, backend: BackendNumber) -> Why {
        self.whys.get(&backend).cloned().unwrap_or_default()
    }

    fn next_hop(&self, backend: BackendNumber) -> Option<[u8; 6]> {
        (backend != 3).then_some([2, 0, 0, 0, 0, backend.to_be_bytes()[1]])
    }

    fn egress_mtu(&self, _backend: BackendNumber) -> Option<u16> {
        self.egress_mtu
    }

    fn path_mtu(&self, backend: BackendNumber) -> Option<u16> {
        self.path_mtus.get(&backend).copied()
    }

    fn service_traffic(&self, service: u32) -> Traffic {
        let packets = self.packets * u64::from(service);
        Traffic { packets, bytes: packets * 1000, flows: packets / 10 }
    }

    fn backend_traffic(&self, backend: BackendNumber) -> Traffic {
        let packets = self.packets / u64::from(backend);
        Traffic { packets, bytes: packets * 1000, flows: packets / 10 }
    }

    fn exits(&self) -> Vec<(Exit, u64)> {
        Exit::ALL.iter().map(|exit| (*exit, if *exit == Exit::DsrTx { self.packets } else { 0 })).collect()
    }

    fn repair_counts(&mut self) -> Result<Vec<String>, BpfError> {
        Ok(std::mem::take(&mut self.miscounted))
    }

    fn attached(&self) -> Result<Vec<String>, BpfError> {
        Ok(vec!["eth0".to_owned()])
    }
}

/// Makes services stable where possible, so that the next change begins a new transition.
pub(crate) fn finish_transitions(maps: &mut PinnedMaps, inventory: &Inventory) {
    let go_on = |maps: &mut PinnedMaps| maps.go_on(monotonic_time()).expect("the maps can be read and written");
    for _ in 0..2 {
        maps.begin_pass(&inventory.waits()).expect("the maps can be read");
        while matches!(go_on(maps), Progress::GoOn | Progress::Wait) {}
    }
}
