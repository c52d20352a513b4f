//! The maps of the load balancer, each declared once: its name, its declaration in `edge-ebpf`, how user space makes it,
//! and its row in the documentation follow from this list.

use core::mem::size_of;

use super::{
    Backend, Cell, Evidence, Exit, FlowBucket, FlowCounts, FlowEntry, FlowHead, FlowKeyV4, FlowKeyV6, FragmentRecord,
    NAT_HOPS, NatHead, NatHop, Note, Pool, Published, RateLimiter, Service, ServiceEntryV4, ServiceEntryV6, SlotCell,
    SnapshotPage, Traffic,
};

/// Passes the list of maps to the macro `$then`.
///
/// Each entry of the list has a name; `packet` if the packet path uses the map, `control` if only user space does; kind,
/// key and value; the number of entries; and as text the key, the writer, the reader, and how long an entry lives.
#[macro_export]
macro_rules! maps {
    ($then:ident) => {
        $then! {
            PUBLISHED: packet Shared(u32 => Published), Entries::One;
                "0", "controller", "packet path", "as long as the pin";
            SERVICE_INDEX_V4: packet Shared(u32 => ServiceEntryV4), Entries::Banked(Dimension::IndexV4);
                "bank, position", "controller", "packet path", "one generation";
            SERVICE_INDEX_V6: packet Shared(u32 => ServiceEntryV6), Entries::Banked(Dimension::IndexV6);
                "bank, position", "controller", "packet path", "one generation";
            SERVICES: packet Shared(u32 => Service), Entries::Banked(Dimension::Services);
                "bank, service", "controller", "packet path", "one generation, in which `failover` changes";
            POOLS: packet Shared(u32 => Pool), Entries::Banked(Dimension::Pools);
                "bank, pool", "controller", "packet path", "one generation, in which the two counts change";
            BACKENDS: packet Shared(u32 => Backend), Entries::Each(Dimension::Backends);
                "backend", "controller", "packet path", "while anything refers to the number";
            CANDIDATES: packet Shared(u32 => Cell), Entries::Each(Dimension::Candidates);
                "cell", "controller", "packet path", "while a generation refers to the cells";
            SLOTS: packet Shared(u32 => SlotCell), Entries::Each(Dimension::Slots);
                "cell", "controller, packet path", "packet path", "as long as the service";
            FLOW_HEAD: packet Shared(u32 => FlowHead), Entries::One;
                "0", "controller", "packet path", "as long as the pin";
            FLOW_INDEX: packet Shared(u32 => FlowBucket), Entries::Buckets(Dimension::Flows);
                "bucket", "packet path", "packet path", "until its place is needed";
            FLOWS: packet Shared(u32 => FlowEntry), Entries::Each(Dimension::Flows);
                "entry", "packet path; controller frees", "packet path", "until it is redundant, its flow over, or silent";
            NAT_HEAD: packet Shared(u32 => NatHead), Entries::One;
                "0", "controller", "packet path", "as long as the pin";
            NAT_INDEX: packet Shared(u32 => FlowBucket), Entries::Buckets(Dimension::NatFlows);
                "bucket", "packet path", "packet path", "until its place is needed";
            NAT_FLOWS: packet Shared(u32 => FlowEntry), Entries::Each(Dimension::NatFlows);
                "source port, lane", "packet path; controller frees", "packet path", "until its flow is over, or silent";
            NAT_HOPS: packet Shared(u32 => NatHop), Entries::Hops;
                "hop", "packet path; controller frees", "packet path", "while a flow's packets come by it";
            FLOW_STATS: packet PerCpu(u32 => FlowCounts), Entries::Each(Dimension::Services);
                "service", "packet path", "controller", "as long as the service";
            FRAGMENTS_V4: packet Lru(FlowKeyV4 => FragmentRecord), Entries::Each(Dimension::Fragments);
                "packet", "packet path", "packet path", "seconds; the oldest makes room";
            FRAGMENTS_V6: packet Lru(FlowKeyV6 => FragmentRecord), Entries::Each(Dimension::Fragments);
                "packet", "packet path", "packet path", "seconds; the oldest makes room";
            RATE_LIMITS: packet Shared(u32 => RateLimiter), Entries::One;
                "0", "packet path", "packet path", "a second";
            TRANSITIONS: control Shared(u32 => Note), Entries::Each(Dimension::Services);
                "service", "controller", "`edge-ctl`", "while the service is in transition";
            EXITS: packet PerCpu(u32 => u64), Entries::Exits;
                "exit", "packet path", "controller", "as long as the pin";
            SERVICE_STATS: packet PerCpu(u32 => Traffic), Entries::Each(Dimension::Services);
                "service", "packet path", "controller", "as long as the service";
            BACKEND_STATS: packet PerCpu(u32 => Traffic), Entries::Each(Dimension::Backends);
                "backend", "packet path", "controller", "as long as the backend";
            EVIDENCE: packet Shared(u32 => Evidence), Entries::Each(Dimension::Backends);
                "backend", "packet path; controller resets", "controller", "as long as the backend";
            NOTES: control Shared(u32 => Note), Entries::Each(Dimension::Backends);
                "backend", "controller", "`edge-ctl`", "as long as the backend";
            SNAPSHOT: control Shared(u32 => SnapshotPage), Entries::Banked(Dimension::Snapshot);
                "bank, page", "controller", "`edge-ctl`", "one generation";
            HISTORY: control Shared(u32 => SnapshotPage), Entries::Banked(Dimension::History);
                "bank, page", "controller", "controller", "until the next change of it but one";
        }
    };
}

/// Kind of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// An array, mapped into the controller's memory.
    Shared,
    /// An array with one value for each CPU.
    PerCpu,
    /// A hash table that evicts the least recently used entry when full.
    Lru,
}

/// How many entries a map has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    One,
    /// One for each [`Exit`].
    Exits,
    Each(Dimension),
    /// A bucket for each eight entries of a flow table, at least two, so that at most half of the slots are in use.
    Buckets(Dimension),
    /// One for each return route to clients.
    Hops,
    /// Two for each, one in each bank.
    Banked(Dimension),
}

/// A quantity of the configuration that determines the size of maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    IndexV4,
    IndexV6,
    Services,
    Pools,
    Backends,
    Candidates,
    Slots,
    Flows,
    NatFlows,
    Fragments,
    Snapshot,
    History,
}

impl Entries {
    /// Number of entries in a map where `each` gives the size of a dimension.
    pub fn count(self, each: impl FnOnce(Dimension) -> u32) -> u32 {
        match self {
            Self::One => 1,
            Self::Exits => Exit::COUNT,
            Self::Each(dimension) => each(dimension),
            Self::Buckets(of) => (each(of) / 8).max(2),
            Self::Hops => NAT_HOPS,
            Self::Banked(dimension) => each(dimension).saturating_mul(2),
        }
    }

    /// Number of entries in the object file, which user space replaces by others when it loads the object.
    pub const fn smallest(self) -> u32 {
        match self {
            Self::One | Self::Each(_) => 1,
            Self::Exits => Exit::COUNT,
            Self::Hops => NAT_HOPS,
            Self::Banked(_) | Self::Buckets(_) => 2,
        }
    }
}

/// Parameters with which a map is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSpec {
    pub name: &'static str,
    pub kind: MapKind,
    /// Bytes of a key: the four of an index, except in a hash table.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    pub entries: Entries,
}

macro_rules! specs {
    ($(
        $name:ident: $user:ident $kind:ident($key:ty => $value:ty), $entries:expr;
        $key_is:literal, $writer:literal, $reader:literal, $lives:literal;
    )+) => {
        /// Map names, as in the object file and under the pin directory.
        ///
        /// | map | key | value | writer | reader | an entry lives |
        /// |---|---|---|---|---|---|
        $(#[doc = concat!(
            "| `", stringify!($name), "` | ", $key_is, " | `", stringify!($value), "` | ", $writer, " | ", $reader, " | ", $lives, " |"
        )])+
        pub mod map {
            $(pub const $name: &str = stringify!($name);)+
            pub const DECAP_ADDRESSES: &str = "DECAP_ADDRESSES";
            pub const DECAP_EDGES: &str = "DECAP_EDGES";
            pub const DECAP_SETTINGS: &str = "DECAP_SETTINGS";
            pub const DECAP_VIPS: &str = "DECAP_VIPS";
            pub const DECAP_EXITS: &str = "DECAP_EXITS";
            pub const MSS_LIMITS: &str = "MSS_LIMITS";
            pub const MSS_EXITS: &str = "MSS_EXITS";
            pub const PROBES_V4: &str = "PROBES_V4";
            pub const PROBES_V6: &str = "PROBES_V6";
            pub const TRACE_FILTER: &str = "TRACE_FILTER";
            pub const TRACE_STATE: &str = "TRACE_STATE";
            pub const TRACE_FRAMES: &str = "TRACE_FRAMES";
        }

        /// All maps of the load balancer.
        pub const MAPS: [MapSpec; [$(map::$name),+].len()] = [$(MapSpec {
            name: map::$name,
            kind: MapKind::$kind,
            key: size_of::<$key>() as u32,
            value: size_of::<$value>() as u32,
            entries: $entries,
        },)+];
    };
}

maps!(specs);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::ABI_VERSION;

    /// The version, and its maps: kind, bytes of a key and of a value, number of entries.
    #[test]
    fn other_maps_are_another_version() {
        let map = |map: MapSpec| {
            let MapSpec { name, kind, key, value, entries } = map;
            format!("{name}: {kind:?}, {key}, {value}, {entries:?}, at least {}\n", entries.smallest())
        };
        let present = format!("version {ABI_VERSION}\n{}", MAPS.map(map).concat());
        assert_eq!(
            present,
            include_str!("maps.txt"),
            "pinned maps of another build would be read wrongly: raise ABI_VERSION, then renew abi/maps.txt"
        );
    }
}
