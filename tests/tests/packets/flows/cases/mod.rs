//! What becomes of a packet: described cases, one for each row of the rules and each way through them.

mod concerning;
mod running;
mod stable;
mod starting;
mod stateless;

use edge_common::abi::{
    Failover, FlowCount,
    Tracking::{self, Learn, Quic, Tcp},
    WhenExhausted,
};
use edge_tests::world::UP;

use super::{Says, Who};

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    starting::CASES.iter().chain(running::CASES).chain(stable::CASES).chain(stateless::CASES).chain(concerning::CASES)
}

/// Whether there is room for one more record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Free,
    /// Other flows have all of it.
    Full,
    /// There is, but no more may be recorded in this second.
    Spent,
}

/// How a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goes {
    To(Who),
    /// Answered with a RST or an ICMP error.
    Rejected,
    Dropped,
    /// Left to the host.
    Passed,
}

/// What becomes of the flow's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Same,
    /// A flow of it was not recorded.
    Marked,
    /// It has a new owner.
    TakenBy(Who),
}

/// A packet, what there is when it comes, and what is expected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The trackings that have it so.
    pub(crate) of: &'static [Tracking],
    pub(crate) says: Says,
    pub(crate) states: &'static [(Who, u32)],
    /// State of whom `states` doesn't name.
    pub(crate) others: u32,
    pub(crate) policy: WhenExhausted,
    pub(crate) failover: Failover,
    pub(crate) stable: bool,
    pub(crate) owner: Who,
    pub(crate) record: Option<Who>,
    pub(crate) room: Room,

    pub(crate) goes: Goes,
    /// The record afterwards.
    pub(crate) then: Option<Who>,
    pub(crate) slot: Slot,
    /// Whether the service is in transition now that was stable before.
    pub(crate) starts_transition: bool,
    /// What is counted, each once, in the counts' order.
    pub(crate) counts: &'static [FlowCount],
}

/// The trackings whose flows have a start, and all that record flows.
const WITH_START: &[Tracking] = &[Tcp, Quic];
const RECORDED: &[Tracking] = &[Tcp, Quic, Learn];

const PASSED_OVER: Failover = Failover { first: 1, evacuate: false };
const EVACUATED: Failover = Failover { first: 1, evacuate: true };

/// A flow starts in a slot that is as it should be, in a service of which more is to be known.
const STARTING: Case = Case {
    name: "",
    of: WITH_START,
    says: Says::Starts,
    states: &[],
    others: UP,
    policy: WhenExhausted::Drop,
    failover: Failover { first: 0, evacuate: false },
    stable: false,
    owner: Who::First,
    record: None,
    room: Room::Free,
    goes: Goes::To(Who::First),
    then: None,
    slot: Slot::Same,
    starts_transition: false,
    counts: &[FlowCount::Lookups],
};

/// The same for a flow that runs.
const RUNNING: Case = Case { of: RECORDED, says: Says::Runs, ..STARTING };
