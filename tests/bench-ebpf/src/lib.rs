//! What user space tells the bench's programs, and what they tell it.

#![no_std]

use bytemuck::{Pod, Zeroable};

/// Restored bytes, in words of eight: the most that an answer rewrites (Ethernet, IPv6 and TCP headers), and more.
pub const WORDS: usize = 12;
/// As many of them as forwarding rewrites: the Ethernet header, and the TTL or hop limit.
pub const FORWARDED_WORDS: usize = 4;

/// What each round does.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Plan {
    /// Start of the frame.
    pub bytes: [[u8; 8]; WORDS],
    /// Length of the frame.
    pub length: u32,
    /// Flows, less one; a power of two less one.
    pub flow_mask: u32,
    /// Services that the flows go to, by consecutive ports.
    pub services: u32,
    /// Port of the first one, host order.
    pub first_port: u32,
    /// Where the flow's four bytes of the source address go, and its ports; both below 256.
    pub address_at: u32,
    pub ports_at: u32,
    /// 1: all of `bytes` are restored, and the frame's end, too; 0: as many as forwarding rewrites.
    pub rewritten: u32,
    /// Bytes that the program under test moves the head by: positive makes the frame longer.
    pub head: i32,
    /// Bytes that `bench_tail` cuts off.
    pub cut: u32,
    /// Place of the program under test in `BENCH_PROGRAMS`, one of [`place`].
    pub target: u32,
}

/// What the rounds did.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Progress {
    pub rounds: u64,
    /// Sum of the undone moves of the head, bytes; it wraps.
    pub undone: u64,
}

/// What came out of a device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Arrived {
    pub frames: u64,
    pub bytes: u64,
}

/// Places in `BENCH_PROGRAMS`.
pub mod place {
    pub const RETURN: u32 = 0;
    pub const HEAD: u32 = 1;
    pub const TAIL: u32 = 2;
    pub const EDGE: u32 = 3;
    pub const DECAP: u32 = 4;
    pub const COUNT: u32 = 5;
}
