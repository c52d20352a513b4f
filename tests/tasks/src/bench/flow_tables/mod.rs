//! The cost of the dense flow table, compared with the kernel's hash map, and with two reads of arrays of its size.
//!
//! Each turn runs all programs on the same flows, one after the other, between two runs of a program that only makes
//! the flow's key and hash. The time of that program is subtracted; ratios are within a turn, and the rows contain
//! medians.

mod instructions;
mod rig;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use edge_bench_ebpf::table;
use nix::sched::{CloneFlags, unshare};
use xtask::step::step;

use self::rig::{Flows, Rig};
use super::results::{FlowTable, Results, median};

/// Number of flows in a run, all of which are added in runs that add.
const ROUNDS: u32 = 1_999;
/// Maximum excess of a turn's baseline over the best one of all turns.
const PACE: f64 = 0.25;

/// A kind of work, and the index of its program.
struct Work {
    name: &'static str,
    table: &'static str,
    program: u32,
    flows: Flows,
}

const fn work(name: &'static str, table: &'static str, program: u32, flows: Flows) -> Work {
    Work { name, table, program, flows }
}

const READS: usize = 0;
const WORKS: [Work; 7] = [
    work("find", "two reads", table::READS, Flows::Known),
    work("find", "dense", table::DENSE, Flows::Known),
    work("find", "hash map", table::HASHED, Flows::Known),
    work("miss", "dense", table::DENSE, Flows::Unknown),
    work("miss", "hash map", table::HASHED, Flows::Unknown),
    work("add", "dense", table::DENSE_ADD, Flows::Added),
    work("add", "hash map", table::HASHED_ADD, Flows::Added),
];

/// Nanoseconds of each work in one turn.
struct Turn {
    slower_base: f64,
    net: [f64; WORKS.len()],
}

/// Measures the flow tables. The calling thread is left in a new network namespace.
pub(super) fn measure(results: &mut Results, quick: bool) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("could not make a network namespace")?;
    let executed = instructions::of_all(&WORKS).context("could not count instructions")?;
    for flows in [1 << 10, 1 << 17, 1 << 20] {
        let mut rig = step(&format!("flow tables with {flows} flows"), || Rig::load(flows))?;
        let end = Instant::now() + Duration::from_secs(if quick { 4 } else { 20 });
        let mut turns = vec![turn(&mut rig)?];
        while Instant::now() < end {
            turns.push(turn(&mut rig)?);
        }
        let fastest = turns.iter().map(|turn| turn.slower_base).fold(f64::INFINITY, f64::min);
        turns.retain(|turn| turn.slower_base < (1.0 + PACE) * fastest);
        results.flow_tables.extend((0..WORKS.len()).map(|place| row(place, executed[place], flows, &turns)));
        if results.programs.iter().all(|size| size.program != "table_dense") {
            results.programs.extend(rig.sizes()?);
        }
    }
    Ok(())
}

fn turn(rig: &mut Rig) -> Result<Turn> {
    let rounds = ROUNDS.min(rig.flows() / 8);
    let before = rig.run(table::NONE, Flows::Known, rounds)?;
    let mut raw = [0.0; WORKS.len()];
    for (raw, Work { program, flows, .. }) in raw.iter_mut().zip(&WORKS) {
        *raw = rig.run(*program, *flows, rounds)?;
    }
    let after = rig.run(table::NONE, Flows::Known, rounds)?;
    Ok(Turn { slower_base: before.max(after), net: raw.map(|raw| raw - f64::midpoint(before, after)) })
}

fn row(place: usize, instructions: u32, flows: u32, turns: &[Turn]) -> FlowTable {
    let work = &WORKS[place];
    let hash_map = WORKS.iter().position(|other| other.name == work.name && other.table == "hash map");
    let over = |other: usize| median(turns.iter().map(|turn| turn.net[place] / turn.net[other]));
    let net_ns = median(turns.iter().map(|turn| turn.net[place]));
    FlowTable {
        work: work.name.to_owned(),
        table: work.table.to_owned(),
        flows,
        instructions,
        net_ns,
        ratio_hash_map: hash_map.map_or(f64::NAN, over),
        ratio_reads: over(READS),
        spread: median(turns.iter().map(|turn| (turn.net[place] - net_ns).abs())) / net_ns,
        turns: turns.len(),
    }
}
