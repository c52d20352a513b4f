//! The binary interface between the packet path and user space: every type that is stored in a BPF map.
//!
//! Each type is declared once, `#[repr(C)]`, without implicit padding (bytemuck's `Pod` refuses it), and its size is
//! asserted here. Addresses and ports keep network order as byte arrays; everything else is in host order.
//!
//! [`map`] has the table of all maps, with the writer and the reader of each.
//!
//! The key of a fragmented packet is that of a flow, with the packet's identification in place of the ports.
//!
//! Banks (double buffering): everything that belongs to a generation is kept twice. The controller writes all of the
//! inactive bank, and publishes it with one store to `PUBLISHED`. The two banks are interleaved ([`banked`]), so that the
//! packet path need not know the size of any map.

mod maps;
mod generation;
mod hash_key;
mod service_index;
mod mac;
mod backend;
mod pool;
mod service;
mod slot;
mod flow;
mod flow_table;
mod flow_counts;
mod nat;
mod rate_limiter;
mod decap;
mod evidence;
mod probe;
mod exit;
mod stats;
mod snapshot;
mod traced;

pub use backend::{Backend, BackendNumber, Family, State};
pub use decap::{AddressPrefix, DecapSettings, MssLimits, Role};
pub use evidence::{Evidence, Sign};
pub use exit::{DecapExit, Exit, MssExit, Verdict};
pub use flow::{FlowEnds, FlowKeyV4, FlowKeyV6, FragmentRecord};
pub use flow_counts::{FlowCount, FlowCounts};
pub use flow_table::{FLOW_STATES, FlowBucket, FlowEntry, FlowHead, Limits, Timeouts};
pub use generation::{AnswerLimits, Generation, MAX_STATIONS, Published, VipOther};
pub use hash_key::HashKey;
pub use mac::{Mac, Station};
pub use maps::{Dimension, Entries, MAPS, MapKind, MapSpec, map};
pub use nat::{NAT_HOPS, NAT_SOURCES, NatChoice, NatHead, NatHop, NatSource};
pub use pool::{CELL, Cell, Pool, RETURN_PLACES, return_place};
pub use probe::ProbeRoute;
pub use rate_limiter::{RateLimited, RateLimiter};
pub use service::{Failover, MAX_POOLS, Mode, ServerCell, Service, Tracking, WhenExhausted};
pub(crate) use service_index::halves;
pub use service_index::{ServiceEntryV4, ServiceEntryV6, ServiceKeyV4, ServiceKeyV6, ServiceRef, VIP_ENTRY};
pub use slot::{SLOTS_PER_CELL, Slot, SlotAddress, SlotCell, Unrecorded, slot_address};
pub use snapshot::{Note, SNAPSHOT_PAGE, SnapshotHead, SnapshotPage};
pub use stats::Traffic;
pub use traced::{ClientPrefix, TRACED_BYTES, TraceFilter, TraceState, TracedFrame, traced_flags};

/// Version of this interface; part of the pin path. Raise it with any change of a type, a map or their meaning.
pub const ABI_VERSION: u32 = 16;

/// Index of a position in a map with two banks.
#[inline(always)]
pub const fn banked(bank: u32, position: u32) -> u32 {
    position << 1 | (bank & 1)
}

/// Program names in the object file.
pub mod program {
    /// The load balancer.
    pub const EDGE: &str = "edge";
    /// The translation program, which receives packets from the load balancer by a tail call.
    pub const NAT: &str = "nat";
    /// The map of programs by which the load balancer calls it; [`NAT_AT`] is its index there.
    pub const CALLS: &str = "CALLS";
    pub const NAT_AT: u32 = 0;
    /// The load balancer for packets that are traced, in the object of traces; the map by which it is called, and its index
    /// there.
    pub const TRACED: &str = "traced";
    pub const TRACED_CALLS: &str = "TRACED_CALLS";
    pub const TRACED_AT: u32 = 0;
    /// The decapsulation program of a tunnel backend.
    pub const DECAP: &str = "decap";
    /// Lowers the maximum segment size in the SYN-ACKs of a tunnel backend: a tc program.
    pub const MSS: &str = "mss";
    /// Sends the controller's probes on the path of clients' packets: a tc program.
    pub const PROBE_OUT: &str = "probe_out";
    /// Receives the answers to probes: a tc program.
    pub const PROBE_IN: &str = "probe_in";
}

const _: () = {
    assert!(size_of::<TraceFilter>() == 88);
    assert!(size_of::<TraceState>() == 48);
    assert!(size_of::<TracedFrame>() == 48 + 2 * TRACED_BYTES);
    assert!(size_of::<Generation>() == 512);
    assert!(size_of::<Published>() == 1032);
    assert!(size_of::<ServiceKeyV4>() == 8);
    assert!(size_of::<ServiceKeyV6>() == 24);
    assert!(size_of::<ServiceEntryV4>() == 16);
    assert!(size_of::<ServiceEntryV6>() == 32);
    assert!(size_of::<Service>() == 56);
    assert!(size_of::<Pool>() == 32);
    assert!(size_of::<Backend>() == 64);
    assert!(size_of::<Evidence>() == 24);
    assert!(size_of::<Cell>() == 8);
    assert!(size_of::<Traffic>() == 24);
    assert!(size_of::<MssLimits>() == 8);
    assert!(size_of::<DecapSettings>() == 4);
    assert!(size_of::<FlowKeyV4>() == 16);
    assert!(size_of::<FlowKeyV6>() == 40);
    assert!(size_of::<FlowBucket>() == 64);
    assert!(size_of::<FlowEntry>() == 64);
    assert!(size_of::<FlowHead>() == 520);
    assert!(size_of::<FlowCounts>() == 96);
    assert!(size_of::<NatSource>() == 24);
    assert!(size_of::<NatHead>() == 1008);
    assert!(size_of::<NatHop>() == 32);
    assert!(size_of::<FragmentRecord>() == 16);
    assert!(size_of::<ProbeRoute>() == 12);
    assert!(size_of::<RateLimiter>() == 64);
    assert!(size_of::<Note>() == 128);
    assert!(size_of::<SnapshotPage>() == 4096);
    assert!(size_of::<SnapshotHead>() == 16);
};
