//! The two traits of the packet path on plain memory, so that the same code runs in tests and tools without a kernel.

mod frame;
mod memory;
mod flow_arrays;
mod nat;
mod locate;

pub use flow_arrays::{FlowArrays, FlowRecord, Flows};
pub use frame::Frame;
pub use locate::Located;
pub use memory::Memory;
pub use nat::{Nat, Translated};
