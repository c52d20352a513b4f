//! Fuzzes the packet path on the host with sequences of frames, which libFuzzer mutates for coverage.
//!
//! `cargo xtask fuzz` builds it with libFuzzer's instrumentation.

#![no_main]

use std::{cell::Cell, sync::LazyLock};

use edge_common::host::Memory;
use edge_tests::{
    cases::{self, Case, Scene},
    hostile::sequence,
};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| cases::all(&Scene::new()));

thread_local! {
    static MEMORY: Memory = Scene::new().world.memory();
    /// Number of frames sent.
    static SENT: Cell<u64> = const { Cell::new(0) };
}

/// Frames between two log lines: libFuzzer counts sequences, not frames.
const LINE: u64 = 1_000_000;

fuzz_target!(|bytes: &[u8]| {
    let memory = MEMORY.with(Memory::clone);
    let steps = sequence::read(bytes);
    if let Err(error) = sequence::run(&memory, &steps) {
        panic!("{error}");
    }
    let before = SENT.get();
    SENT.set(before + steps.len() as u64);
    if SENT.get() / LINE > before / LINE {
        eprintln!("{} million frames, no rule broken", SENT.get() / LINE);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // A quarter is mutated by libFuzzer itself, which knows constants that the code compares with.
    if seed.is_multiple_of(4) {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut steps = sequence::read(&data[..size]);
    sequence::mutate(&mut steps, &CASES, seed.into());
    let bytes = sequence::write(&steps);
    let length = bytes.len().min(max_size);
    data[..length].copy_from_slice(&bytes[..length]);
    length
});
