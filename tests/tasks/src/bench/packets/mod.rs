//! The cost of each kind of packet.
//!
//! A test run of the kernel repeats one packet as the last round left it. The timed program is therefore a driver (see
//! `edge-bench-ebpf`) that renews the packet, stamps the next flow into it, and tail-calls the program under test. The
//! driver's own cost is measured beside each sample, with a program that returns immediately.

pub(super) mod batch;
mod cases;
mod flow_table;
mod frames;
mod live;
mod loaded;
mod nat;
mod processors;
mod profile;
mod records;
mod rig;
mod sample;
mod state;
mod stream;
mod translated;
mod world;

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, unshare};
use xtask::step::step;

use self::{cases::Case, processors::Processors, rig::Rig, sample::Sampler};
pub(super) use self::{live::measure as measure_live, nat::measure as measure_nat, profile::all as profile};
use super::results::{Baselines, Results, Row, median};
use crate::programs::Size;

/// Measures the rows whose name (as in the table, spaces between its words) contains `only`.
///
/// The calling thread is left on one CPU and in a new network namespace.
pub(super) fn measure(results: &mut Results, quick: bool, only: Option<&str>) -> Result<()> {
    match profile().context("could not count instructions") {
        Ok(profile) => results.profile = profile,
        Err(error) => results.failures.push(format!("{error:#}")),
    }
    // The driver must be attached to an interface, here to one in a new namespace.
    unshare(CloneFlags::CLONE_NEWNET).context("could not make a network namespace")?;

    let mut bench = Bench::new(cases::timed(quick).into_iter().filter(|case| is_wanted(case, only)), quick)?;
    if bench.rows.is_empty() {
        return Ok(());
    }
    let seconds = if quick { 36 } else { 560 };
    // With few rows, each takes at most as long as one of many would.
    let end = Instant::now() + Duration::from_secs(seconds.min(5 * bench.rows.len() as u64));
    while bench.pass(end)? {}
    results.programs = bench.programs;
    let noisy = bench.rows.iter().filter(|measured| measured.noisy()).count();
    if noisy > 0 {
        let all = bench.rows.len();
        results.notes.push(format!("*: slower than this machine is at its best, {noisy} of {all} rows in the end"));
    }
    results.rows = bench.rows.into_iter().filter_map(|measured| measured.row).collect();
    let quiet = || results.rows.iter().filter(|row| !row.noisy || noisy == results.rows.len());
    results.baselines = Baselines {
        return_ns: median(quiet().map(|row| row.base_ns)),
        head_ns: median(quiet().map(|row| row.head_ns)),
    };
    Ok(())
}

/// All rows, and the means to measure them.
struct Bench {
    rows: Vec<Measured>,
    processors: Processors,
    sampler: Sampler,
    /// The loaded world.
    now: Option<(world::World, Rig)>,
    programs: Vec<Size>,
}

/// A row, and its best figures so far.
struct Measured {
    case: Case,
    row: Option<Row>,
}

impl Measured {
    fn noisy(&self) -> bool {
        self.row.as_ref().is_none_or(|row| row.noisy)
    }
}

impl Bench {
    fn new(cases: impl Iterator<Item = Case>, quick: bool) -> Result<Self> {
        let rows = cases.map(|case| Measured { case, row: None }).collect();
        let (processors, sampler) = (Processors::all()?, Sampler::new(if quick { 30 } else { 100 }));
        Ok(Self { rows, processors, sampler, now: None, programs: Vec::new() })
    }

    /// Measures all rows without reliable figures, in half of the time that is left until `end`; returns whether
    /// another pass makes sense.
    fn pass(&mut self, end: Instant) -> Result<bool> {
        let left = end.saturating_duration_since(Instant::now());
        let todo = self.rows.iter().filter(|measured| measured.noisy()).count();
        let is_first = self.now.is_none();
        // Loading a world takes time as well.
        if todo == 0 || !is_first && left < Duration::from_secs(4) {
            return Ok(false);
        }
        self.sampler.begin(todo, left / 2);
        for index in 0..self.rows.len() {
            if !self.rows[index].noisy() || !is_first && Instant::now() > end {
                continue;
            }
            let Measured { case, row } = &self.rows[index];
            if self.now.as_ref().is_none_or(|(world, _)| *world != case.world) {
                drop(self.now.take());
                let mut rig = load(&case.world)?;
                if self.programs.is_empty() {
                    self.programs = rig.sizes()?;
                }
                self.now = Some((case.world.clone(), rig));
            }
            let Some((_, rig)) = self.now.as_mut() else { continue };
            self.processors.choose(|| rig.base(&case.stream))?;
            let new = self.sampler.row(case, rig).with_context(|| name(case))?;
            progress(case, format_args!("{:.1} ns", new.net_ns), new.noisy);
            // Of two noisy rows, the less disturbed one is kept.
            if row.as_ref().is_none_or(|old| !new.noisy || new.base_ns < old.base_ns) {
                self.rows[index].row = Some(new);
            }
        }
        // Some rows only turn out to be slow beside later ones.
        for Measured { case, row } in &mut self.rows {
            if let Some(row) = row {
                row.noisy |= self.sampler.is_slow(case.stream.rewritten, row.base_ns);
            }
        }
        Ok(true)
    }
}

/// Name of a row.
fn name(case: &Case) -> String {
    let Case { mode, family, protocol, state, stream, world, leaving, .. } = case;
    let (program, state) = (leaving.exit.program().name(), state.name());
    let (flows, services, backends) = (stream.flows, world.services, world.backends);
    format!("{program} {mode} {family} {protocol} {state} {flows} {services}{} {backends}", world.layout())
}

/// Reports a row's figures so far; the tables follow at the end.
fn progress(case: &Case, figure: fmt::Arguments<'_>, noisy: bool) {
    eprintln!("xtask: {}: {figure}{}", name(case), if noisy { " *" } else { "" });
}

fn is_wanted(case: &Case, only: Option<&str>) -> bool {
    only.is_none_or(|text| name(case).contains(text))
}

/// Prepares `world`, and loads the programs over it.
fn load(world: &world::World) -> Result<Rig> {
    let table = world.table.map(|table| format!(", a table of {} flows", table.room));
    let table = table.unwrap_or_default();
    let ports = if world.ports == 1 { String::new() } else { format!(" of {} ports", world.ports) };
    let what = format!("{} services{ports}, {} backends, {} slots{table}", world.services, world.backends, world.slots);
    step(&what, || Rig::load(world))
}
