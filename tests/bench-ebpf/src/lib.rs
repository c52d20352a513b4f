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
    pub bytes: [u64; WORDS],
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
    /// 1: addresses and ports stand in `BENCH_FLOWS`, by the flow's number.
    pub listed: u32,
    /// Reads of `bench_reads`: of an entry alone, or of an index before it.
    pub reads: u32,
    /// Entries of the arrays that it reads, less one.
    pub entry_mask: u32,
    /// Zero.
    pub reserved: u32,
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
    pub const READS: u32 = 5;
    pub const HASHED: u32 = 6;
    pub const COUNT: u32 = 7;
}

/// What each round of a bench of flow tables does.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TablePlan {
    /// Rounds so far.
    pub rounds: u64,
    /// How many of them did what they were meant to.
    pub done: u64,
    /// Number of the first flow, and how many there are, less one; a power of two less one.
    pub first_flow: u32,
    pub flow_mask: u32,
    /// Entries of the dense table, less one.
    pub entry_mask: u32,
    /// Place of the program under test in `TABLE_PROGRAMS`, one of [`table`].
    pub program: u32,
}

impl TablePlan {
    /// The flow of this round: each comes once, and those that follow each other lie far apart.
    #[inline(always)]
    pub const fn flow(&self, round: u64) -> u32 {
        self.first_flow.wrapping_add(((round & 0xffff_ffff) as u32).wrapping_mul(0x9e37_79b1) & self.flow_mask)
    }
}

/// Places in `TABLE_PROGRAMS`, and what stands there.
pub mod table {
    pub const NONE: u32 = 0;
    pub const READS: u32 = 1;
    pub const DENSE: u32 = 2;
    pub const DENSE_ADD: u32 = 3;
    pub const HASHED: u32 = 4;
    pub const HASHED_ADD: u32 = 5;
    /// All, by their places.
    pub const NAMES: [&str; 6] =
        ["table_none", "table_reads", "table_dense", "table_dense_add", "table_hashed", "table_hashed_add"];
}

/// Address and ports of a flow's client, words of a frame.
#[inline(always)]
pub const fn client(flow: u32) -> (u32, u32) {
    ((0xc612_0000 + (flow >> 14)).to_be(), (0x4000 | flow & 0x3fff).to_be() >> 16 | 0xbb01 << 16)
}

/// Address of the VIP of all flows, likewise.
pub const VIP: u32 = u32::from_ne_bytes([192, 0, 2, 10]);

/// Key of the hash.
pub const HASH_KEY: [u32; 12] = [
    0x8c5a_1d3f,
    0x17e0_b246,
    0xd98b_6cf1,
    0x5e23_0a87,
    0x3bf4_91d2,
    0xa06c_7e59,
    0x61d7_f308,
    0xf215_48bc,
    0x0e9a_c573,
    0x94b8_267d,
    0xc7f1_5be0,
    0x2d46_8a9f,
];

/// A flow of one direction, as a program has it that translates by hash maps: addresses and ports as they stand in the frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct HashedFlow {
    pub source: u32,
    pub destination: u32,
    /// Of the source, and of the destination.
    pub ports: u32,
    pub protocol: u32,
}

/// What it makes of the flow's packets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct HashedWay {
    pub seen_ns: u64,
    pub source: u32,
    pub destination: u32,
    pub ports: u32,
    /// What the checksums change by: of the network header, and of the transport header.
    pub changes: [u16; 2],
    /// Both MAC addresses.
    pub addresses: [u32; 3],
    pub flags: u32,
}

/// What the hash map beside the dense table has of a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct HashedRecord {
    pub seen_ns: u64,
    pub backend: u32,
    /// Bits of the flow's hash: the kernel gives an entry to another flow while a packet reads it.
    pub fingerprint: u32,
}
