//! Sequences of frames through the packet path on the host, changed by libFuzzer where that leads to new code.
//!
//! `cargo xtask fuzz` builds it with what libFuzzer needs; see there.

#![no_main]

use std::sync::LazyLock;

use edge_common::host::Memory;
use edge_tests::{
    cases::{self, Case, Scene},
    hostile::sequence,
};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| cases::all(&Scene::new()));

thread_local! {
    static MEMORY: Memory = Scene::new().world.memory();
}

fuzz_target!(|bytes: &[u8]| {
    let memory = MEMORY.with(Memory::clone);
    if let Err(error) = sequence::run(&memory, &sequence::read(bytes)) {
        panic!("{error}");
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // One in four by libFuzzer itself, which knows constants that the code compares with.
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
