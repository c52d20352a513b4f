//! Changes many entries of a hash map by one system call.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapData;
use nix::libc;

/// Commands of `bpf(2)`.
const UPDATE_BATCH: u32 = 26;
const DELETE_BATCH: u32 = 27;

/// The `batch` of the kernel's `union bpf_attr`.
#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Sets the values of `count` keys.
pub(in super::super) fn update(map: &MapData, keys: &[u8], values: &[u8], count: usize) -> Result<()> {
    run(UPDATE_BATCH, map, keys, values, count)
}

/// Deletes `count` keys, all of which must exist.
pub(in super::super) fn delete(map: &MapData, keys: &[u8], count: usize) -> Result<()> {
    run(DELETE_BATCH, map, keys, &[], count)
}

fn run(command: u32, map: &MapData, keys: &[u8], values: &[u8], count: usize) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let wanted = u32::try_from(count)?;
    let mut batch = Batch {
        from: 0,
        to: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: wanted,
        map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads `count` keys and values, which are in the caller's slices, and writes how many it
    // processed.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut batch, size_of::<Batch>()) };
    if result != 0 {
        let error = io::Error::last_os_error();
        return Err(error).with_context(|| format!("only {} of {count} records could be changed", batch.count));
    }
    ensure!(batch.count == wanted, "only {} of {count} records were changed", batch.count);
    Ok(())
}
