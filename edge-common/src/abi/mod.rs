//! The binary interface between the packet path and user space: every type that lies in a BPF map.
//!
//! Each type is declared once, `#[repr(C)]`, without implicit padding (bytemuck's `Pod` refuses it), and its size is
//! asserted here. Addresses and ports keep network order as byte arrays; everything else is in host order.
//!
//! | map | key -> value | writer | reader | lives |
//! |---|---|---|---|---|
//! | `PUBLISHED` | 0 -> [`Published`] | controller | packet path | as long as the pin |
//! | `SERVICE_INDEX_V4` | bank, position -> [`ServiceEntryV4`] | controller | packet path | one generation |
//! | `SERVICE_INDEX_V6` | bank, position -> [`ServiceEntryV6`] | controller | packet path | one generation |
//! | `SERVICES` | bank, service -> [`Service`] | controller | packet path | one generation, `failover` changes in it |
//! | `POOLS` | bank, pool -> [`Pool`] | controller | packet path | one generation, the two counts change in it |
//! | `BACKENDS` | backend -> [`Backend`] | controller | packet path | while anything refers to the number |
//! | `CANDIDATES` | cell -> [`Cell`] | controller | packet path | while a generation refers to the cells |
//! | `OWNERS` | cell -> [`Cell`] | controller, packet path | packet path | as long as the service |
//! | `UNRECORDED` | cell -> [`Cell`] | packet path sets, controller clears | controller | as long as the service |
//! | `FLOWS_V4` | [`FlowKeyV4`] -> [`FlowRecord`] | packet path; controller deletes | packet path | until it is redundant, or its flow silent |
//! | `FLOWS_V6` | [`FlowKeyV6`] -> [`FlowRecord`] | the same | packet path | the same |
//! | `FLOW_STATS` | service -> [`FlowCounts`] per CPU | packet path | controller | as long as the service |
//! | `FRAGMENTS_V4` | [`FlowKeyV4`] -> [`FragmentRecord`] | packet path | packet path | seconds; the oldest makes room |
//! | `FRAGMENTS_V6` | [`FlowKeyV6`] -> [`FragmentRecord`] | packet path | packet path | seconds; the oldest makes room |
//! | `RATE_LIMITS` | 0 -> [`RateLimiter`] per CPU | packet path | packet path | a second |
//! | `TRANSITIONS` | service -> [`Note`] | controller | `edge-ctl` | while the service is in transition |
//! | `EXITS` | exit -> `u64` per CPU | packet path | controller | as long as the pin |
//! | `SERVICE_STATS` | service -> [`Traffic`] per CPU | packet path | controller | as long as the service |
//! | `BACKEND_STATS` | backend -> [`Traffic`] per CPU | packet path | controller | as long as the backend |
//! | `NOTES` | backend -> [`Note`] | controller | `edge-ctl` | as long as the backend |
//! | `SNAPSHOT` | bank, page -> [`SnapshotPage`] | controller | `edge-ctl` | one generation |
//!
//! `UNRECORDED` has the cells of `OWNERS`: a lane that is not 0 says that a flow of this slot should have been recorded and was
//! not. In a fragment's key the identification stands where a flow's has the ports.
//!
//! Banks (double buffering): what belongs to a generation is kept twice. The controller writes the bank that is not active, whole, and
//! publishes it with one store to `PUBLISHED`. The two lie interleaved ([`banked`]), so that the packet path needs to know
//! no map's size.

mod backend;
mod flow;
mod generation;
mod pool;
mod service;
mod snapshot;
mod stats;

pub use backend::{Backend, BackendNumber, Family, Mac, State};
pub use flow::{
    FlowCount, FlowCounts, FlowEnds, FlowKeyV4, FlowKeyV6, FlowRecord, FragmentRecord, RateLimited, RateLimiter,
};
pub use generation::{Generation, Published};
pub use pool::{CELL, Cell, Pool};
pub use service::{
    Failover, MAX_POOLS, Mode, Service, ServiceEntryV4, ServiceEntryV6, ServiceKeyV4, ServiceKeyV6, Target, Tracking,
    VIP_ENTRY, WhenExhausted,
};
pub use snapshot::{Note, SNAPSHOT_PAGE, SnapshotHead, SnapshotPage};
pub use stats::Traffic;

/// Version of this interface; part of the pin path. Raise it with any change of a type, a map or their meaning.
pub const ABI_VERSION: u32 = 3;

/// Index into a map that is kept in two banks.
#[inline(always)]
pub const fn banked(bank: u32, position: u32) -> u32 {
    position << 1 | (bank & 1)
}

/// Map names, as in the object file and under the pin directory.
pub mod map {
    pub const PUBLISHED: &str = "PUBLISHED";
    pub const SERVICE_INDEX_V4: &str = "SERVICE_INDEX_V4";
    pub const SERVICE_INDEX_V6: &str = "SERVICE_INDEX_V6";
    pub const SERVICES: &str = "SERVICES";
    pub const POOLS: &str = "POOLS";
    pub const BACKENDS: &str = "BACKENDS";
    pub const CANDIDATES: &str = "CANDIDATES";
    pub const OWNERS: &str = "OWNERS";
    pub const UNRECORDED: &str = "UNRECORDED";
    pub const FLOWS_V4: &str = "FLOWS_V4";
    pub const FLOWS_V6: &str = "FLOWS_V6";
    pub const FLOW_STATS: &str = "FLOW_STATS";
    pub const FRAGMENTS_V4: &str = "FRAGMENTS_V4";
    pub const FRAGMENTS_V6: &str = "FRAGMENTS_V6";
    pub const RATE_LIMITS: &str = "RATE_LIMITS";
    pub const TRANSITIONS: &str = "TRANSITIONS";
    pub const EXITS: &str = "EXITS";
    pub const SERVICE_STATS: &str = "SERVICE_STATS";
    pub const BACKEND_STATS: &str = "BACKEND_STATS";
    pub const NOTES: &str = "NOTES";
    pub const SNAPSHOT: &str = "SNAPSHOT";
    pub const DECAP_SOURCES: &str = "DECAP_SOURCES";
    pub const DECAP_EXITS: &str = "DECAP_EXITS";
}

/// Program names in the object file.
pub mod program {
    /// The load balancer.
    pub const EDGE: &str = "edge";
    /// The decapsulation program of a tunnel backend.
    pub const DECAP: &str = "decap";
}

const _: () = {
    assert!(size_of::<Generation>() == 128);
    assert!(size_of::<Published>() == 264);
    assert!(size_of::<ServiceKeyV4>() == 8);
    assert!(size_of::<ServiceKeyV6>() == 24);
    assert!(size_of::<ServiceEntryV4>() == 16);
    assert!(size_of::<ServiceEntryV6>() == 32);
    assert!(size_of::<Service>() == 48);
    assert!(size_of::<Pool>() == 24);
    assert!(size_of::<Backend>() == 64);
    assert!(size_of::<Cell>() == 8);
    assert!(size_of::<Traffic>() == 24);
    assert!(size_of::<FlowKeyV4>() == 16);
    assert!(size_of::<FlowKeyV6>() == 40);
    assert!(size_of::<FlowRecord>() == 16);
    assert!(size_of::<FlowCounts>() == 64);
    assert!(size_of::<FragmentRecord>() == 16);
    assert!(size_of::<RateLimiter>() == 24);
    assert!(size_of::<Note>() == 128);
    assert!(size_of::<SnapshotPage>() == 4096);
    assert!(size_of::<SnapshotHead>() == 16);
};
