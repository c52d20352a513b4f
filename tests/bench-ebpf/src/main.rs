//! The XDP programs of the bench; an empty program on targets other than BPF.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod programs;
#[cfg(target_arch = "bpf")]
mod tables;
#[cfg(target_arch = "bpf")]
mod translated;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
