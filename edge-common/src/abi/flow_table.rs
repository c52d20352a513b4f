//! The flow table's memory, as user space makes it; what stands in it is [`flow_table`](crate::flow_table)'s.

use bytemuck::{Pod, Zeroable};

/// States that limits are kept for.
pub const FLOW_STATES: usize = 64;

/// How long an entry may be silent, in units.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Limits {
    /// For longer, and anybody may take it.
    pub timeout: i32,
    /// For less, and it is not taken even when nothing else can be.
    pub kept: i32,
}

/// The limits of each state.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Timeouts(pub [Limits; FLOW_STATES]);

/// What packets need to know of the flow table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowHead {
    pub timeouts: Timeouts,
    /// Entries, less one; a power of two less one.
    pub mask: u32,
    /// Zero.
    pub reserved: u32,
}

/// The slots of a bucket: one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowBucket(pub [u32; 16]);

/// The words of an entry: one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowEntry(pub [u64; 8]);
