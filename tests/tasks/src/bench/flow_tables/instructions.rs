//! Counts the instructions that each kind of work executes, in the interpreter.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bytemuck::bytes_of;
use edge_bench_ebpf::{TablePlan, table};
use edge_common::{
    abi::Timeouts,
    flow_table::{Entry, Native},
};

use super::{Flows, Work};
use crate::{
    interpreter::{Content, Machine, Program, Ran},
    programs::object,
};

/// Number of entries of the dense table.
const ENTRIES: u32 = 1 << 10;
/// A flow in the tables, and one that is not.
const KNOWN: u32 = 0;
const UNKNOWN: u32 = 1;
/// Times of the clock, nanoseconds: at the packet that added the flow, and at the next one.
const CLOCKS: [u64; 2] = [12_345_678_901, 23_456_789_012];

/// Instructions of each work, without those of a program that does nothing.
pub(super) fn of_all(works: &[Work]) -> Result<Vec<u32>> {
    let object = object("bench")?;
    let program = |place: u32| Program::link(&object, table::NAMES[place as usize]);
    let run = |place: u32, flow: u32, clock: u64, added: &[(&'static str, Content)]| {
        let program = program(place)?;
        let mut content = empty(flow);
        content.extend(added.iter().cloned());
        let mut machine = Machine::new(&program, content, clock)?;
        let ran = machine.run(&[0; 64], 1)?;
        let plan: TablePlan = bytemuck::pod_read_unaligned(machine.array("TABLE_PLAN"));
        anyhow::Ok((ran, plan.done, contents(&machine)))
    };
    let (Ran { instructions: none, .. }, _, _) = run(table::NONE, KNOWN, CLOCKS[0], &[])?;
    let one = |work: &Work| {
        let add = if work.table == "hash map" { table::HASHED_ADD } else { table::DENSE_ADD };
        let (_, _, added) = run(add, KNOWN, CLOCKS[0], &[])?;
        let flow = if work.flows == Flows::Known { KNOWN } else { UNKNOWN };
        let (ran, done, _) = run(work.program, flow, CLOCKS[1], &added)?;
        ensure!(done == u64::from(work.flows != Flows::Unknown), "it did something else");
        Ok(ran.instructions - none)
    };
    works.iter().map(|work| one(work).with_context(|| format!("{} {}", work.name, work.table))).collect()
}

/// Content of empty tables.
fn empty(flow: u32) -> BTreeMap<&'static str, Content> {
    let plan = TablePlan { first_flow: flow, entry_mask: ENTRIES - 1, ..TablePlan::default() };
    BTreeMap::from([
        ("TABLE_PLAN", Content::Array(bytes_of(&plan).to_vec())),
        ("TABLE_TIMEOUTS", Content::Array(bytes_of(&Timeouts::all([i32::MAX; 4])).to_vec())),
        ("TABLE_INDEX", Content::Array(vec![0; 8 * ENTRIES as usize])),
        ("TABLE_ENTRIES", Content::Array(vec![0; size_of::<Entry<Native>>() * ENTRIES as usize])),
        ("TABLE_HASHED", Content::Hash { entries: BTreeMap::new(), room: 4 }),
    ])
}

/// Content of the tables after a program's run.
fn contents(machine: &Machine<'_>) -> Vec<(&'static str, Content)> {
    let arrays = ["TABLE_INDEX", "TABLE_ENTRIES"].map(|name| (name, machine.array(name).to_vec()));
    let arrays = arrays.into_iter().filter(|(_, bytes)| !bytes.is_empty());
    let arrays = arrays.map(|(name, bytes)| (name, Content::Array(bytes)));
    let hashed = Content::Hash { entries: machine.hash("TABLE_HASHED"), room: 4 };
    arrays.chain([("TABLE_HASHED", hashed)]).collect()
}
