//! A shared array map in the controller's memory. All `unsafe` code for mapped memory is here.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr, slice,
    sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64},
};

use bytemuck::Pod;
use edge_common::{
    abi::{FlowBucket, FlowEntry, NatHop},
    flow_table::{Entry, Native, SLOTS},
    maps::HopWords,
};
use memmap2::{MmapOptions, MmapRaw};

/// The entries of an array map made with `BPF_F_MMAPABLE`.
///
/// The packet path reads and writes the same memory at any time, and so may another `edge-ctl`. So nothing here hands
/// out a reference to plain memory: values are copied in and out, and words that change concurrently are atomics.
#[derive(Debug)]
pub(crate) struct Mapped<T> {
    memory: MmapRaw,
    entries: u32,
    values: PhantomData<T>,
}

impl<T: Pod> Mapped<T> {
    /// Bytes from one value to the next: the kernel gives each a multiple of 8.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// Maps all of the map behind `fd`, which has `entries` values of `T`'s size.
    pub(crate) fn new(fd: BorrowedFd<'_>, entries: u32) -> io::Result<Self> {
        // The kernel refuses a mapping that is longer than the map, up to its last page.
        let memory = MmapOptions::new().len(Self::STRIDE * entries as usize).map_raw(fd.as_raw_fd())?;
        Ok(Self { memory, entries, values: PhantomData })
    }

    pub(super) const fn len(&self) -> u32 {
        self.entries
    }

    fn at(&self, index: u32) -> Option<*mut T> {
        // SAFETY: the mapping has `entries` strides of bytes, and `index` is below `entries`. Strides are a multiple of
        // 8, the mapping starts on a page, and no ABI type has a larger alignment than its stride (64 for a backend).
        (index < self.entries).then(|| unsafe { self.memory.as_mut_ptr().add(index as usize * Self::STRIDE).cast() })
    }

    /// A copy of a value; `None` past the end of the map.
    pub(super) fn read(&self, index: u32) -> Option<T> {
        // SAFETY: `at` points to a live, aligned `T` in the mapping, and any bytes are one (`Pod`). Volatile, since others
        // write concurrently; a value may be read half written, as by the packet path.
        self.at(index).map(|value| unsafe { ptr::read_volatile(value) })
    }

    /// Copies of all values.
    pub(super) fn all(&self) -> impl Iterator<Item = T> {
        (0..self.len()).map_while(|index| self.read(index))
    }

    /// Writes a value; `None` past the end of the map.
    pub(crate) fn write(&self, index: u32, value: T) -> Option<()> {
        // SAFETY: as in `read`; the mapping is writable, and there is no reference to its plain memory.
        self.at(index).map(|to| unsafe { ptr::write_volatile(to, value) })
    }

    /// Writes a run of values; `None`, with nothing written, if the run goes past the end of the map.
    pub(crate) fn write_run(&self, first: u32, values: &[T]) -> Option<()> {
        let end = first.checked_add(u32::try_from(values.len()).ok()?)?;
        if end > self.entries {
            return None;
        }
        (first..end).zip(values).try_for_each(|(index, value)| self.write(index, *value))
    }

    /// Writes the `U` at `offset` bytes into a value; `None` past the end.
    pub(super) fn write_part<U: Pod>(&self, index: u32, offset: usize, part: U) -> Option<()> {
        assert!(offset.is_multiple_of(align_of::<U>()) && offset + size_of::<U>() <= size_of::<T>());
        // SAFETY: inside the value and aligned (asserted); else as in `write`.
        self.at(index).map(|value| unsafe { ptr::write_volatile(value.byte_add(offset).cast(), part) })
    }

    /// A `u32` at `offset` bytes into a value.
    pub(super) fn atomic_u32(&self, index: u32, offset: usize) -> Option<&AtomicU32> {
        assert!(offset.is_multiple_of(4) && offset + 4 <= size_of::<T>());
        // SAFETY: inside the value and aligned (asserted); lives as long as the mapping that `self` owns; all of this
        // process's accesses to such a word while others may change it go through this atomic.
        self.at(index).map(|value| unsafe { AtomicU32::from_ptr(value.byte_add(offset).cast()) })
    }

    /// A `u64` at `offset` bytes into a value.
    pub(super) fn atomic_u64(&self, index: u32, offset: usize) -> Option<&AtomicU64> {
        assert!(offset.is_multiple_of(8) && offset + 8 <= size_of::<T>());
        // SAFETY: as in `atomic_u32`.
        self.at(index).map(|value| unsafe { AtomicU64::from_ptr(value.byte_add(offset).cast()) })
    }

    /// A `u16` at `offset` bytes into a value.
    pub(super) fn atomic_u16(&self, index: u32, offset: usize) -> Option<&AtomicU16> {
        assert!(offset.is_multiple_of(2) && offset + 2 <= size_of::<T>());
        // SAFETY: as in `atomic_u32`.
        self.at(index).map(|value| unsafe { AtomicU16::from_ptr(value.byte_add(offset).cast()) })
    }

    /// A `u8` at `offset` bytes into a value.
    pub(super) fn atomic_u8(&self, index: u32, offset: usize) -> Option<&AtomicU8> {
        assert!(offset < size_of::<T>());
        // SAFETY: as in `atomic_u32`.
        self.at(index).map(|value| unsafe { AtomicU8::from_ptr(value.byte_add(offset).cast()) })
    }

    /// A reference to a value that others change concurrently, for tests that read it as the packet path does.
    #[cfg(test)]
    pub(super) fn live(&self, index: u32) -> Option<&T> {
        // SAFETY: a valid and aligned pointer; the tests read through it as the packet path does, and do nothing else
        // with it.
        self.at(index).map(|value| unsafe { &*value })
    }
}

impl Mapped<FlowBucket> {
    /// The slots of a bucket, which packets read and write at any time; `None` past the end.
    pub(super) fn slots(&self, index: u32) -> Option<&[AtomicU32]> {
        // SAFETY: a valid pointer to as many words, which lives as long as `self`; all accesses to them are atomic.
        self.at(index).map(|bucket| unsafe { slice::from_raw_parts(bucket.cast::<AtomicU32>(), SLOTS as usize) })
    }
}

impl Mapped<NatHop> {
    /// The words of a next hop, which packets read and write at any time; `None` past the end.
    pub(super) fn words(&self, index: u32) -> Option<&HopWords> {
        // SAFETY: as above: it is nothing but words.
        self.at(index).map(|hop| unsafe { &*hop.cast() })
    }
}

impl Mapped<FlowEntry> {
    /// The words of an entry, which packets read and write at any time; `None` past the end.
    pub(super) fn entry(&self, index: u32) -> Option<&Entry<Native>> {
        // SAFETY: as above: an entry is nothing but atomic words.
        self.at(index).map(|entry| unsafe { &*entry.cast() })
    }
}
