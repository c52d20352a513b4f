//! What each packet costs.
//!
//! A test run of the kernel repeats one packet, as the last round left it. So the timed program is a driver (see
//! `edge-bench-ebpf`) that makes the packet new, stamps the next flow into it, and goes on to the program under test.
//! What the driver itself costs is measured beside each sample, with a program that returns at once.

mod cases;
mod frames;
mod live;
mod rig;
mod sample;
mod table;
mod world;

use anyhow::{Context as _, Result};
use edge_common::host::Memory;
use nix::{
    sched::{CloneFlags, CpuSet, sched_setaffinity, unshare},
    unistd::Pid,
};

pub(super) use self::live::measure as measure_live;
use self::{cases::Case, rig::Rig, sample::Sampler};
use super::results::{Results, median};
use crate::{programs, step::step};

/// Measures the rows whose name (as in the table, spaces between its words) contains `only`, and prints each.
///
/// The thread that calls it stays on one processor and in a network namespace of its own.
pub(super) fn measure(results: &mut Results, quick: bool, only: Option<&str>) -> Result<()> {
    stay_on_one_processor()?;
    // The driver is put on an interface; on one that nobody else has.
    unshare(CloneFlags::CLONE_NEWNET).context("could not make a network namespace")?;

    let mut now: Option<(world::World, Memory, Rig)> = None;
    let mut sampler = Sampler::new(quick);
    println!("{}", table::heading());
    for case in cases::timed(quick).into_iter().filter(|case| is_wanted(case, only)) {
        if now.as_ref().is_none_or(|(world, ..)| *world != case.world) {
            drop(now.take());
            let (memory, rig) = load(&case.world)?;
            now = Some((case.world.clone(), memory, rig));
        }
        let Some((_, memory, rig)) = now.as_mut() else { continue };
        let row = sampler.row(&case, memory, rig).with_context(|| table::name(&case))?;
        println!("{row}");
        results.rows.push(row);
    }
    results.programs = programs::sizes()?;
    results.baselines.return_ns = median(results.rows.iter().map(|row| row.base_ns));
    results.baselines.head_ns = median(results.rows.iter().map(|row| row.head_ns));
    let noisy = results.rows.iter().filter(|row| row.is_noisy()).count();
    if noisy > 0 {
        println!("*: the machine was busy or slow in most samples; take the ratios, not the times ({noisy} rows)");
    }
    results.notes.push("in transition (flow records read, written): there are no flow records yet".to_owned());
    Ok(())
}

fn is_wanted(case: &Case, only: Option<&str>) -> bool {
    only.is_none_or(|text| table::name(case).contains(text))
}

fn stay_on_one_processor() -> Result<()> {
    let mut last = CpuSet::new();
    // The last processor, as interrupts tend to go to the first one.
    last.set(std::thread::available_parallelism()?.get() - 1)?;
    sched_setaffinity(Pid::from_raw(0), &last).context("could not stay on one processor")
}

/// Lays out `world`, and loads the programs over it.
fn load(world: &world::World) -> Result<(Memory, Rig)> {
    let what = format!("{} services, {} backends, {} slots", world.services, world.backends, world.slots);
    step(&what, || {
        let memory = world.memory()?;
        let rig = Rig::load(&memory)?;
        Ok((memory, rig))
    })
}
