//! The programs in the kernel, and timed runs of them.

use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData, PerCpuArray, ProgramArray},
    programs::{TestRun as _, TestRunOptions, Xdp, XdpMode},
};
use bytemuck::{Pod, Zeroable, bytes_of, cast_slice};
use edge_common::{
    abi::{Cell, map, program},
    exit::Exit,
    host::Memory,
};
use memmap2::{MmapOptions, MmapRaw};

use super::world::{FIRST_PORT, Side};
use crate::programs::{object, xdp};

/// Bytes that the driver restores in an answered packet.
const RESTORED: usize = 96;

/// What each round does, as the driver has it.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Plan {
    bytes: [u8; RESTORED],
    length: u32,
    flow_mask: u32,
    services: u32,
    first_port: u32,
    v6: u32,
    answered: u32,
    head: u32,
    target: u32,
}

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) frame: Vec<u8>,
    pub(super) side: Side,
    /// A power of two.
    pub(super) flows: u32,
    pub(super) services: u32,
    /// Whether the program writes an answer into the frame.
    pub(super) answered: bool,
}

/// A program that the driver goes on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Returns at once.
    Return,
    /// Moves the head by 20 bytes, and sends the frame back.
    Head,
    /// The load balancer; each packet is to leave by this exit, its head moved by so many bytes.
    Edge(Exit, u32),
}

/// The bench's own object, and the load balancer over one world.
pub(super) struct Rig {
    bench: Ebpf,
    _edge: Ebpf,
    /// The kernel empties it when nobody holds it any more.
    _programs: ProgramArray<MapData>,
    exits: PerCpuArray<MapData, u64>,
    owners: MmapRaw,
}

impl Rig {
    /// Loads both objects, and fills the maps from `memory`.
    pub(super) fn load(memory: &Memory) -> Result<Self> {
        let mut bench = EbpfLoader::new().load(&object("bench")?)?;
        for name in ["bench_driver", "bench_return", "bench_head"] {
            xdp(&mut bench, name)?.load().with_context(|| format!("the kernel refuses `{name}`"))?;
        }
        // While a program is on some interface, the kernel need not patch its dispatcher for each run of it, which
        // takes longer than the run.
        xdp(&mut bench, "bench_driver")?.attach("lo", XdpMode::Skb).context("could not attach the driver")?;
        let mut edge = load_edge(memory)?;
        let mut programs = ProgramArray::try_from(bench.take_map("BENCH_PROGRAMS").context("no program array")?)?;
        programs.set(0, xdp(&mut bench, "bench_return")?.fd()?, 0)?;
        programs.set(1, xdp(&mut bench, "bench_head")?.fd()?, 0)?;
        programs.set(2, xdp(&mut edge, program::EDGE)?.fd()?, 0)?;
        fill(&mut edge, memory)?;
        let exits = PerCpuArray::try_from(edge.take_map(map::EXITS).context("no EXITS")?)?;
        let owners = mapped(&mut edge, map::OWNERS, size_of_val(memory.owners.borrow().as_slice()))?;
        let mut rig = Self { bench, _edge: edge, _programs: programs, exits, owners };
        rig.write_owners(&memory.owners.borrow());
        Ok(rig)
    }

    pub(super) fn write_owners(&mut self, owners: &[Cell]) {
        let bytes: &[u8] = cast_slice(owners);
        // SAFETY: the mapping has as many bytes (it was made so, for the same memory), and nothing runs that uses it now.
        unsafe { self.owners.as_mut_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// How many slots have an owner.
    pub(super) fn owned(&self) -> usize {
        // SAFETY: the mapping is alive, and nothing runs that writes to it now.
        let bytes = unsafe { std::slice::from_raw_parts(self.owners.as_ptr(), self.owners.len()) };
        bytes.chunks_exact(2).filter(|owner| *owner != [0, 0]).count()
    }

    /// Runs `target` on `rounds` packets of `stream`; nanoseconds a packet.
    ///
    /// # Errors
    /// The run did not do what it is meant to time.
    pub(super) fn run(&mut self, target: Target, stream: &Stream, rounds: u32) -> Result<f64> {
        let (place, moved) = match target {
            Target::Return => (0, 0),
            Target::Head => (1, 20),
            Target::Edge(_, moved) => (2, moved),
        };
        let mut plan = Plan {
            length: u32::try_from(stream.frame.len())?,
            flow_mask: stream.flows - 1,
            services: stream.services,
            first_port: FIRST_PORT.into(),
            v6: u32::from(stream.side == Side::V6),
            answered: stream.answered.into(),
            head: moved,
            target: place,
            ..Plan::zeroed()
        };
        plan.bytes.copy_from_slice(stream.frame.get(..RESTORED).context("a frame that is too short")?);
        let mut plans: Array<_, [u8; size_of::<Plan>()]> =
            Array::try_from(self.bench.map_mut("BENCH_PLAN").context("no plan")?)?;
        plans.set(0, bytemuck::cast::<_, [u8; size_of::<Plan>()]>(plan), 0)?;

        let before = (self.progress()?, self.count(target)?);
        let driver: &Xdp = self.bench.program("bench_driver").context("no driver")?.try_into()?;
        let options = TestRunOptions { data_in: Some(&stream.frame), repeat: rounds, ..TestRunOptions::default() };
        let result = driver.test_run(options)?;
        let after = (self.progress()?, self.count(target)?);

        ensure!(result.return_value != 0, "the driver aborted");
        let ([rounds_before, undone_before], [rounds_after, undone_after]) = (before.0, after.0);
        ensure!(rounds_after - rounds_before == u64::from(rounds), "not all rounds were run");
        let undone = undone_after.wrapping_sub(undone_before);
        let expected = u64::from(moved) * u64::from(rounds - 1);
        ensure!(undone == expected, "the head was moved by {undone} bytes in all, not by {expected}");
        if let (Some(before), Some(after), Target::Edge(exit, _)) = (before.1, after.1, target) {
            let name = exit.name();
            ensure!(after - before == u64::from(rounds), "{} of {rounds} packets left by {name}", after - before);
        }
        // Whole nanoseconds, rounded down; on average half a one is lost.
        Ok(f64::from(u32::try_from(result.duration.as_nanos())?) + 0.5)
    }

    /// Rounds, and bytes of undone moves.
    fn progress(&self) -> Result<[u64; 2]> {
        let progress: Array<_, [u64; 2]> = Array::try_from(self.bench.map("BENCH_PROGRESS").context("no progress")?)?;
        Ok(progress.get(&0, 0)?)
    }

    /// Packets that left by the target's exit so far.
    fn count(&self, target: Target) -> Result<Option<u64>> {
        let Target::Edge(exit, _) = target else { return Ok(None) };
        Ok(Some(self.exits.get(&(exit as u32), 0)?.iter().sum()))
    }
}

fn load_edge(memory: &Memory) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    for (name, entries) in [
        (map::SERVICE_INDEX_V4, memory.service_index_v4.len()),
        (map::SERVICE_INDEX_V6, memory.service_index_v6.len()),
        (map::SERVICES, memory.services.len()),
        (map::POOLS, memory.pools.len()),
        (map::BACKENDS, memory.backends.len()),
        (map::CANDIDATES, memory.candidates.len()),
        (map::OWNERS, memory.owners.borrow().len()),
        (map::SERVICE_STATS, memory.services.len() / 2),
        (map::BACKEND_STATS, memory.backends.len()),
    ] {
        loader.map_max_entries(name, u32::try_from(entries.max(1))?);
    }
    let mut edge = loader.load(&object("edge")?)?;
    xdp(&mut edge, program::EDGE)?.load().context("the kernel refuses the load balancer")?;
    Ok(edge)
}

fn fill(edge: &mut Ebpf, memory: &Memory) -> Result<()> {
    fn write<T: Pod>(edge: &mut Ebpf, name: &str, values: &[T]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let stride = size_of::<T>().next_multiple_of(8);
        let to = mapped(edge, name, stride * values.len())?;
        for (place, value) in values.iter().enumerate() {
            let bytes = bytes_of(value);
            // SAFETY: the mapping has a stride for each of the values, and nothing runs that uses it now.
            unsafe { to.as_mut_ptr().add(place * stride).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }
        Ok(())
    }
    write(edge, map::PUBLISHED, &[memory.published])?;
    write(edge, map::SERVICE_INDEX_V4, &memory.service_index_v4)?;
    write(edge, map::SERVICE_INDEX_V6, &memory.service_index_v6)?;
    write(edge, map::SERVICES, &memory.services)?;
    write(edge, map::POOLS, &memory.pools)?;
    write(edge, map::BACKENDS, &memory.backends)?;
    write(edge, map::CANDIDATES, &memory.candidates)
}

/// The first `bytes` of an array map.
fn mapped(edge: &mut Ebpf, name: &str, bytes: usize) -> Result<MmapRaw> {
    let Some(Map::Array(data)) = edge.map(name) else { bail!("no array `{name}`") };
    MmapOptions::new().len(bytes).map_raw(data.fd().as_fd().as_raw_fd()).with_context(|| format!("mapping {name}"))
}
