//! Structs that user space and the bench's programs exchange.

#![no_std]

use bytemuck::{Pod, Zeroable};

/// Number of restored words of eight bytes: at least the most that an answer rewrites (Ethernet, IPv6 and TCP headers).
pub const WORDS: usize = 12;
/// Number of words that forwarding rewrites: the Ethernet header, and the TTL or hop limit.
pub const FORWARDED_WORDS: usize = 4;

/// Parameters of each round.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Plan {
    /// Start of the frame.
    pub bytes: [u64; WORDS],
    /// Length of the frame.
    pub length: u32,
    /// Number of flows, less one; a power of two less one.
    pub flow_mask: u32,
    /// Number of services that the flows go to, at consecutive ports.
    pub services: u32,
    /// Port of the first service, host order.
    pub first_port: u32,
    /// Offsets of the flow's four bytes of the source address, and of its ports; both below 256.
    pub address_at: u32,
    pub ports_at: u32,
    /// 1 restores all of `bytes` and the frame's end; 0 restores what forwarding rewrites.
    pub rewritten: u32,
    /// Bytes by which the program under test moves the head; positive values make the frame longer.
    pub head: i32,
    /// Bytes that `bench_tail` cuts off.
    pub cut: u32,
    /// Index of the program under test in `BENCH_PROGRAMS`, one of [`place`].
    pub target: u32,
    /// 1 if addresses and ports are in `BENCH_FLOWS`, by the flow's number.
    pub listed: u32,
    /// Number of reads by `bench_reads`: of an entry only, or of an index before it.
    pub reads: u32,
    /// Entries of the arrays of `bench_reads`, less one.
    pub entry_mask: u32,
    /// Always zero.
    pub reserved: u32,
}

/// Results of the rounds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Progress {
    pub rounds: u64,
    /// Sum of the undone moves of the head, bytes; wraps around.
    pub undone: u64,
}

/// Frames received by a device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Arrived {
    pub frames: u64,
    pub bytes: u64,
}

/// Indexes in `BENCH_PROGRAMS`.
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

/// Parameters and results of the rounds in a bench of flow tables.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TablePlan {
    /// Rounds so far.
    pub rounds: u64,
    /// Number of rounds that succeeded.
    pub done: u64,
    /// Number of the first flow; and the number of flows, less one, a power of two less one.
    pub first_flow: u32,
    pub flow_mask: u32,
    /// Entries of the dense table, less one.
    pub entry_mask: u32,
    /// Index of the program under test in `TABLE_PROGRAMS`, one of [`table`].
    pub program: u32,
}

impl TablePlan {
    /// The flow of this round: each flow comes once, and consecutive flows are far apart.
    #[inline(always)]
    pub const fn flow(&self, round: u64) -> u32 {
        self.first_flow.wrapping_add(((round & 0xffff_ffff) as u32).wrapping_mul(0x9e37_79b1) & self.flow_mask)
    }
}

/// Indexes in `TABLE_PROGRAMS`, and the programs' names.
pub mod table {
    pub const NONE: u32 = 0;
    pub const READS: u32 = 1;
    pub const DENSE: u32 = 2;
    pub const DENSE_ADD: u32 = 3;
    pub const HASHED: u32 = 4;
    pub const HASHED_ADD: u32 = 5;
    /// Names of all programs, by index.
    pub const NAMES: [&str; 6] =
        ["table_none", "table_reads", "table_dense", "table_dense_add", "table_hashed", "table_hashed_add"];
}

/// Address and ports of a flow's client, as words of a frame.
#[inline(always)]
pub const fn client(flow: u32) -> (u32, u32) {
    ((0xc612_0000 + (flow >> 14)).to_be(), (0x4000 | flow & 0x3fff).to_be() >> 16 | 0xbb01 << 16)
}

/// Address of the VIP of all flows, as a word of a frame.
pub const VIP: u32 = u32::from_ne_bytes([192, 0, 2, 10]);

/// The hash key.
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

/// Key of a flow in one direction in the hash maps of translation: addresses and ports as in the frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct HashedFlow {
    pub source: u32,
    pub destination: u32,
    /// Ports of the source and of the destination.
    pub ports: u32,
    pub protocol: u32,
}

/// The translation of a flow's packets in one direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct HashedPath {
    pub seen_ns: u64,
    pub source: u32,
    pub destination: u32,
    pub ports: u32,
    /// Changes of the checksums: of the network header, and of the transport header.
    pub changes: [u16; 2],
    /// The new MAC addresses.
    pub addresses: [u32; 3],
    pub flags: u32,
}

/// A flow's record in the hash map that is compared with the dense table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct HashedRecord {
    pub seen_ns: u64,
    pub backend: u32,
    /// Bits of the flow's hash: the kernel may reuse an entry for another flow while a packet reads it.
    pub fingerprint: u32,
}
