//! The flow table in the kernel: two CPUs add the same flows concurrently.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, AsRawFd as _},
    slice,
    sync::{
        Barrier,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map},
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use edge_bench_ebpf::TablePlan;
use edge_common::flow_table::{Entry, Life, Native, Timeouts};
use memmap2::{MmapOptions, MmapRaw};

const ENTRIES: u32 = 256;
const FLOWS: u32 = 128;
/// Number of tables to fill.
const TABLES: u32 = 40;
/// Packets of each CPU per table: enough for both CPUs to work at the same time.
const PACKETS: u32 = 20_000;
const PROGRAM: &str = "table_dense_add";

fn mapped(bench: &Ebpf, name: &str, bytes: usize) -> MmapRaw {
    let Some(Map::Array(map)) = bench.map(name) else { panic!("no array `{name}`") };
    MmapOptions::new().len(bytes).map_raw(map.fd().as_fd().as_raw_fd()).expect("an array that can be mapped")
}

/// Sends packets of the same flows from two threads.
fn fill(bench: &mut Ebpf, first_flow: u32) {
    let plan = TablePlan { first_flow, flow_mask: FLOWS - 1, entry_mask: ENTRIES - 1, ..TablePlan::default() };
    let mut plans: Array<_, [u8; size_of::<TablePlan>()]> =
        Array::try_from(bench.map_mut("TABLE_PLAN").expect("a plan")).expect("an array");
    plans.set(0, bytemuck::cast::<_, [u8; size_of::<TablePlan>()]>(plan), 0).expect("an entry");
    let program: &Xdp = bench.program(PROGRAM).expect("the program").try_into().expect("an XDP program");
    let barrier = Barrier::new(2);
    let send = || {
        barrier.wait();
        let options = TestRunOptions { data_in: Some(&[0; 64]), repeat: PACKETS, ..TestRunOptions::default() };
        program.test_run(options).expect("a run");
    };
    thread::scope(|scope| {
        scope.spawn(send);
        scope.spawn(send);
    });
}

#[test]
fn two_cpus_that_add_the_same_flows_leave_one_entry_of_each() {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries("TABLE_INDEX", ENTRIES / 8).map_max_entries("TABLE_ENTRIES", ENTRIES);
    let path = edge_tests::workspace().join("target/bpf/bench");
    let mut bench = loader.load_file(path).expect("the built object (`cargo xtask build`)");
    let program: &mut Xdp = bench.program_mut(PROGRAM).expect("the program").try_into().expect("an XDP program");
    program.load().unwrap_or_else(|error| panic!("the kernel refuses `{PROGRAM}`: {error:#}"));
    let timeouts: [u64; 64] = bytemuck::cast(Timeouts::all([i32::MAX; 4]));
    let map = bench.map_mut("TABLE_TIMEOUTS").expect("time-outs");
    Array::<_, [u64; 64]>::try_from(map).expect("an array").set(0, timeouts, 0).expect("an entry");
    let (slots, entries) = (2 * ENTRIES as usize, ENTRIES as usize);
    let index = mapped(&bench, "TABLE_INDEX", slots * size_of::<u32>());
    let table = mapped(&bench, "TABLE_ENTRIES", entries * size_of::<Entry<Native>>());

    let mut given_up = 0;
    for number in 0..TABLES {
        for memory in [&index, &table] {
            // SAFETY: this writes the whole mapping, which nothing uses at the moment.
            unsafe { memory.as_mut_ptr().write_bytes(0, memory.len()) };
        }
        fill(&mut bench, number * FLOWS);
        // SAFETY: the mappings have these sizes, are aligned to pages, and outlive the slices; their words are atomic.
        let (slots, entries): (&[AtomicU32], &[Entry<Native>]) = unsafe {
            (slice::from_raw_parts(index.as_ptr().cast(), slots), slice::from_raw_parts(table.as_ptr().cast(), entries))
        };
        let mut flows = BTreeMap::new();
        for (place, entry) in (0u32..).zip(entries) {
            let life = Life(entry.life.load(Ordering::Acquire));
            assert!(!life.is_busy(), "an entry that stayed busy");
            given_up += (life.0 >> 48).saturating_sub(life.is_live().into());
            if life.is_live() {
                assert_eq!(flows.insert(entry.flow(), place), None, "a flow with two entries");
                let slot = slots[entry.slot() as usize].load(Ordering::Acquire);
                assert_eq!(slot & (ENTRIES - 1), place, "an entry whose slot names another one");
            }
        }
        assert_eq!(flows.len(), FLOWS as usize, "flows that were not added");
        let used = slots.iter().filter(|slot| slot.load(Ordering::Acquire) != 0).count();
        assert_eq!(used, flows.len(), "slots beside those of live flows");
    }
    println!("{given_up} entries given up");
}
