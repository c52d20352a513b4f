//! Packets of a service that is settled: nothing is asked unless the owner can't take them.

use edge_common::abi::{
    FlowCount::{Asked, OwnerTakenOver, RecordedAtNew},
    Tracking::Learn,
};
use edge_tests::world::{DOWN, DRAINED};

use super::{
    super::Who::{First, Second, Third},
    Case,
    Goes::To,
    RUNNING,
    Room::{Full, Spent},
    STARTING,
    Slot::TakenBy,
    WITH_START,
};

const STARTING_SETTLED: Case = Case { settled: true, counts: &[], ..STARTING };
const RUNNING_SETTLED: Case = Case { settled: true, counts: &[], ..RUNNING };

pub(super) const CASES: &[Case] = &[
    Case { name: "settled: a flow starts at the owner", ..STARTING_SETTLED },
    Case {
        name: "settled: it is the owner's, whoever takes new flows",
        owner: Third,
        goes: To(Third),
        ..STARTING_SETTLED
    },
    Case {
        name: "settled: the owner is dead, the flow recorded",
        states: &[(First, DOWN)],
        goes: To(Second),
        then: Some(Second),
        unsettles: true,
        counts: &[Asked, RecordedAtNew],
        ..STARTING_SETTLED
    },
    Case {
        name: "settled: the owner is drained, the flow recorded",
        states: &[(First, DRAINED)],
        goes: To(Second),
        then: Some(Second),
        unsettles: true,
        counts: &[Asked, RecordedAtNew],
        ..STARTING_SETTLED
    },
    Case {
        name: "settled: the owner is dead, and no room, which is known only after the service was unsettled",
        states: &[(First, DOWN)],
        room: Full,
        goes: To(Second),
        slot: TakenBy(Second),
        unsettles: true,
        counts: &[Asked, OwnerTakenOver],
        ..STARTING_SETTLED
    },
    Case {
        name: "settled: the owner is dead, and no more may be recorded",
        states: &[(First, DOWN)],
        room: Spent,
        goes: To(Second),
        slot: TakenBy(Second),
        counts: &[Asked, OwnerTakenOver],
        ..STARTING_SETTLED
    },
    Case { name: "settled: a flow runs at the owner", ..RUNNING_SETTLED },
    Case {
        name: "settled: it is the owner's, whoever takes new flows and whatever is recorded",
        owner: Third,
        record: Some(Second),
        goes: To(Third),
        then: Some(Second),
        ..RUNNING_SETTLED
    },
    Case { name: "settled: a drained owner keeps its flows", states: &[(First, DRAINED)], ..RUNNING_SETTLED },
    Case {
        name: "settled: a dead owner is left at the next packet, and nothing recorded",
        of: WITH_START,
        states: &[(First, DOWN)],
        goes: To(Second),
        counts: &[Asked],
        ..RUNNING_SETTLED
    },
    Case {
        name: "settled: the owner is dead, and no start to wait for",
        of: &[Learn],
        states: &[(First, DOWN)],
        goes: To(Second),
        then: Some(Second),
        unsettles: true,
        counts: &[Asked, RecordedAtNew],
        ..RUNNING_SETTLED
    },
];
