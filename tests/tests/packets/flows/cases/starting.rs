//! Cases of packets that start a flow.

use edge_common::abi::{
    FlowCount::{Hits, KeptAtOwner, Lookups, OverLimit, OwnerTakenOver, RecordedAtNew, StaleRemoved},
    State,
    WhenExhausted::{Open, Reject},
};
use edge_tests::world::{DISABLED, DOWN, DRAINED};

use super::{
    super::Who::{Absent, Behind, First, Nobody, Second, Third},
    Case, EVACUATED,
    Goes::{Dropped, Rejected, To},
    PASSED_OVER,
    Room::{Full, Spent},
    STARTING,
    Slot::{StartMarked, TakenBy},
};

pub(super) const CASES: &[Case] = &[
    Case { name: "the owner takes new flows, and no record is needed", ..STARTING },
    Case {
        name: "another one takes new flows: recorded there",
        owner: Second,
        then: Some(First),
        counts: &[Lookups, RecordedAtNew],
        ..STARTING
    },
    Case {
        name: "the same where the owner is dead",
        states: &[(First, DOWN)],
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, RecordedAtNew],
        ..STARTING
    },
    Case {
        name: "the same where the owner is drained",
        states: &[(First, DRAINED)],
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, RecordedAtNew],
        ..STARTING
    },
    // Existing records.
    Case {
        name: "a first packet that comes again keeps its record, whoever takes new flows now",
        record: Some(Second),
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, Hits],
        ..STARTING
    },
    Case {
        name: "the same where the owner is a third one",
        owner: Third,
        record: Some(Second),
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, Hits],
        ..STARTING
    },
    Case {
        name: "a record that is kept needs no room",
        record: Some(Second),
        room: Full,
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, Hits],
        ..STARTING
    },
    Case {
        name: "nor must more be recorded in this second",
        owner: Third,
        record: Some(Second),
        room: Spent,
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, Hits],
        ..STARTING
    },
    Case {
        name: "the record's backend is drained, and lives: it may be a second packet, or a forged one",
        states: &[(Second, DRAINED)],
        owner: Second,
        record: Some(Second),
        goes: To(Second),
        then: Some(Second),
        counts: &[Lookups, Hits],
        ..STARTING
    },
    Case {
        name: "the record's backend is dead: the flow that starts replaces the one that was",
        states: &[(Third, DOWN)],
        owner: Second,
        record: Some(Third),
        then: Some(First),
        counts: &[Lookups, RecordedAtNew],
        ..STARTING
    },
    Case {
        name: "a record is replaced in a table that is full",
        states: &[(Third, DOWN)],
        owner: Second,
        record: Some(Third),
        room: Full,
        then: Some(First),
        counts: &[Lookups, RecordedAtNew],
        ..STARTING
    },
    Case {
        name: "the owner takes the flow: the record of a dead one would say something else, and goes",
        states: &[(Second, DOWN)],
        record: Some(Second),
        counts: &[Lookups, StaleRemoved],
        ..STARTING
    },
    Case {
        name: "the record of a backend that is not there goes likewise",
        record: Some(Absent),
        counts: &[Lookups, StaleRemoved],
        ..STARTING
    },
    // No room.
    Case {
        name: "no room: the flow goes to the owner that it needs no record for",
        owner: Second,
        room: Full,
        goes: To(Second),
        slot: StartMarked,
        counts: &[Lookups, KeptAtOwner],
        ..STARTING
    },
    Case {
        name: "but a drain is not undone: who takes new flows owns the slot",
        states: &[(First, DRAINED)],
        room: Full,
        goes: To(Second),
        slot: TakenBy(Second),
        counts: &[Lookups, OwnerTakenOver],
        ..STARTING
    },
    Case {
        name: "unless there is room, and only too many were recorded in this second",
        states: &[(First, DRAINED)],
        room: Spent,
        slot: StartMarked,
        counts: &[Lookups, KeptAtOwner, OverLimit],
        ..STARTING
    },
    Case {
        name: "no room, and the owner is dead: who takes new flows owns the slot",
        states: &[(First, DOWN)],
        room: Full,
        goes: To(Second),
        slot: TakenBy(Second),
        counts: &[Lookups, OwnerTakenOver],
        ..STARTING
    },
    Case {
        name: "the same where nobody owned it",
        owner: Nobody,
        room: Full,
        slot: TakenBy(First),
        counts: &[Lookups, OwnerTakenOver],
        ..STARTING
    },
    Case {
        name: "the same where the owner is not there",
        owner: Absent,
        room: Full,
        slot: TakenBy(First),
        counts: &[Lookups, OwnerTakenOver],
        ..STARTING
    },
    Case { name: "no room, and none needed", room: Full, ..STARTING },
    Case {
        name: "too many were recorded in this second: as if there were no room",
        owner: Second,
        room: Spent,
        goes: To(Second),
        slot: StartMarked,
        counts: &[Lookups, KeptAtOwner, OverLimit],
        ..STARTING
    },
    Case {
        name: "the same where the owner is dead",
        owner: Second,
        states: &[(Second, DOWN)],
        room: Spent,
        slot: TakenBy(First),
        counts: &[Lookups, OwnerTakenOver, OverLimit],
        ..STARTING
    },
    Case {
        name: "a record is replaced however many were made in this second",
        states: &[(Third, DOWN)],
        owner: Second,
        record: Some(Third),
        room: Spent,
        then: Some(First),
        counts: &[Lookups, RecordedAtNew],
        ..STARTING
    },
    Case {
        name: "the same where the owner is dead",
        states: &[(Third, DOWN), (Second, DOWN)],
        owner: Second,
        record: Some(Third),
        room: Spent,
        then: Some(First),
        counts: &[Lookups, RecordedAtNew],
        ..STARTING
    },
    // No backend left.
    Case {
        name: "nobody takes new flows: the living owner none either",
        others: DRAINED,
        policy: Reject,
        goes: Rejected,
        ..STARTING
    },
    Case { name: "all are dead, dropped", others: DOWN, goes: Dropped, ..STARTING },
    Case { name: "all are dead, rejected", others: DOWN, policy: Reject, goes: Rejected, ..STARTING },
    Case { name: "all are dead, and serve none the less", others: DOWN, policy: Open, ..STARTING },
    Case {
        name: "all are dead and serve: recorded where the owner is another one",
        others: DOWN,
        policy: Open,
        owner: Second,
        then: Some(First),
        counts: &[Lookups, RecordedAtNew],
        ..STARTING
    },
    Case {
        name: "all are dead and serve: the record is kept",
        others: DOWN,
        policy: Open,
        record: Some(Third),
        goes: To(Third),
        then: Some(Third),
        counts: &[Lookups, Hits],
        ..STARTING
    },
    Case {
        name: "all are dead and serve: without room the owner",
        others: DOWN,
        policy: Open,
        owner: Second,
        room: Full,
        goes: To(Second),
        slot: StartMarked,
        counts: &[Lookups, KeptAtOwner],
        ..STARTING
    },
    Case {
        name: "all are dead and serve, but not who is disabled",
        others: DOWN,
        states: &[(Second, DISABLED)],
        policy: Open,
        owner: Second,
        record: Some(Second),
        room: Full,
        then: Some(First),
        counts: &[Lookups, RecordedAtNew],
        ..STARTING
    },
    Case {
        name: "all are dead, who was removed lives: it gets none",
        others: DOWN,
        states: &[(Second, State::RETIRED | State::ALIVE)],
        policy: Open,
        owner: Second,
        room: Full,
        slot: TakenBy(First),
        counts: &[Lookups, OwnerTakenOver],
        ..STARTING
    },
    Case { name: "all are disabled", others: DISABLED, policy: Open, goes: Rejected, ..STARTING },
    Case {
        name: "nothing is left, and the record stays for when there is",
        others: DOWN,
        record: Some(Second),
        goes: Dropped,
        then: Some(Second),
        ..STARTING
    },
    // Failover.
    Case {
        name: "the pool is passed over",
        failover: PASSED_OVER,
        goes: To(Behind),
        then: Some(Behind),
        counts: &[Lookups, RecordedAtNew],
        ..STARTING
    },
    Case {
        name: "the pool is passed over: without room, too",
        failover: PASSED_OVER,
        room: Full,
        goes: To(Behind),
        slot: TakenBy(Behind),
        counts: &[Lookups, OwnerTakenOver],
        ..STARTING
    },
    Case {
        name: "the pool is passed over, and too many were recorded in this second: the owner in it",
        failover: PASSED_OVER,
        room: Spent,
        slot: StartMarked,
        counts: &[Lookups, KeptAtOwner, OverLimit],
        ..STARTING
    },
    Case {
        name: "the pool is evacuated",
        failover: EVACUATED,
        goes: To(Behind),
        then: Some(Behind),
        counts: &[Lookups, RecordedAtNew],
        ..STARTING
    },
    Case {
        name: "the pool is evacuated, and the owner with it",
        failover: EVACUATED,
        room: Full,
        goes: To(Behind),
        slot: TakenBy(Behind),
        counts: &[Lookups, OwnerTakenOver],
        ..STARTING
    },
    Case {
        name: "the pool is evacuated, and the record of one in it replaced",
        failover: EVACUATED,
        record: Some(Second),
        goes: To(Behind),
        then: Some(Behind),
        counts: &[Lookups, RecordedAtNew],
        ..STARTING
    },
    Case {
        name: "the pool is evacuated: a record of one behind it is kept",
        failover: EVACUATED,
        record: Some(Behind),
        goes: To(Behind),
        then: Some(Behind),
        counts: &[Lookups, Hits],
        ..STARTING
    },
    Case {
        name: "the pool is evacuated, the other one dead, and serves",
        failover: EVACUATED,
        states: &[(First, DOWN), (Second, DOWN), (Third, DOWN)],
        others: DOWN,
        policy: Open,
        owner: First,
        record: Some(Second),
        goes: To(Behind),
        then: Some(Behind),
        counts: &[Lookups, RecordedAtNew],
        ..STARTING
    },
];
