//! Compares flow tables: each round looks one flow up, or adds it, and does nothing else.
//!
//! All programs compute the flow's key and hash, and wait for the stores of the previous round, as the driver of the
//! other programs does, so that rounds do not overlap.

use core::{arch::asm, ptr};

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_MMAPABLE, xdp_action},
    helpers::bpf_ktime_get_coarse_ns,
    macros::{map, xdp},
    maps::{Array, HashMap, ProgramArray},
    programs::XdpContext,
};
use edge_bench_ebpf::{HASH_KEY, HashedRecord, TablePlan, VIP, client, table};
use edge_common::{
    abi::{FlowKeyV4, HashKey, Timeouts},
    flow_table::{
        Anywhere, Birth, Certainty, Class, Entry, Flow, FlowMemory, FlowTable, Native, SLOTS, Served, Signal, Stage,
        Words, units,
    },
    hash::Hash,
};

const CLASS: Class = Class::new(1).expect("a class");

pub(super) type Slots = [<Native as Words>::U32; SLOTS as usize];

#[map]
static TABLE_PLAN: Array<TablePlan> = Array::with_max_entries(1, 0);
#[map]
static TABLE_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(table::NAMES.len() as u32, 0);
#[map]
static TABLE_TIMEOUTS: Array<Timeouts> = Array::with_max_entries(1, 0);
#[map]
pub(super) static TABLE_INDEX: Array<Slots> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(super) static TABLE_ENTRIES: Array<Entry<Native>> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static TABLE_HASHED: HashMap<FlowKeyV4, HashedRecord> = HashMap::with_max_entries(1, 0);

/// The maps, and a value that is unknown to the verifier.
struct Maps(u32);

impl FlowMemory for Maps {
    type Words = Native;

    #[inline(always)]
    fn bucket(&self, number: u32) -> Option<&[<Native as Words>::U32]> {
        TABLE_INDEX.get(number).map(Slots::as_slice)
    }

    #[inline(always)]
    fn entry(&self, number: u32) -> Option<&Entry<Native>> {
        TABLE_ENTRIES.get(number)
    }

    #[inline(always)]
    fn merge_paths(&self, value: u64) -> u64 {
        let (mut hidden, unknown) = (value, u64::from(self.0));
        // SAFETY: the same bits are flipped twice, so the value is unchanged; only the verifier loses track of it.
        unsafe { asm!("{0} ^= {1}", "{0} ^= {1}", inout(reg) hidden, in(reg) unknown, options(pure, nomem, nostack)) };
        hidden
    }
}

/// Runs a round: `work` on the round's flow, which returns whether it succeeded.
#[inline(always)]
fn round(work: impl FnOnce(&TablePlan, &FlowKeyV4, Hash) -> Option<bool>) -> u32 {
    let Some(plan) = TABLE_PLAN.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: only one run uses this at a time; user space reads it after the run.
    let copy = unsafe { *plan };
    // SAFETY: it adds to a field of a live value.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) &raw mut (*plan).rounds, in(reg) 1u64) };
    let (client, ports) = client(copy.flow(copy.rounds));
    let key = FlowKeyV4 { client, vip: VIP, ports, protocol: 6 };
    let hash = HashKey(HASH_KEY).hash_v4(client.to_ne_bytes(), ports);
    // A program that does not use these values would not compute them.
    // SAFETY: this touches registers only.
    unsafe { asm!("{0} ^= {1}", inout(reg) u64::from(client) << 32 | u64::from(ports) => _, in(reg) hash.0) };
    let done = work(&copy, &key, hash).unwrap_or(false);
    // SAFETY: as above.
    unsafe { (*plan).done += u64::from(done) };
    xdp_action::XDP_TX
}

/// The dense table at the current time.
#[inline(always)]
fn dense<'a>(plan: &TablePlan, memory: &'a Maps) -> Option<FlowTable<'a, Maps>> {
    Some(FlowTable { memory, mask: plan.entry_mask, timeouts: TABLE_TIMEOUTS.get(0)?, now: memory.0 })
}

/// A flow in the table's format.
#[inline(always)]
const fn flow(key: &FlowKeyV4) -> Flow {
    Flow::v4(key.client.to_ne_bytes(), key.vip.to_ne_bytes(), key.ports, key.protocol as u8)
}

/// The current time in the table's units.
#[inline(always)]
fn now() -> u32 {
    // SAFETY: the helper takes nothing and reads a clock.
    units(unsafe { bpf_ktime_get_coarse_ns() })
}

/// Tail-calls the program under test.
#[xdp]
fn table_driver(ctx: XdpContext) -> u32 {
    // Tail calls with constant targets, as in the other driver.
    match TABLE_PLAN.get(0).map(|plan| plan.program) {
        // SAFETY: the context is this program's own; likewise below.
        Some(table::NONE) => unsafe { TABLE_PROGRAMS.tail_call(&ctx, table::NONE) },
        // SAFETY: as above.
        Some(table::READS) => unsafe { TABLE_PROGRAMS.tail_call(&ctx, table::READS) },
        // SAFETY: as above.
        Some(table::DENSE) => unsafe { TABLE_PROGRAMS.tail_call(&ctx, table::DENSE) },
        // SAFETY: as above.
        Some(table::DENSE_ADD) => unsafe { TABLE_PROGRAMS.tail_call(&ctx, table::DENSE_ADD) },
        // SAFETY: as above.
        Some(table::HASHED) => unsafe { TABLE_PROGRAMS.tail_call(&ctx, table::HASHED) },
        // SAFETY: as above.
        Some(table::HASHED_ADD) => unsafe { TABLE_PROGRAMS.tail_call(&ctx, table::HASHED_ADD) },
        _ => {}
    }
    xdp_action::XDP_ABORTED
}

/// The work that all programs share.
#[xdp]
fn table_none(_ctx: XdpContext) -> u32 {
    round(|_, _, _| Some(true))
}

/// Minimum cost of two arrays of the dense table's size: reads a word of each, at positions given by the hash.
#[xdp]
fn table_reads(_ctx: XdpContext) -> u32 {
    round(|plan, _, Hash(hash)| {
        let slots = TABLE_INDEX.get_ptr((hash >> 32) as u32 & plan.entry_mask / 8)?;
        // SAFETY: both pointers are valid.
        let slot = unsafe { ptr::read_volatile(slots.cast::<u32>()) };
        // The second position depends on the first word.
        let entry = TABLE_ENTRIES.get_ptr((hash >> 12) as u32 & plan.entry_mask ^ slot & 1)?;
        // SAFETY: as above.
        let life = unsafe { ptr::read_volatile(entry.cast::<u64>()) };
        Some(life != u64::MAX)
    })
}

/// Finds a flow in the dense table, and updates the time when it was last seen.
#[xdp]
fn table_dense(_ctx: XdpContext) -> u32 {
    round(|plan, key, hash| {
        let (memory, flow) = (Maps(now()), flow(key));
        let table = dense(plan, &memory)?;
        Some(table.see(&flow, hash, Signal::Bare, 0)?.served.backend != 0)
    })
}

/// Adds a new flow to the dense table.
#[xdp]
fn table_dense_add(_ctx: XdpContext) -> u32 {
    round(|plan, key, hash| {
        let (memory, flow) = (Maps(now()), flow(key));
        let table = dense(plan, &memory)?;
        if table.find(&flow, hash).is_some() {
            return Some(false);
        }
        let served = Served { backend: 7, ..Served::default() };
        let birth = Birth { stage: Stage::Established, class: CLASS, certainty: Certainty::Certain, served };
        Some(table.insert(&flow, hash, &birth, &Anywhere::new(hash, plan.entry_mask)).is_ok())
    })
}

/// Finds a flow in the kernel's hash map, as the packet path does.
#[xdp]
fn table_hashed(_ctx: XdpContext) -> u32 {
    round(|_, key, hash| {
        // SAFETY: the helper takes nothing and reads a clock.
        let now = unsafe { bpf_ktime_get_coarse_ns() };
        let record = TABLE_HASHED.get_ptr_mut(key)?;
        // SAFETY: the pointer is valid.
        unsafe {
            ptr::write_volatile(&raw mut (*record).seen_ns, now);
            Some(ptr::read_volatile(&raw const (*record).fingerprint) == hash.flow_label())
        }
    })
}

/// Adds a new flow to the kernel's hash map.
#[xdp]
fn table_hashed_add(_ctx: XdpContext) -> u32 {
    round(|_, key, hash| {
        // SAFETY: as above.
        let now = unsafe { bpf_ktime_get_coarse_ns() };
        if TABLE_HASHED.get_ptr_mut(key).is_some() {
            return Some(false);
        }
        let record = HashedRecord { seen_ns: now, backend: 7, fingerprint: hash.flow_label() };
        Some(TABLE_HASHED.insert(key, record, BPF_ANY.into()).is_ok())
    })
}
