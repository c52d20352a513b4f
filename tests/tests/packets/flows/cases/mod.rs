//! The table of cases: one for each row of the selection rules, and for each path through them.

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

use super::{Meaning, Who};

/// All cases.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    starting::CASES.iter().chain(running::CASES).chain(stable::CASES).chain(stateless::CASES).chain(concerning::CASES)
}

/// Room for another record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Free,
    /// Other flows use all of it.
    Full,
    /// There is room, but the rate limit of this second is used up.
    Spent,
}

/// The fate of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goes {
    To(Who),
    /// Answered with a RST or an ICMP error.
    Rejected,
    Dropped,
    /// Left to the host.
    Passed,
}

/// The change of the flow's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Same,
    /// Marked, since an established flow of the slot was not recorded.
    Marked,
    /// Marked, since the start of a flow of the slot was not recorded.
    StartMarked,
    /// Taken over by a new owner.
    TakenBy(Who),
}

/// A packet, the state when it arrives, and the expected result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The trackings to which the case applies.
    pub(crate) of: &'static [Tracking],
    pub(crate) meaning: Meaning,
    pub(crate) states: &'static [(Who, u32)],
    /// State of backends that `states` doesn't name.
    pub(crate) others: u32,
    pub(crate) policy: WhenExhausted,
    pub(crate) failover: Failover,
    pub(crate) stable: bool,
    pub(crate) owner: Who,
    pub(crate) record: Option<Who>,
    pub(crate) room: Room,

    pub(crate) goes: Goes,
    /// The record after the packet.
    pub(crate) then: Option<Who>,
    pub(crate) slot: Slot,
    /// Whether the packet turns a stable service into one in transition.
    pub(crate) starts_transition: bool,
    /// The counters that the packet increments, once each, in the counts' order.
    pub(crate) counts: &'static [FlowCount],
}

/// Trackings whose flows have a start, and trackings with records.
const WITH_START: &[Tracking] = &[Tcp, Quic];
const RECORDED: &[Tracking] = &[Tcp, Quic, Learn];

const PASSED_OVER: Failover = Failover { first: 1, evacuate: false };
const EVACUATED: Failover = Failover { first: 1, evacuate: true };

/// Default of cases about starting flows: a stable slot, in a service that is in transition.
const STARTING: Case = Case {
    name: "",
    of: WITH_START,
    meaning: Meaning::Starts,
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

/// Default of cases about running flows.
const RUNNING: Case = Case { of: RECORDED, meaning: Meaning::Runs, ..STARTING };
