//! The packet path's two traits on plain memory, so that the same code runs in tests and tools without a kernel.

mod frame;
mod memory;

pub use frame::Frame;
pub use memory::{FlowTable, Memory};
