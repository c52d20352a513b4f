//! What each packet costs.
//!
//! A test run of the kernel repeats one packet, as the last round left it. So the timed program is a driver (see
//! `edge-bench-ebpf`) that makes the packet new, stamps the next flow into it, and goes on to the program under test.
//! What the driver itself costs is measured beside each sample, with a program that returns at once.

mod cases;
mod frames;
mod live;
mod others;
mod profile;
mod rig;
mod sample;
mod state;
mod stream;
mod table;
mod world;

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::{
    sched::{CloneFlags, CpuSet, sched_setaffinity, unshare},
    unistd::Pid,
};

use self::{cases::Case, others::Ticks, rig::Rig, sample::Sampler};
pub(super) use self::{live::measure as measure_live, profile::all as profile};
use super::results::{Baselines, Results, median};
use crate::step::step;

/// Measures the rows whose name (as in the table, spaces between its words) contains `only`, and prints each.
///
/// The thread that calls it stays on one processor and in a network namespace of its own.
pub(super) fn measure(results: &mut Results, quick: bool, only: Option<&str>) -> Result<()> {
    match profile().context("could not count instructions") {
        Ok(profile) => results.profile = profile,
        Err(error) => results.failures.push(format!("{error:#}")),
    }
    let processor = stay_on_one_processor()?;
    let before = Ticks::of_others(processor);
    // The driver is put on an interface; on one that nobody else has.
    unshare(CloneFlags::CLONE_NEWNET).context("could not make a network namespace")?;

    let mut now: Option<(world::World, Rig)> = None;
    let cases: Vec<_> = cases::timed(quick).into_iter().filter(|case| is_wanted(case, only)).collect();
    let (wanted, seconds) = if quick { (30, 42) } else { (100, 440) };
    // Of a few rows, none may take longer than one of many.
    let seconds = seconds.min(5 * cases.len() as u64);
    let mut sampler = Sampler::new(wanted, cases.len(), Duration::from_secs(seconds));
    let mut rows = Vec::new();
    println!("{}", table::heading());
    for case in cases {
        if now.as_ref().is_none_or(|(world, _)| *world != case.world) {
            drop(now.take());
            let mut rig = load(&case.world)?;
            if results.programs.is_empty() {
                results.programs = rig.sizes()?;
            }
            now = Some((case.world.clone(), rig));
        }
        let Some((_, rig)) = now.as_mut() else { continue };
        let row = sampler.row(&case, rig).with_context(|| table::name(&case))?;
        println!("{row}");
        rows.push((case.stream.rewritten, row));
    }
    for (rewritten, row) in &mut rows {
        row.noisy |= sampler.is_slow(*rewritten, row.base_ns);
    }
    let noisy = rows.iter().filter(|(_, row)| row.noisy).count();
    if noisy > 0 {
        let all = rows.len();
        println!("*: slower than this machine is at its best; with those found out later {noisy} of {all} rows");
    }
    if let (Some(before), Some(after)) = (before, Ticks::of_others(processor)) {
        println!("other processors were busy {} % of the time", after.busy_since(before));
    }
    results.rows = rows.into_iter().map(|(_, row)| row).collect();
    let quiet = || results.rows.iter().filter(|row| !row.noisy || noisy == results.rows.len());
    results.baselines = Baselines {
        return_ns: median(quiet().map(|row| row.base_ns)),
        head_ns: median(quiet().map(|row| row.head_ns)),
    };
    results.notes.push(
        "not measured: packets in transition (flow records read, written); there are no flow records yet".to_owned(),
    );
    Ok(())
}

fn is_wanted(case: &Case, only: Option<&str>) -> bool {
    only.is_none_or(|text| table::name(case).contains(text))
}

/// Keeps this thread on one processor, and says which.
fn stay_on_one_processor() -> Result<usize> {
    // The last one, as interrupts tend to go to the first one.
    let number = std::thread::available_parallelism()?.get() - 1;
    let mut last = CpuSet::new();
    last.set(number)?;
    sched_setaffinity(Pid::from_raw(0), &last).context("could not stay on one processor")?;
    Ok(number)
}

/// Lays out `world`, and loads the programs over it.
fn load(world: &world::World) -> Result<Rig> {
    let what = format!("{} services, {} backends, {} slots", world.services, world.backends, world.slots);
    step(&what, || Rig::load(&world.memory()?))
}
