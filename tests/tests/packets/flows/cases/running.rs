//! Cases of packets of running flows.

use edge_common::abi::{
    FlowCount::{Hits, InsertFailed, Lookups, OverLimit, OwnerTakenOver, RecordedAtNew, RecordedAtOwner, StaleRemoved},
    State,
    Tracking::{self, Learn},
    WhenExhausted::{Open, Reject},
};
use edge_tests::world::{DISABLED, DOWN, DRAINED};

use super::{
    super::Who::{Absent, Behind, First, Nobody, Second, Third},
    Case, EVACUATED,
    Goes::{Dropped, Rejected, To},
    PASSED_OVER, RUNNING,
    Room::{Full, Spent},
    Slot::{Marked, TakenBy},
    WITH_START,
};

/// Trackings without a start: a flow that has lost its backend starts anew.
const LEARNT: &[Tracking] = &[Learn];

pub(super) const CASES: &[Case] = &[
    // No record.
    Case { name: "the owner is who takes new flows", ..RUNNING },
    Case {
        name: "another one takes new flows: recorded at the owner",
        owner: Second,
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, RecordedAtOwner],
        ..RUNNING
    },
    Case {
        name: "the same where the owner is drained",
        states: &[(First, DRAINED)],
        then: Some(First),
        counts: &[Lookups, RecordedAtOwner],
        ..RUNNING
    },
    Case {
        name: "the same where the owner was removed",
        states: &[(First, State::RETIRED | State::ALIVE | State::ENABLED)],
        then: Some(First),
        counts: &[Lookups, RecordedAtOwner],
        ..RUNNING
    },
    Case {
        name: "no room: not recorded",
        owner: Second,
        room: Full,
        goes: To(Second),
        slot: Marked,
        counts: &[Lookups, InsertFailed],
        ..RUNNING
    },
    Case {
        name: "too many were recorded in this second: not recorded",
        owner: Second,
        room: Spent,
        goes: To(Second),
        slot: Marked,
        counts: &[Lookups, InsertFailed, OverLimit],
        ..RUNNING
    },
    Case { name: "no room, and none needed", room: Full, ..RUNNING },
    Case {
        name: "the owner is dead: who takes new flows answers with a RST, and nothing is recorded",
        of: WITH_START,
        states: &[(First, DOWN)],
        goes: To(Second),
        ..RUNNING
    },
    Case {
        name: "the owner is dead, and no start to wait for",
        of: LEARNT,
        states: &[(First, DOWN)],
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, RecordedAtNew],
        ..RUNNING
    },
    Case {
        name: "the owner is dead, no start to wait for, and no room",
        of: LEARNT,
        states: &[(First, DOWN)],
        room: Full,
        goes: To(Second),
        slot: TakenBy(Second),
        counts: &[Lookups, OwnerTakenOver],
        ..RUNNING
    },
    Case {
        name: "the owner is dead and no more may be recorded: no running flow takes the slot over",
        of: WITH_START,
        states: &[(First, DOWN)],
        room: Spent,
        goes: To(Second),
        ..RUNNING
    },
    Case { name: "nobody owns the slot", of: WITH_START, owner: Nobody, ..RUNNING },
    Case { name: "the owner is not there", of: WITH_START, owner: Absent, ..RUNNING },
    // A record.
    Case {
        name: "recorded",
        record: Some(Second),
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, Hits],
        ..RUNNING
    },
    Case {
        name: "recorded where the owner is dead",
        states: &[(First, DOWN)],
        record: Some(Third),
        goes: To(Third),
        then: Some(Third),
        counts: &[Lookups, Hits],
        ..RUNNING
    },
    Case {
        name: "recorded at a backend that is drained",
        states: &[(Second, DRAINED)],
        owner: Third,
        record: Some(Second),
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, Hits],
        ..RUNNING
    },
    Case {
        name: "recorded at a backend that was removed",
        states: &[(Second, State::RETIRED | State::ALIVE)],
        record: Some(Second),
        room: Full,
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, Hits],
        ..RUNNING
    },
    Case {
        name: "the record's backend is dead: dropped",
        of: WITH_START,
        states: &[(Second, DOWN)],
        record: Some(Second),
        counts: &[Lookups, StaleRemoved],
        ..RUNNING
    },
    Case {
        name: "the record's backend is dead: not to the owner, whose flow it never was",
        of: WITH_START,
        states: &[(Second, DOWN)],
        owner: Third,
        record: Some(Second),
        counts: &[Lookups, StaleRemoved],
        ..RUNNING
    },
    Case {
        name: "the record's backend is not there",
        of: WITH_START,
        owner: Third,
        record: Some(Absent),
        counts: &[Lookups, StaleRemoved],
        ..RUNNING
    },
    Case {
        name: "the record's backend is dead, and no start to wait for: moved",
        of: LEARNT,
        states: &[(Second, DOWN)],
        owner: Third,
        record: Some(Second),
        then: Some(First),
        counts: &[Lookups, RecordedAtNew],
        ..RUNNING
    },
    Case {
        name: "the same in a table that is full",
        of: LEARNT,
        states: &[(Second, DOWN)],
        owner: Third,
        record: Some(Second),
        room: Full,
        then: Some(First),
        counts: &[Lookups, RecordedAtNew],
        ..RUNNING
    },
    Case {
        name: "the same where the owner takes new flows: it needs no record",
        of: LEARNT,
        states: &[(Second, DOWN)],
        record: Some(Second),
        counts: &[Lookups, StaleRemoved],
        ..RUNNING
    },
    Case {
        name: "the same where no more may be recorded: a record that moves is none more",
        of: LEARNT,
        states: &[(Second, DOWN)],
        owner: Third,
        record: Some(Second),
        room: Spent,
        then: Some(First),
        counts: &[Lookups, RecordedAtNew],
        ..RUNNING
    },
    Case {
        name: "the same where the owner is dead, too",
        of: LEARNT,
        states: &[(Second, DOWN), (Third, DOWN)],
        owner: Third,
        record: Some(Second),
        room: Spent,
        then: Some(First),
        counts: &[Lookups, RecordedAtNew],
        ..RUNNING
    },
    // No backend left.
    Case {
        name: "nobody takes new flows: the owner keeps its own, and needs no record",
        others: DRAINED,
        policy: Reject,
        owner: Second,
        goes: To(Second),
        ..RUNNING
    },
    Case { name: "all are dead, dropped", others: DOWN, goes: Dropped, ..RUNNING },
    Case { name: "all are dead, rejected", others: DOWN, policy: Reject, goes: Rejected, ..RUNNING },
    Case { name: "all are dead, and serve none the less", others: DOWN, policy: Open, ..RUNNING },
    Case {
        name: "all are dead and serve: recorded at the owner",
        others: DOWN,
        policy: Open,
        owner: Second,
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, RecordedAtOwner],
        ..RUNNING
    },
    Case {
        name: "all are dead and serve: the record is kept",
        others: DOWN,
        policy: Open,
        record: Some(Third),
        goes: To(Third),
        then: Some(Third),
        counts: &[Lookups, Hits],
        ..RUNNING
    },
    Case {
        name: "all are dead and serve, but not the disabled backend of the record",
        of: WITH_START,
        others: DOWN,
        states: &[(Second, DISABLED)],
        policy: Open,
        record: Some(Second),
        counts: &[Lookups, StaleRemoved],
        ..RUNNING
    },
    Case {
        name: "all are dead and serve, but not the disabled owner",
        of: WITH_START,
        others: DOWN,
        states: &[(Second, DISABLED)],
        policy: Open,
        owner: Second,
        ..RUNNING
    },
    Case {
        name: "all are dead and serve; the owner was removed, and lives",
        others: DOWN,
        states: &[(Second, State::RETIRED | State::ALIVE)],
        policy: Open,
        owner: Second,
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, RecordedAtOwner],
        ..RUNNING
    },
    Case {
        name: "one dead backend of many is no reason to serve",
        of: WITH_START,
        states: &[(Second, DOWN)],
        policy: Open,
        owner: Second,
        ..RUNNING
    },
    Case { name: "all are disabled", others: DISABLED, policy: Open, goes: Rejected, ..RUNNING },
    Case {
        name: "all are dead: the record stays for when one lives",
        others: DOWN,
        record: Some(Second),
        goes: Dropped,
        then: Some(Second),
        ..RUNNING
    },
    // Failover.
    Case {
        name: "the pool is passed over: the owner keeps its flows, recorded",
        failover: PASSED_OVER,
        then: Some(First),
        counts: &[Lookups, RecordedAtOwner],
        ..RUNNING
    },
    Case {
        name: "the pool is passed over: the record stays",
        failover: PASSED_OVER,
        owner: Behind,
        record: Some(Second),
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, Hits],
        ..RUNNING
    },
    Case { name: "the owner is evacuated", of: WITH_START, failover: EVACUATED, goes: To(Behind), ..RUNNING },
    Case {
        name: "the owner is evacuated, and no start to wait for",
        of: LEARNT,
        failover: EVACUATED,
        goes: To(Behind),
        then: Some(Behind),
        counts: &[Lookups, RecordedAtNew],
        ..RUNNING
    },
    Case {
        name: "the record's backend is evacuated",
        of: WITH_START,
        failover: EVACUATED,
        owner: Behind,
        record: Some(Second),
        goes: To(Behind),
        counts: &[Lookups, StaleRemoved],
        ..RUNNING
    },
    Case {
        name: "the pool is evacuated, all are dead and serve: none of it",
        of: WITH_START,
        others: DOWN,
        policy: Open,
        failover: EVACUATED,
        record: Some(Second),
        goes: To(Behind),
        counts: &[Lookups, StaleRemoved],
        ..RUNNING
    },
];
