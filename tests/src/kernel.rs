//! Loads the real programs into the kernel, fills their maps from a [`Memory`], and runs them on one frame at a time by
//! `BPF_PROG_TEST_RUN`.

mod flows;
mod nat;
mod seen;
mod traced;

use std::{borrow::BorrowMut, cell::RefCell, time::Duration};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues, ProgramArray},
    programs::{ProgramError, TestRun as _, TestRunAttrs, TestRunOptions, Xdp},
    util::nr_cpus,
};
use bytemuck::Pod;
use edge_common::{
    abi::{
        Backend, Cell, Evidence, FlowCount, FlowKeyV4, FlowKeyV6, FragmentRecord, Pool, Published, RateLimiter,
        Service, ServiceEntryV4, ServiceEntryV6, SlotCell, map, program,
    },
    host::Memory,
};

use self::{flows::FlowsInKernel, nat::NatInKernel, seen::bytes};
pub use self::{flows::MappedFlows, traced::Tracer};
use crate::{decap, feature::Feature};

/// Verdicts of an XDP program (`enum xdp_action`).
pub const ABORTED: u32 = 0;
pub const DROP: u32 = 1;
pub const PASS: u32 = 2;
pub const TX: u32 = 3;
pub const REDIRECT: u32 = 4;

/// The longest frame that fits into a page beside the kernel's own room before and behind it, bytes.
pub const LONGEST: usize = 3500;
/// The shortest frame that a test run takes, bytes.
pub const SHORTEST: usize = 14;
/// Entries of each family's fragment map: so many that no entry is evicted, as the host's memory never evicts.
pub const FRAGMENTS: u32 = 1 << 16;
/// Metadata that every kernel allows before a frame, bytes.
pub const SHORT_METADATA: usize = 32;
/// Room before a frame that a program can use, bytes: `XDP_PACKET_HEADROOM` less `struct xdp_frame`.
pub const HEADROOM: usize = 256 - 40;

/// How a frame comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Interface index; one other than that of `lo` must have an XDP program attached.
    pub ingress: u32,
    /// Bytes of metadata before the frame, a multiple of four: they take the room that a header could be put into.
    pub metadata: usize,
}

impl Arrival {
    pub const fn by(ingress: u32) -> Self {
        Self { ingress, metadata: 0 }
    }

    /// Kernel features needed to let a frame come in this way.
    pub const fn needs(self) -> &'static [Feature] {
        if self.metadata > SHORT_METADATA {
            &[Feature::TestContext, Feature::LongMetadata]
        } else if self.ingress != 1 || self.metadata != 0 {
            &[Feature::TestContext]
        } else {
            &[]
        }
    }
}

/// The result of a program's run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub verdict: u32,
    pub frame: Vec<u8>,
}

/// The loaded object and its maps.
pub struct Kernel {
    object: Ebpf,
    exits: PerCpuArray<MapData, u64>,
    decap_exits: PerCpuArray<MapData, u64>,
    service_stats: PerCpuArray<MapData, [u64; 3]>,
    backend_stats: PerCpuArray<MapData, [u64; 3]>,
    /// Also written while packets run: a path MTU that a packet teaches is undone (see [`Self::restore`]).
    backends: RefCell<Array<MapData, [u8; size_of::<Backend>()]>>,
    slots: Array<MapData, [u8; size_of::<SlotCell>()]>,
    flow_stats: PerCpuArray<MapData, [u64; FlowCount::COUNT]>,
    flows: FlowsInKernel,
    nat: NatInKernel,
    /// The kernel empties this map when its last descriptor is closed.
    calls: ProgramArray<MapData>,
    /// Of the object for traces.
    tracer: Option<Tracer>,
}

/// The load balancer's program array `CALLS`, filled with the program that translates.
///
/// # Panics
/// If the object has no such map or program, or the program is not loaded.
pub fn calls(object: &mut Ebpf) -> ProgramArray<MapData> {
    let mut calls =
        ProgramArray::try_from(object.take_map(program::CALLS).expect("CALLS")).expect("an array of programs");
    let nat: &mut Xdp = object.program_mut(program::NAT).expect("a program").try_into().expect("an XDP program");
    calls.set(program::NAT_AT, nat.fd().expect("it is loaded"), 0).expect("room for it");
    calls
}

/// `target/bpf/edge` of this checkout.
///
/// # Panics
/// If the file does not exist.
pub fn object() -> Vec<u8> {
    let path = crate::workspace().join("target/bpf/edge");
    let built = std::fs::read(&path);
    built.unwrap_or_else(|error| panic!("{}: {error}: run `cargo xtask build`", path.display()))
}

impl Kernel {
    /// Loads the [`object`] with maps of these sizes.
    ///
    /// # Panics
    /// If the object does not exist, the verifier rejects it, or the test does not run as root.
    pub fn load(sizes: &Sizes) -> Self {
        if std::env::var_os("EDGE_TEST_TRACED").is_some() {
            return Self::load_traced(sizes);
        }
        Self::load_with(&mut EbpfLoader::new(), &object(), &[], sizes, |_| None)
    }

    /// Loads an object, the programs that each has and `programs`.
    fn load_with(
        loader: &mut EbpfLoader<'_>,
        bytes: &[u8],
        programs: &[&str],
        sizes: &Sizes,
        tracer: impl FnOnce(&mut Ebpf) -> Option<Tracer>,
    ) -> Self {
        for (name, entries) in *sizes {
            loader.map_max_entries(name, entries);
        }
        let mut object = loader.load(bytes).expect("the object loads");
        for name in [program::NAT, program::EDGE, program::DECAP].iter().chain(programs) {
            let xdp: &mut Xdp = object.program_mut(name).expect(name).try_into().expect("an XDP program");
            xdp.load().unwrap_or_else(|error| panic!("the kernel refuses `{name}`: {error:#}"));
        }
        let calls = calls(&mut object);
        let tracer = tracer(&mut object);
        let entries = |name| sizes.iter().find(|(known, _)| *known == name).map_or(1, |(_, entries)| *entries);
        Self {
            exits: per_cpu(&mut object, map::EXITS),
            decap_exits: per_cpu(&mut object, map::DECAP_EXITS),
            service_stats: per_cpu(&mut object, map::SERVICE_STATS),
            backend_stats: per_cpu(&mut object, map::BACKEND_STATS),
            backends: RefCell::new(
                Array::try_from(object.take_map(map::BACKENDS).expect("BACKENDS")).expect("an array"),
            ),
            slots: Array::try_from(object.take_map(map::SLOTS).expect("SLOTS")).expect("an array"),
            flow_stats: per_cpu(&mut object, map::FLOW_STATS),
            flows: FlowsInKernel::new(&object, entries(map::FLOWS)),
            nat: NatInKernel::new(&object, entries(map::NAT_FLOWS)),
            calls,
            tracer,
            object,
        }
    }

    /// Removes the program that translates from the load balancer's program array.
    pub fn forget_calls(&mut self) {
        self.calls.clear_index(&program::NAT_AT).expect("it is there");
    }

    /// Resets all counters, rate limiters and fragments, and copies the content of `memory`, whose size is that of the
    /// loaded maps.
    pub fn reset(&mut self, memory: &Memory) {
        zero(&mut self.exits, 0);
        zero(&mut self.decap_exits, 0);
        zero(&mut self.service_stats, [0; 3]);
        zero(&mut self.backend_stats, [0; 3]);
        zero(&mut self.flow_stats, [0; FlowCount::COUNT]);
        let none = vec![Evidence::default(); memory.backends.len()];
        self.fill::<_, { size_of::<Evidence>() }>(map::EVIDENCE, &none);
        self.fill::<_, { size_of::<RateLimiter>() }>(map::RATE_LIMITS, &[RateLimiter::default()]);
        self.forget::<{ size_of::<FlowKeyV4>() }, { size_of::<FragmentRecord>() }>(map::FRAGMENTS_V4);
        self.forget::<{ size_of::<FlowKeyV6>() }, { size_of::<FragmentRecord>() }>(map::FRAGMENTS_V6);
        decap::fill(&mut self.object, memory);
        self.copy(memory);
    }

    fn forget<const K: usize, const V: usize>(&mut self, name: &str) {
        let map = self.object.map_mut(name).expect("a map of the object");
        let mut map: HashMap<_, [u8; K], [u8; V]> = HashMap::try_from(map).expect("a hash map");
        let keys: Vec<_> = map.keys().map(|key| key.expect("nobody else changes it")).collect();
        for key in keys {
            map.remove(&key).expect("it was there");
        }
    }

    /// Writes the content of `memory`, whose size is that of the loaded maps, into the maps.
    pub fn copy(&mut self, memory: &Memory) {
        self.fill::<_, { size_of::<Published>() }>(map::PUBLISHED, &[memory.published]);
        self.fill::<_, { size_of::<ServiceEntryV4>() }>(map::SERVICE_INDEX_V4, &memory.service_index_v4);
        self.fill::<_, { size_of::<ServiceEntryV6>() }>(map::SERVICE_INDEX_V6, &memory.service_index_v6);
        self.fill::<_, { size_of::<Service>() }>(map::SERVICES, &memory.services);
        self.fill::<_, { size_of::<Pool>() }>(map::POOLS, &memory.pools);
        for (index, backend) in (0..).zip(&memory.backends) {
            self.backends.get_mut().set(index, bytes(backend), 0).expect("room for the backends");
        }
        self.fill::<_, { size_of::<Cell>() }>(map::CANDIDATES, &memory.candidates);
        for (index, cell) in (0..).zip(memory.slots.borrow().iter()) {
            self.slots.set(index, bytes(cell), 0).expect("room for the slots");
        }
        self.flows.copy(memory);
        self.nat.copy(memory);
    }

    /// Copies the flows with the ages that they have by the clock of `memory`, when enough of the current unit of time is
    /// left for these ages to last for a moment.
    pub fn copy_flows(&self, memory: &Memory) {
        flows::wait_for_long_unit();
        self.flows.copy(memory);
    }

    /// Whether a unit of time has passed since flows were copied. Flows that packets see now are then younger in the
    /// kernel than flows that they saw before, but equally old on the host: a busy machine can pause for long between
    /// two packets.
    pub fn flows_age(&self) -> bool {
        self.flows.age()
    }

    fn fill<T: Pod, const N: usize>(&mut self, name: &str, values: &[T]) {
        let map = self.object.map_mut(name).expect("a map of the object");
        let mut map: Array<_, [u8; N]> = Array::try_from(map).expect("an array of such values");
        for (index, value) in (0..).zip(values) {
            let bytes: [u8; N] = bytemuck::bytes_of(value).try_into().expect("`N` is the size of a `T`");
            map.set(index, bytes, 0).unwrap_or_else(|error| panic!("{name} {index}: {error}"));
        }
    }

    pub fn program_mut(&mut self, name: &str) -> &mut Xdp {
        self.object.program_mut(name).expect("a program of the object").try_into().expect("an XDP program")
    }

    /// Runs the program `name` on a frame.
    pub fn run(&self, name: &str, frame: &[u8], arrival: Arrival) -> Ran {
        let mut out = vec![0; frame.len() + arrival.metadata + 256];
        let data = [&vec![0; arrival.metadata], frame].concat();
        let context = context(data.len(), arrival);
        let options = TestRunOptions {
            data_in: Some(&data),
            data_out: Some(&mut out),
            ctx_in: (arrival.ingress != 1 || arrival.metadata != 0).then_some(&context),
            ..TestRunOptions::default()
        };
        let result = self.test_run(name, options);
        let result = result.unwrap_or_else(|error| panic!("a run of {} bytes {arrival:?}: {error:?}", frame.len()));
        out.truncate(result.data_size_out as usize);
        out.drain(..arrival.metadata);
        Ran { verdict: result.return_value, frame: out }
    }

    /// The kernel's measurement of one run of the program `name` on a frame.
    pub fn duration(&self, name: &str, frame: &[u8]) -> Duration {
        self.mean_duration(name, frame, 1)
    }

    /// The kernel's measurement of `repeat` runs, each on the frame that the one before has left: the mean.
    pub fn mean_duration(&self, name: &str, frame: &[u8], repeat: u32) -> Duration {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        self.test_run(name, options).unwrap_or_else(|error| panic!("a run of {name}: {error:?}")).duration
    }

    /// Runs the load balancer on a frame and lets the kernel carry out the verdict.
    ///
    /// # Panics
    /// If the kernel refuses the run.
    pub fn run_live(&self, frame: &[u8], ingress: u32) {
        let context = context(frame.len(), Arrival::by(ingress));
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            attrs: TestRunAttrs::new().xdp_live_frames(1),
            ..TestRunOptions::default()
        };
        self.test_run(program::EDGE, options).unwrap_or_else(|error| panic!("a live run: {error:?}"));
    }

    /// Number of instructions that the verifier processed for a program, if this kernel reports it.
    pub fn verified(&self, name: &str) -> Option<u32> {
        let xdp: &Xdp = self.object.program(name)?.try_into().ok()?;
        xdp.info().ok()?.verified_instruction_count()
    }

    fn test_run(&self, name: &str, options: TestRunOptions<'_>) -> Result<aya::programs::TestRunResult, ProgramError> {
        let xdp: &Xdp = self.object.program(name).expect("a program of the object").try_into()?;
        xdp.test_run(options)
    }
}

fn zero<T: aya::Pod>(map: &mut PerCpuArray<impl BorrowMut<MapData>, T>, zero: T) {
    let cpus = nr_cpus().expect("the number of processors");
    for index in 0..map.len() {
        let values = PerCpuValues::try_from(vec![zero; cpus]).expect("a value for each of them");
        map.set(index, values, 0).expect("an entry of the map");
    }
}

/// Names and numbers of entries of the maps.
pub type Sizes = [(&'static str, u32); 20];

/// Sizes of maps that hold `memory`, and `fragments` fragmented packets of each family.
///
/// # Panics
/// If a map needs more entries than it can have.
pub fn sizes(memory: &Memory, fragments: u32) -> Sizes {
    [
        (map::SERVICE_INDEX_V4, memory.service_index_v4.len()),
        (map::SERVICE_INDEX_V6, memory.service_index_v6.len()),
        (map::SERVICES, memory.services.len()),
        (map::POOLS, memory.pools.len()),
        (map::BACKENDS, memory.backends.len()),
        (map::CANDIDATES, memory.candidates.len()),
        (map::SLOTS, memory.slots.borrow().len()),
        (map::FLOW_INDEX, memory.flows.arrays.buckets.len()),
        (map::FLOWS, memory.flows.arrays.entries.len()),
        (map::NAT_INDEX, memory.nat.arrays.buckets.len()),
        (map::NAT_FLOWS, memory.nat.arrays.entries.len()),
        (map::FRAGMENTS_V4, fragments as usize),
        (map::FRAGMENTS_V6, fragments as usize),
        (map::FLOW_STATS, memory.services.len() / 2),
        (map::SERVICE_STATS, memory.services.len() / 2),
        (map::BACKEND_STATS, memory.backends.len()),
        (map::EVIDENCE, memory.backends.len()),
        (map::DECAP_ADDRESSES, memory.decap_addresses.len()),
        (map::DECAP_VIPS, memory.decap_vips.len()),
        (map::DECAP_EDGES, memory.decap_edges.len()),
    ]
    .map(|(name, count)| (name, u32::try_from(count.max(1)).expect("a map's size")))
}

/// A `struct xdp_md`: ends of the metadata and of the data, and the ingress interface.
///
/// # Panics
/// If the frame is too long for the kernel.
pub fn context(data_end: usize, arrival: Arrival) -> [u8; 24] {
    let mut context = [0; 24];
    let data_end = u32::try_from(data_end).expect("a frame's length");
    let metadata = u32::try_from(arrival.metadata).expect("a few bytes");
    // Without an interface the kernel uses `lo`, whose receive queue a context cannot name.
    let ingress = if arrival.ingress == 1 { 0 } else { arrival.ingress };
    for (field, value) in context.chunks_exact_mut(4).zip([metadata, data_end, 0, ingress, 0, 0]) {
        field.copy_from_slice(&value.to_ne_bytes());
    }
    context
}

fn per_cpu<T: aya::Pod>(object: &mut Ebpf, name: &str) -> PerCpuArray<MapData, T> {
    PerCpuArray::try_from(object.take_map(name).expect("a map of the object")).expect("an array per CPU")
}
