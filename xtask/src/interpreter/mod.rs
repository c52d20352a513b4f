//! Runs an eBPF program instruction by instruction, outside the kernel: what it executes can be counted exactly.
//!
//! It trusts the program: that is for the kernel's verifier to look at. It knows as much of the instruction set and as many
//! of the helpers as the packets need that it is used for, and refuses the rest.

mod object;
mod machine;
mod maps;
mod memory;
mod arithmetic;

pub(crate) use self::{
    machine::{Machine, Ran},
    maps::Content,
    object::Program,
};
