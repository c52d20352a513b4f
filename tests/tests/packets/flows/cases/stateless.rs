//! Cases of packets of a service without records: each packet goes where a new flow would.

use edge_common::abi::{
    Tracking::{self, Stateless},
    WhenExhausted::{Open, Reject},
};
use edge_tests::world::{DOWN, DRAINED};

use super::{
    super::Who::{Behind, First, Second},
    Case, EVACUATED,
    Goes::{Dropped, Rejected, To},
    PASSED_OVER, RUNNING, STARTING,
};

const OF: &[Tracking] = &[Stateless];
const FIRST: Case = Case { of: OF, counts: &[], ..STARTING };
const LATER: Case = Case { of: OF, counts: &[], ..RUNNING };

pub(super) const CASES: &[Case] = &[
    Case { name: "stateless: a first packet, the owner another one", owner: Second, ..FIRST },
    Case { name: "stateless: a later packet, the owner another one", owner: Second, ..LATER },
    Case { name: "stateless: records are not read", record: Some(Second), then: Some(Second), ..LATER },
    Case { name: "stateless: the owner is dead", states: &[(First, DOWN)], goes: To(Second), ..LATER },
    Case { name: "stateless: the owner is drained", states: &[(First, DRAINED)], goes: To(Second), ..LATER },
    Case { name: "stateless: the pool is passed over", failover: PASSED_OVER, goes: To(Behind), ..LATER },
    Case { name: "stateless: the pool is evacuated", failover: EVACUATED, goes: To(Behind), ..LATER },
    Case { name: "stateless: nobody takes new flows", others: DRAINED, goes: Dropped, ..LATER },
    Case { name: "stateless: all are dead, rejected", others: DOWN, policy: Reject, goes: Rejected, ..LATER },
    Case { name: "stateless: all are dead, and serve", others: DOWN, policy: Open, ..LATER },
    Case { name: "stateless and stable: a first packet", owner: Second, stable: true, goes: To(Second), ..FIRST },
    Case { name: "stateless and stable: a later packet", owner: Second, stable: true, goes: To(Second), ..LATER },
    Case {
        name: "stateless and stable: a dead owner is left at the next packet",
        stable: true,
        states: &[(First, DOWN)],
        goes: To(Second),
        ..LATER
    },
];
