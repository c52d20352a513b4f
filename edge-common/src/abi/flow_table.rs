//! Memory layout of the flow table, for user space; [`flow_table`](crate::flow_table) defines the content.

use bytemuck::{Pod, Zeroable};

/// Number of states that have limits of their own.
pub const FLOW_STATES: usize = 64;

/// Limits on the time that an entry may be silent, in [units](crate::flow_table::units).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Limits {
    /// An entry that is silent for longer may be taken by any flow.
    pub timeout: i32,
    /// An entry that is silent for less is not taken, even when nothing else can be.
    pub kept: i32,
}

/// The limits of each state.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Timeouts(pub [Limits; FLOW_STATES]);

/// Parameters of the flow table that the packet path reads.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowHead {
    pub timeouts: Timeouts,
    /// Number of entries less one; a power of two less one.
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
