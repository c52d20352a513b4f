//! Cases of ICMP errors about a flow: they go where the flow goes, and change no state of it.

use edge_common::abi::{
    FlowCount::{Hits, Lookups},
    Tracking::Stateless,
    WhenExhausted::{Open, Reject},
};
use edge_tests::world::{DOWN, DRAINED};

use super::{
    super::{
        Meaning,
        Who::{Behind, First, Nobody, Second, Third},
    },
    Case, EVACUATED,
    Goes::{Passed, To},
    RUNNING,
    Room::{Full, Spent},
};

const CONCERNING: Case = Case { meaning: Meaning::Concerns, ..RUNNING };

pub(super) const CASES: &[Case] = &[
    Case { name: "error: to the owner", ..CONCERNING },
    Case {
        name: "error: to the owner, unrecorded, whoever takes new flows",
        owner: Second,
        goes: To(Second),
        ..CONCERNING
    },
    Case {
        name: "error: to the owner, and nothing is not recorded",
        states: &[(Second, DRAINED)],
        owner: Second,
        room: Full,
        goes: To(Second),
        ..CONCERNING
    },
    Case {
        name: "error: to the record's backend",
        record: Some(Third),
        goes: To(Third),
        then: Some(Third),
        counts: &[Lookups, Hits],
        ..CONCERNING
    },
    Case {
        name: "error: to the record's backend, the owner dead",
        states: &[(Second, DOWN)],
        owner: Second,
        record: Some(Third),
        room: Spent,
        goes: To(Third),
        then: Some(Third),
        counts: &[Lookups, Hits],
        ..CONCERNING
    },
    Case {
        name: "error: the record's backend is dead; the record is the flow's own to drop",
        states: &[(Third, DOWN)],
        owner: Second,
        record: Some(Third),
        goes: To(Second),
        then: Some(Third),
        ..CONCERNING
    },
    Case { name: "error: the owner is dead", states: &[(Second, DOWN)], owner: Second, ..CONCERNING },
    Case {
        name: "error: the owner is dead, and nobody takes the slot over",
        states: &[(Second, DOWN)],
        owner: Second,
        room: Full,
        ..CONCERNING
    },
    Case { name: "error: nobody owns the slot", owner: Nobody, ..CONCERNING },
    Case {
        name: "error: the owner and the record's backend are dead",
        states: &[(Second, DOWN), (Third, DOWN)],
        owner: Second,
        record: Some(Third),
        then: Some(Third),
        ..CONCERNING
    },
    Case { name: "error: the owner is evacuated", failover: EVACUATED, goes: To(Behind), ..CONCERNING },
    Case { name: "error: nobody takes new flows", others: DRAINED, owner: Second, goes: To(Second), ..CONCERNING },
    Case {
        name: "error: all are dead, and serve",
        others: DOWN,
        policy: Open,
        owner: Second,
        goes: To(Second),
        ..CONCERNING
    },
    Case {
        name: "error: all are dead, and no error answers an error",
        others: DOWN,
        policy: Reject,
        record: Some(Third),
        goes: Passed,
        then: Some(Third),
        ..CONCERNING
    },
    Case {
        name: "error: stable",
        stable: true,
        owner: Third,
        record: Some(Second),
        goes: To(Third),
        then: Some(Second),
        counts: &[],
        ..CONCERNING
    },
    Case {
        name: "error: stable, the owner dead",
        stable: true,
        states: &[(First, DOWN)],
        goes: To(Second),
        ..CONCERNING
    },
    Case { name: "error: stateless", of: &[Stateless], owner: Second, counts: &[], ..CONCERNING },
];
