//! Counters of a service's flow records.

use bytemuck::{Pod, Zeroable};

/// Counters of what the packet path did with a service's flow records, per CPU, since the service got its number. They only
/// grow. A service whose counters did not change in a span of time was stateless in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowCounts(pub [u64; FlowCount::COUNT]);

/// One of the [`FlowCounts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FlowCount {
    /// Lookups of a packet's flow in the flow table.
    Lookups,
    /// Lookups that found a record whose backend serves the packet.
    Hits,
    /// New flows that went to another backend than their slot's owner, and were recorded there.
    RecordedAtNew,
    /// Established flows that were recorded at their slot's owner, which is about to change.
    RecordedAtOwner,
    /// New flows that went to their slot's owner, because the table was full or the rate limit was reached.
    KeptAtOwner,
    /// Established flows that were not recorded, for the same reasons.
    InsertFailed,
    /// New flows that could not be recorded, and whose backend became the slot's owner: the old owner was dead, or it took
    /// no new flows and the table was full.
    OwnerTakenOver,
    /// Records that named a dead backend, and were removed.
    StaleRemoved,
    /// Packets that went to the server that their connection ID names.
    ByConnectionId,
    /// Packets whose connection ID named no living server, so that their addresses decided.
    UnknownConnectionId,
    /// Flows that were not recorded because the rate limit was reached. The others found no room in the table.
    OverLimit,
    /// Packets in `nat` without room for the option that was to tell their backend the client's address.
    Untold,
}

impl FlowCount {
    pub const COUNT: usize = 12;
    /// All counters, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Lookups,
        Self::Hits,
        Self::RecordedAtNew,
        Self::RecordedAtOwner,
        Self::KeptAtOwner,
        Self::InsertFailed,
        Self::OwnerTakenOver,
        Self::StaleRemoved,
        Self::ByConnectionId,
        Self::UnknownConnectionId,
        Self::OverLimit,
        Self::Untold,
    ];

    /// Name, as in `edge-ctl status` and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lookups => "lookups",
            Self::Hits => "hits",
            Self::RecordedAtNew => "recorded_at_new",
            Self::RecordedAtOwner => "recorded_at_owner",
            Self::KeptAtOwner => "kept_at_owner",
            Self::InsertFailed => "insert_failed",
            Self::OwnerTakenOver => "owner_taken_over",
            Self::StaleRemoved => "stale_removed",
            Self::ByConnectionId => "by_connection_id",
            Self::UnknownConnectionId => "unknown_connection_id",
            Self::OverLimit => "over_limit",
            Self::Untold => "untold",
        }
    }
}
