//! What each packet costs.
//!
//! A test run of the kernel repeats one packet, as the last round left it. So the timed program is a driver (see
//! `edge-bench-ebpf`) that makes the packet new, stamps the next flow into it, and goes on to the program under test.
//! What the driver itself costs is measured beside each sample, with a program that returns at once.

mod cases;
mod frames;
mod rig;
mod table;
mod world;

use anyhow::{Context as _, Result, ensure};
use edge_common::{abi::Cell, host::Memory};
use nix::{
    sched::{CloneFlags, CpuSet, sched_setaffinity, unshare},
    unistd::Pid,
};

use self::{
    cases::{Case, State},
    rig::{Rig, Target},
};
use super::results::{Results, Row, median};
use crate::{programs, step::step};

/// Samples that a row's medians are of, at least.
const SAMPLES: usize = 20;
/// Samples that are taken for them at most: those in which the machine had its mind on other things do not count.
const TRIES: usize = 32;
/// How far the bases before and after a sample may be apart, and above the best of the whole run.
const PACE: f64 = 0.12;
/// Runs of a sample.
const RUNS: u32 = 8;

/// Measures the rows whose name (as in the table, spaces between its words) contains `only`, and prints each.
///
/// The thread that calls it stays on one processor and in a network namespace of its own.
pub(super) fn measure(results: &mut Results, quick: bool, only: Option<&str>) -> Result<()> {
    let mut last = CpuSet::new();
    // The last processor, as interrupts tend to go to the first one.
    last.set(std::thread::available_parallelism()?.get() - 1)?;
    sched_setaffinity(Pid::from_raw(0), &last).context("could not stay on one processor")?;
    // The driver is put on an interface; on one that nobody else has.
    unshare(CloneFlags::CLONE_NEWNET).context("could not make a network namespace")?;

    let mut now: Option<(world::World, Memory, Rig)> = None;
    let wanted = |case: &Case| only.is_none_or(|text| table::name(case).contains(text));
    results.programs = programs::sizes()?;
    let mut fastest = f64::INFINITY;
    println!("{}", table::heading());
    for case in cases::all(quick).into_iter().filter(wanted) {
        if now.as_ref().is_none_or(|(world, ..)| *world != case.world) {
            drop(now.take());
            let what = format!(
                "{} services, {} backends, {} slots",
                case.world.services, case.world.backends, case.world.slots
            );
            let (memory, rig) = step(&what, || {
                let memory = case.world.memory()?;
                let rig = Rig::load(&memory)?;
                Ok((memory, rig))
            })?;
            now = Some((case.world.clone(), memory, rig));
        }
        let Some((_, memory, rig)) = now.as_mut() else { continue };
        let row = row(&case, memory, rig, quick, &mut fastest).with_context(|| table::name(&case))?;
        println!("{row}");
        results.rows.push(row);
    }
    results.baselines.return_ns = median(results.rows.iter().map(|row| row.base_ns));
    results.baselines.head_ns = median(results.rows.iter().map(|row| row.head_ns));
    results.notes.push("in transition (flow records read, written): there are no flow records yet".to_owned());
    Ok(())
}

/// One sample: nanoseconds a packet of each program.
#[derive(Clone, Copy)]
struct Sample {
    base: f64,
    /// Between the bases before and after the others.
    drift: f64,
    head: f64,
    raw: f64,
}

impl Sample {
    /// Whether the machine ran at its full pace all the time.
    fn is_quiet(&self, fastest: f64) -> bool {
        self.drift < PACE * self.base && self.base < (1.0 + PACE) * fastest
    }
}

fn row(case: &Case, memory: &Memory, rig: &mut Rig, quick: bool, fastest: &mut f64) -> Result<Row> {
    let rounds = match (case.state, quick) {
        // So few that each SYN finds a slot of its own.
        (State::OwnerMoved, _) => 1 << 14,
        (_, true) => 10_000,
        (_, false) => 30_000,
    };
    if case.state != State::OwnerMoved {
        // Every flow once, so that what can be in a cache is there.
        rig.run(Target::Edge(case.exit, case.moved), &case.stream, case.stream.flows.max(rounds))?;
    }
    let mut samples: Vec<Sample> = Vec::new();
    let mut quiet = 0;
    while quiet < SAMPLES && samples.len() < TRIES {
        samples.push(sample(case, memory, rig, rounds)?);
        *fastest = samples.iter().map(|sample| sample.base).fold(*fastest, f64::min);
        quiet = samples.iter().filter(|sample| sample.is_quiet(*fastest)).count();
    }
    if quiet >= SAMPLES / 3 {
        samples.retain(|sample| sample.is_quiet(*fastest));
    }
    // Else the machine was busy all the time, and the ratios, taken within each sample, say more than the times.
    Ok(summary(case, &samples))
}

/// Medians of `samples`.
fn summary(case: &Case, samples: &[Sample]) -> Row {
    let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
    let moves = case.moved != 0;
    let net = |sample: &Sample| {
        // Half of what a move costs is the driver's, which undoes it.
        let undo = if moves { (sample.head - sample.base) / 2.0 } else { 0.0 };
        sample.raw - sample.base - undo
    };
    let raw_ns = of(|sample| sample.raw);
    Row {
        program: "edge".to_owned(),
        mode: case.mode.to_owned(),
        family: case.family.to_owned(),
        protocol: case.protocol.to_owned(),
        state: case.state.name().to_owned(),
        flows: case.stream.flows,
        services: case.world.services,
        backends: case.world.backends,
        raw_ns,
        net_ns: median(samples.iter().map(net)),
        ratio_return: of(|sample| sample.raw / sample.base),
        ratio_head: of(|sample| sample.raw / sample.head),
        spread: median(samples.iter().map(|sample| (sample.raw - raw_ns).abs())) / raw_ns,
        base_ns: of(|sample| sample.base),
        head_ns: of(|sample| sample.head),
    }
}

/// Takes one sample: the mean of several runs, as the kernel puts its stack elsewhere in each, and caches and store
/// forwarding like some places better than others.
fn sample(case: &Case, memory: &Memory, rig: &mut Rig, rounds: u32) -> Result<Sample> {
    let target = Target::Edge(case.exit, case.moved);
    let mut sums = [0.0; 4];
    for _ in 0..RUNS {
        let before = rig.run(Target::Return, &case.stream, rounds)?;
        let head = rig.run(Target::Head, &case.stream, rounds)?;
        let raw = if case.state == State::OwnerMoved {
            rig.write_owners(&vec![Cell::default(); memory.owners.borrow().len()]);
            let raw = rig.run(target, &case.stream, rounds)?;
            let moved = rig.owned();
            ensure!(moved * 20 > rounds as usize * 19, "only {moved} of {rounds} SYNs moved an owner");
            raw
        } else {
            rig.run(target, &case.stream, rounds)?
        };
        let after = rig.run(Target::Return, &case.stream, rounds)?;
        for (sum, time) in sums.iter_mut().zip([before, head, raw, after]) {
            *sum += time / f64::from(RUNS);
        }
    }
    let [before, head, raw, after] = sums;
    Ok(Sample { base: f64::midpoint(before, after), drift: (before - after).abs(), head, raw })
}
