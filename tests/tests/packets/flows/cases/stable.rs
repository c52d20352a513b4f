//! Cases of packets to a stable service: no record is looked up unless the owner can't take the packet.

use edge_common::abi::{
    FlowCount::{Lookups, OverLimit, OwnerTakenOver, RecordedAtNew},
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

const STARTING_STABLE: Case = Case { stable: true, counts: &[], ..STARTING };
const RUNNING_STABLE: Case = Case { stable: true, counts: &[], ..RUNNING };

pub(super) const CASES: &[Case] = &[
    Case { name: "stable: a flow starts at the owner", ..STARTING_STABLE },
    Case {
        name: "stable: it is the owner's, whoever takes new flows",
        owner: Third,
        goes: To(Third),
        ..STARTING_STABLE
    },
    Case {
        name: "stable: the owner is dead, the flow recorded",
        states: &[(First, DOWN)],
        goes: To(Second),
        then: Some(Second),
        starts_transition: true,
        counts: &[Lookups, RecordedAtNew],
        ..STARTING_STABLE
    },
    Case {
        name: "stable: the owner is drained, the flow recorded",
        states: &[(First, DRAINED)],
        goes: To(Second),
        then: Some(Second),
        starts_transition: true,
        counts: &[Lookups, RecordedAtNew],
        ..STARTING_STABLE
    },
    Case {
        name: "stable: the owner is dead, and no room, which is known only after its transition was started",
        states: &[(First, DOWN)],
        room: Full,
        goes: To(Second),
        slot: TakenBy(Second),
        starts_transition: true,
        counts: &[Lookups, OwnerTakenOver],
        ..STARTING_STABLE
    },
    Case {
        name: "stable: the owner is dead, and no more may be recorded",
        states: &[(First, DOWN)],
        room: Spent,
        goes: To(Second),
        slot: TakenBy(Second),
        counts: &[Lookups, OwnerTakenOver, OverLimit],
        ..STARTING_STABLE
    },
    Case { name: "stable: a flow runs at the owner", ..RUNNING_STABLE },
    Case {
        name: "stable: it is the owner's, whoever takes new flows and whatever is recorded",
        owner: Third,
        record: Some(Second),
        goes: To(Third),
        then: Some(Second),
        ..RUNNING_STABLE
    },
    Case { name: "stable: a drained owner keeps its flows", states: &[(First, DRAINED)], ..RUNNING_STABLE },
    Case {
        name: "stable: a dead owner is left at the next packet, and nothing recorded",
        of: WITH_START,
        states: &[(First, DOWN)],
        goes: To(Second),
        counts: &[Lookups],
        ..RUNNING_STABLE
    },
    Case {
        name: "stable: the owner is dead, and no start to wait for",
        of: &[Learn],
        states: &[(First, DOWN)],
        goes: To(Second),
        then: Some(Second),
        starts_transition: true,
        counts: &[Lookups, RecordedAtNew],
        ..RUNNING_STABLE
    },
];
