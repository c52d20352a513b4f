//! The kernel's flow table, mapped into this process.

use std::{
    cell::Cell,
    os::fd::{AsFd as _, AsRawFd as _},
    slice,
    sync::atomic::AtomicU32,
    thread::sleep,
    time::Duration,
};

use aya::{Ebpf, maps::Map};
use edge_common::{
    abi::{FlowBucket, FlowEntry, FlowHead, map},
    flow_table::{Entry, FlowMemory, Life, Native, SLOTS, UNIT, Word, since, units},
    host::{FlowArrays, Flows, Memory},
};
use memmap2::{MmapOptions, MmapRaw};
use nix::time::{ClockId, clock_gettime};

/// A flow table's two arrays in the kernel, which programs use concurrently.
pub struct MappedFlows {
    pub(super) index: MmapRaw,
    pub(super) entries: MmapRaw,
}

impl MappedFlows {
    /// The arrays of maps that were made for this number of entries.
    ///
    /// # Panics
    /// If the object has no such maps.
    pub fn new(object: &Ebpf, index: &str, flows: &str, entries: u32) -> Self {
        let entries = entries as usize;
        Self {
            index: mapped(object, index, (entries / 8).max(2) * size_of::<FlowBucket>()),
            entries: mapped(object, flows, entries * size_of::<FlowEntry>()),
        }
    }
}

impl FlowMemory for MappedFlows {
    type Words = Native;

    fn bucket(&self, number: u32) -> Option<&[AtomicU32]> {
        let at = number as usize * size_of::<FlowBucket>();
        if at + size_of::<FlowBucket>() > self.index.len() {
            return None;
        }
        // SAFETY: the bucket is in the mapping, which is aligned to a page and lives as long as `self`; its words are
        // atomic.
        Some(unsafe { slice::from_raw_parts(self.index.as_ptr().add(at).cast(), SLOTS as usize) })
    }

    fn entry(&self, number: u32) -> Option<&Entry<Native>> {
        let at = number as usize * size_of::<FlowEntry>();
        if at + size_of::<FlowEntry>() > self.entries.len() {
            return None;
        }
        // SAFETY: as for a bucket.
        Some(unsafe { &*self.entries.as_ptr().add(at).cast() })
    }
}

/// The three maps of the flow table.
pub(super) struct FlowsInKernel {
    head: MmapRaw,
    arrays: MappedFlows,
    /// Time of the last copy, in units of the kernel's time.
    copied: Cell<u32>,
}

impl FlowsInKernel {
    /// The table in maps that were loaded with this number of entries.
    pub(super) fn new(object: &Ebpf, entries: u32) -> Self {
        Self {
            head: mapped(object, map::FLOW_HEAD, size_of::<FlowHead>()),
            arrays: MappedFlows::new(object, map::FLOW_INDEX, map::FLOWS, entries),
            copied: Cell::new(now()),
        }
    }

    /// Whether a unit of time has passed since the copy. Packets then see flows later than earlier packets did, while
    /// on the host the time has not changed.
    pub(super) fn age(&self) -> bool {
        self.copied.get() != now()
    }

    /// Copies the table of `memory`, whose clock is another one; flows keep their ages.
    pub(super) fn copy(&self, memory: &Memory) {
        let Flows { head, arrays } = &memory.flows;
        let later = later(memory);
        self.copied.set(later.wrapping_add(units(memory.clock_ns.get())));
        write(&self.head, &[*head]);
        let bucket = |slots: &Vec<AtomicU32>| FlowBucket(std::array::from_fn(|at| Word::load(&slots[at])));
        write(&self.arrays.index, &arrays.buckets.iter().map(bucket).collect::<Vec<_>>());
        let entry = |entry: &Entry<_>| shifted(entry.words(), later, true);
        write(&self.arrays.entries, &arrays.entries.iter().map(entry).collect::<Vec<_>>());
    }

    /// A copy of the table, with times by the clock of `memory`.
    pub(super) fn read(&self, memory: &Memory) -> Flows {
        let earlier = earlier(memory);
        let [head]: [FlowHead; 1] = read(&self.head).try_into().expect("one head");
        let bucket = |FlowBucket(slots): FlowBucket| slots.map(Into::into).into();
        let buckets = read(&self.arrays.index).into_iter().map(bucket).collect();
        let entries =
            read(&self.arrays.entries).into_iter().map(|entry| Entry::from(shifted(entry, earlier, true))).collect();
        Flows { head, arrays: FlowArrays { buckets, entries } }
    }
}

/// The kernel's time, in units.
fn now() -> u32 {
    units(now_ns())
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("a clock");
    u64::try_from(Duration::from(now).as_nanos()).expect("some years")
}

/// Waits until enough of the current unit of the kernel's time is left.
pub(super) fn wait_for_long_unit() {
    let left = (1 << UNIT) - now_ns() % (1 << UNIT);
    if left < 1 << (UNIT - 5) {
        sleep(Duration::from_nanos(left) + Duration::from_millis(5));
    }
}

/// Difference between the kernel's clock and that of `memory`, in units.
pub(super) fn later(memory: &Memory) -> u32 {
    now().wrapping_sub(units(memory.clock_ns.get()))
}

pub(super) fn earlier(memory: &Memory) -> u32 {
    later(memory).wrapping_neg()
}

/// An entry whose times are later by `later` units: when its flow was last seen and, with `has_since`, when it was
/// added.
pub(super) fn shifted(FlowEntry(mut words): FlowEntry, later: u32, has_since: bool) -> FlowEntry {
    if Life(words[0]).is_live() {
        // Each time is added within its own bits: a carry must not reach the neighbouring fields.
        let add = |word: u64, more: u64, bits: u64| word & !bits | word.wrapping_add(more) & bits;
        words[0] = add(words[0], later.into(), 0xffff_ffff);
        if has_since {
            words[6] = add(words[6], u64::from(since(later)) << 16, 0xffff_0000);
        }
    }
    FlowEntry(words)
}

/// The first `length` bytes of an array map.
pub(super) fn mapped(object: &Ebpf, name: &str, length: usize) -> MmapRaw {
    let Some(Map::Array(data)) = object.map(name) else { panic!("{name} is no array") };
    MmapOptions::new().len(length).map_raw(data.fd().as_fd().as_raw_fd()).expect("a map that can be mapped")
}

pub(super) fn write<T: bytemuck::Pod>(to: &MmapRaw, values: &[T]) {
    let bytes: &[u8] = bytemuck::cast_slice(values);
    assert!(bytes.len() <= to.len(), "more than the map has room for");
    // SAFETY: the bytes are inside the mapping, to which no reference is ever made.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_mut_ptr(), bytes.len()) };
}

pub(super) fn read<T: bytemuck::Pod>(from: &MmapRaw) -> Vec<T> {
    let mut values = vec![T::zeroed(); from.len() / size_of::<T>()];
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
    // SAFETY: as in `write`; no program runs meanwhile.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), bytes.as_mut_ptr(), bytes.len()) };
    values
}
