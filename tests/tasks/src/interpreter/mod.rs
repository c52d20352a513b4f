//! Runs an eBPF program instruction by instruction outside the kernel, so that executed instructions can be counted
//! exactly.
//!
//! The interpreter trusts the program, which the kernel's verifier checks. It supports those instructions and helpers that the
//! measured packets need, and rejects all others.

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
