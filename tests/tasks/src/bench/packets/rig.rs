//! The programs in the kernel, and timed runs of them.

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, PerCpuArray, ProgramArray},
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, TestRunResult, Xdp, XdpMode},
};
use bytemuck::{Zeroable as _, cast_slice};
use edge_bench_ebpf::{Arrived, Plan, Progress, WORDS, place};
use edge_common::{
    abi::{FlowCount, Slot, map, program},
    host::Memory,
};
use edge_tests::{
    both::ProgramExit,
    kernel::{self, Arrival, MappedFlows},
};
use memmap2::MmapRaw;

use super::{
    cases::Case,
    flow_table::Recorded,
    frames::Frame,
    loaded,
    state::State,
    stream::{Leaving, Measured, Stream},
    world::{FIRST_PORT, World},
};
use crate::programs::{self, Size, object, xdp};

/// The bench's own object, and the programs under test over one world.
pub(super) struct Rig {
    bench: Ebpf,
    edge: Ebpf,
    /// The kernel empties this map when its last descriptor is closed.
    _targets: ProgramArray<MapData>,
    /// The kernel empties this map when its last descriptor is closed.
    _calls: ProgramArray<MapData>,
    exits: PerCpuArray<MapData, u64>,
    decap_exits: PerCpuArray<MapData, u64>,
    slots: MmapRaw,
    flows: Recorded,
    flow_stats: PerCpuArray<MapData, [u64; FlowCount::COUNT]>,
    world: World,
    memory: Memory,
    /// Number of packets that the load balancer has received so far.
    sent: u64,
}

/// The bench's programs, with the driver first.
const PROGRAMS: [&str; 7] =
    ["bench_driver", "bench_return", "bench_head", "bench_tail", "bench_sink", "bench_reads", "bench_hashed"];

impl Rig {
    /// Loads both objects, and fills the maps with the content of `world`.
    pub(super) fn load(world: &World) -> Result<Self> {
        Self::over(world, world.memory()?, &[])
    }

    /// As [`Self::load`], with a `memory` that contains more than `world`, and with `sizes` of the bench's maps.
    pub(super) fn over(world: &World, memory: Memory, sizes: &[(&'static str, u32)]) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        for (name, entries) in sizes {
            loader.map_max_entries(name, *entries);
        }
        let mut bench = loader.load(&object("bench")?)?;
        for name in PROGRAMS {
            programs::load(&mut bench, name)?;
        }
        // While a program is attached to an interface, the kernel need not patch its dispatcher for each run of the
        // program, which takes longer than the run.
        xdp(&mut bench, "bench_driver")?.attach("lo", XdpMode::Skb).context("could not attach the driver")?;
        let mut edge = loaded::load(&memory)?;
        let mut targets = ProgramArray::try_from(bench.take_map("BENCH_PROGRAMS").context("no program array")?)?;
        let others = [(place::READS, "bench_reads"), (place::HASHED, "bench_hashed")];
        let floors = [(place::RETURN, "bench_return"), (place::HEAD, "bench_head"), (place::TAIL, "bench_tail")];
        for (place, name) in floors.into_iter().chain(others) {
            targets.set(place, xdp(&mut bench, name)?.fd()?, 0)?;
        }
        for (place, name) in [(place::EDGE, program::EDGE), (place::DECAP, program::DECAP)] {
            targets.set(place, xdp(&mut edge, name)?.fd()?, 0)?;
        }
        loaded::fill(&mut edge, &memory)?;
        let calls = kernel::calls(&mut edge);
        let exits = PerCpuArray::try_from(edge.take_map(map::EXITS).context("no EXITS")?)?;
        let decap_exits = PerCpuArray::try_from(edge.take_map(map::DECAP_EXITS).context("no DECAP_EXITS")?)?;
        let slots = loaded::mapped(&mut edge, map::SLOTS, size_of_val(memory.slots.borrow().as_slice()))?;
        let entries = memory.flows.head.mask + 1;
        let flows = Recorded::new(MappedFlows::new(&edge, map::FLOW_INDEX, map::FLOWS, entries), entries, world);
        let flow_stats = PerCpuArray::try_from(edge.take_map(map::FLOW_STATS).context("no FLOW_STATS")?)?;
        let mut rig = Self {
            bench,
            edge,
            _targets: targets,
            _calls: calls,
            exits,
            decap_exits,
            slots,
            flows,
            flow_stats,
            world: world.clone(),
            memory,
            sent: 0,
        };
        rig.write_slots(State::Steady);
        Ok(rig)
    }

    /// The bench's object and that of the programs under test, to fill further maps.
    pub(super) fn objects(&mut self) -> (&mut Ebpf, &mut Ebpf) {
        (&mut self.bench, &mut self.edge)
    }

    /// Sizes of the programs under test.
    pub(super) fn sizes(&mut self) -> Result<Vec<Size>> {
        programs::sizes_of(&mut self.edge)
    }

    /// Attaches one of the bench's programs to an interface in native mode.
    pub(super) fn attach(&mut self, name: &str, interface: &str) -> Result<()> {
        let attached = xdp(&mut self.bench, name)?.attach(interface, XdpMode::Driver);
        attached.with_context(|| format!("could not attach `{name}` to {interface}")).map(drop)
    }

    /// Prepares owners and records for packets of `case`.
    pub(super) fn prepare(&mut self, case: &Case) -> Result<()> {
        self.write_slots(case.state);
        let (frame, records, flows) = (&case.stream.frame, case.state.records(), case.stream.flows);
        if case.state.is_transition() { self.flows.prepare(frame, case.side, records, flows) } else { Ok(()) }
    }

    /// Makes room for the records that `rounds` packets of `case` will leave.
    pub(super) fn make_room(&mut self, case: &Case, rounds: u32) -> Result<()> {
        let (start, flows) = (self.progress()?.rounds, case.stream.flows);
        self.flows.make_room(start, rounds, flows)
    }

    /// Writes the slots' owners for packets in `state`.
    pub(super) fn write_slots(&mut self, state: State) {
        let slots = self.world.slots(&self.memory, state);
        let bytes: &[u8] = cast_slice(&slots);
        // SAFETY: the mapping has this many bytes (it was made for the same memory), and no program uses it at the
        // moment.
        unsafe { self.slots.as_mut_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Runs `measure` on packets in `state`.
    ///
    /// # Errors
    /// If the program's counts of flow records differ from those of the state; in a stable service, if there are any.
    pub(super) fn checked<T>(&mut self, state: State, measure: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let (before, sent) = (self.flow_counts()?, self.sent);
        let result = measure(self)?;
        let (after, sent) = (self.flow_counts()?, self.sent - sent);
        for (what, count) in
            FlowCount::ALL.into_iter().zip(after.iter().zip(before).map(|(after, before)| after - before))
        {
            let expected = if state.counts().contains(&what) { sent } else { 0 };
            let is_right = match state {
                _ if state.may_look_up() && what == FlowCount::Lookups => true,
                // Occasionally two packets share a slot.
                State::OwnerTakenOver => count <= expected && 20 * count >= 19 * expected,
                // A half-full table refuses a flow now and then.
                State::RecordedAtNew | State::RecordedAtOwner => 1_000 * count.abs_diff(expected) <= sent,
                _ => count == expected,
            };
            ensure!(is_right, "`{}` was counted {count} times for {sent} packets", what.name());
        }
        Ok(result)
    }

    /// Counts of the program's operations on flow records so far, over all services.
    fn flow_counts(&self) -> Result<[u64; FlowCount::COUNT]> {
        let mut sum = [0; FlowCount::COUNT];
        for service in 0..self.flow_stats.len() {
            for counts in self.flow_stats.get(&service, 0)?.iter() {
                sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
        }
        Ok(sum)
    }

    /// Number of slots with an owner.
    pub(super) fn owned(&self) -> usize {
        // SAFETY: the mapping is alive, and no running program writes to it.
        let bytes = unsafe { std::slice::from_raw_parts(self.slots.as_ptr(), self.slots.len()) };
        bytes.chunks_exact(size_of::<Slot>()).filter(|slot| slot[..2] != [0, 0]).count()
    }

    /// Time of the driver with a program that returns immediately, over a few packets.
    pub(super) fn base(&mut self, stream: &Stream) -> Result<f64> {
        self.run(Measured::Return, stream, 999)
    }

    /// Time of the driver with a program that returns immediately, over `rounds` packets.
    pub(super) fn base_of(&mut self, stream: &Stream, rounds: u32) -> Result<f64> {
        self.run(Measured::Return, stream, rounds)
    }

    /// Runs `target` on `rounds` packets of `stream`; returns nanoseconds per packet.
    ///
    /// # Errors
    /// If the run did not do what it is meant to time.
    pub(super) fn run(&mut self, target: Measured, stream: &Stream, rounds: u32) -> Result<f64> {
        let undone_before = self.progress()?.undone;
        let result = self.drive(target, stream, rounds, TestRunOptions::default())?;
        ensure!(result.return_value != 0, "the driver aborted");
        let undone = self.progress()?.undone.wrapping_sub(undone_before).cast_signed();
        let expected = i64::from(target.moved()) * i64::from(rounds - 1);
        ensure!(undone == expected, "the head was moved by {undone} bytes in all, not by {expected}");
        let length = target.length_after(stream)?;
        ensure!(result.data_size_out == length, "{} bytes came out, not {length}", result.data_size_out);
        time(&result)
    }

    /// Runs `target` on `rounds` packets of `stream` as if they had arrived at interface `ingress`, and lets the kernel
    /// carry out the verdicts. Returns nanoseconds per packet, if all packets came out of the interface's other end.
    ///
    /// # Errors
    /// If other packets came out.
    pub(super) fn run_live(
        &mut self,
        target: Measured,
        stream: &Stream,
        rounds: u32,
        ingress: u32,
    ) -> Result<Option<f64>> {
        let context = kernel::context(stream.frame.bytes.len(), Arrival::by(ingress));
        let attrs = TestRunAttrs::new().xdp_live_frames(0);
        let before = self.arrived()?;
        let options = TestRunOptions { ctx_in: Some(&context), attrs, ..TestRunOptions::default() };
        let result = self.drive(target, stream, rounds, options)?;
        let after = self.arrived()?;
        let (frames, bytes) = (after.frames - before.frames, after.bytes - before.bytes);
        ensure!(frames <= u64::from(rounds), "{frames} packets arrived of {rounds}");
        let expected = frames * u64::from(target.length_after(stream)?);
        ensure!(bytes == expected, "{bytes} bytes arrived, not {expected}");
        Ok(if frames == u64::from(rounds) { Some(time(&result)?) } else { None })
    }

    /// Runs the driver, and checks that it reached `target` each time, and that each packet left as expected.
    fn drive(
        &mut self,
        target: Measured,
        stream: &Stream,
        rounds: u32,
        options: TestRunOptions<'_>,
    ) -> Result<TestRunResult> {
        let Stream { frame: Frame { bytes, address_at, ports_at }, flows, services, rewritten, listed } = stream;
        let mut plan = Plan {
            length: u32::try_from(bytes.len())?,
            flow_mask: flows - 1,
            services: *services,
            first_port: FIRST_PORT.into(),
            address_at: *address_at,
            ports_at: *ports_at,
            rewritten: (*rewritten).into(),
            head: target.moved(),
            cut: target.cut(),
            target: target.place(),
            listed: (*listed).into(),
            reads: target.reads(),
            // The number of entries for translated flows.
            entry_mask: self.memory.nat.head.flows.mask,
            ..Plan::zeroed()
        };
        let start = bytes.get(..8 * WORDS).context("a frame that is too short")?;
        bytemuck::cast_slice_mut(&mut plan.bytes).copy_from_slice(start);
        let mut plans: Array<_, [u8; size_of::<Plan>()]> =
            Array::try_from(self.bench.map_mut("BENCH_PLAN").context("no plan")?)?;
        plans.set(0, bytemuck::cast::<_, [u8; size_of::<Plan>()]>(plan), 0)?;

        let before = (self.progress()?.rounds, self.count(target)?);
        let driver: &Xdp = self.bench.program("bench_driver").context("no driver")?.try_into()?;
        let result = driver.test_run(TestRunOptions { data_in: Some(bytes), repeat: rounds, ..options })?;
        let after = (self.progress()?.rounds, self.count(target)?);
        ensure!(after.0 - before.0 == u64::from(rounds), "not all rounds were run");
        if target.place() == place::EDGE {
            self.sent += u64::from(rounds);
        }
        if let (Some(before), Some(after), Measured::Ours(leaving)) = (before.1, after.1, target) {
            let (left, name) = (after - before, leaving.exit.name());
            ensure!(left == u64::from(rounds), "{left} of {rounds} packets left by {name}");
        }
        Ok(result)
    }

    fn progress(&self) -> Result<Progress> {
        let progress: Array<_, [u64; 2]> = Array::try_from(self.bench.map("BENCH_PROGRESS").context("no progress")?)?;
        Ok(bytemuck::cast(progress.get(&0, 0)?))
    }

    /// Frames that came out of the device so far.
    fn arrived(&self) -> Result<Arrived> {
        let map = self.bench.map("BENCH_ARRIVED").context("no count of arrivals")?;
        let arrived: PerCpuArray<_, [u64; 2]> = PerCpuArray::try_from(map)?;
        let each = arrived.get(&0, 0)?;
        Ok(each.iter().fold(Arrived::zeroed(), |Arrived { frames, bytes }, [more_frames, more_bytes]| Arrived {
            frames: frames + more_frames,
            bytes: bytes + more_bytes,
        }))
    }

    /// Number of packets that left by the target's exit so far.
    fn count(&self, target: Measured) -> Result<Option<u64>> {
        let Measured::Ours(Leaving { exit, .. }) = target else { return Ok(None) };
        let count = match exit {
            ProgramExit::Edge(exit) => self.exits.get(&(exit as u32), 0)?,
            ProgramExit::Decap(exit) => self.decap_exits.get(&(exit as u32), 0)?,
        };
        Ok(Some(count.iter().sum()))
    }
}

/// Nanoseconds per packet. The kernel reports whole ones, rounded down; on average, half a nanosecond is lost.
fn time(result: &TestRunResult) -> Result<f64> {
    Ok(f64::from(u32::try_from(result.duration.as_nanos())?) + 0.5)
}
