//! What `status` shows of flows that are where new ones would not go: transitions, records, leaving backends.

use std::collections::BTreeMap;

use edge_common::abi::FlowCount;
use serde::{Deserialize, Serialize};

use super::{BackendState, Clock, HealthStatus, Sample, TrafficStatus, state_status};
use crate::{daemon::plane::Plane, kernel::Held, model::RetiredRecord};

/// A service in which the owners of slots are not who takes their new flows, or flows are recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TransitionStatus {
    /// Since when: milliseconds since 1970, UTC; absent where nobody wrote it down.
    pub(crate) since: Option<u64>,
    pub(crate) for_seconds: Option<u64>,
    /// What came first; empty where nobody wrote it down.
    pub(crate) why: String,
    /// Slots whose owner is not who takes their new flows; absent before somebody has looked.
    pub(crate) slots_differing: Option<u32>,
    /// Flow records.
    pub(crate) records: u64,
    /// Seconds until the first of these slots has another owner, if nothing changes; absent without a daemon.
    pub(crate) next_follow_seconds: Option<f64>,
    /// The same of the last one.
    pub(crate) last_follow_seconds: Option<f64>,
}

/// A backend that has left the configuration, and keeps the flows that it has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LeavingStatus {
    /// `POOL/BACKEND`.
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) state: BackendState,
    pub(crate) health: HealthStatus,
    /// When the state last changed: milliseconds since 1970, UTC; absent where nobody wrote it down.
    pub(crate) since: Option<u64>,
    pub(crate) for_seconds: Option<u64>,
    pub(crate) reason: String,
    /// Slots, of all services, whose owner it is; absent before somebody has looked.
    pub(crate) slots: Option<u64>,
    /// Flow records that name it.
    pub(crate) records: Option<u64>,
    pub(crate) traffic: TrafficStatus,
}

/// What is under way in a service.
#[expect(clippy::cast_precision_loss, reason = "seconds are for people; 52 bits are plenty")]
pub(super) fn transition(plane: &impl Plane, service: u32, now: Clock) -> Option<TransitionStatus> {
    let transition = plane.transition(service)?;
    let age = now.age(transition.changed_ms);
    let until = |ms: u64| ms.saturating_sub(now.boot_ms) as f64 / 1000.0;
    Some(TransitionStatus {
        since: age.map(|age| now.unix_ms.saturating_sub(age)),
        for_seconds: age.map(|age| age / 1000),
        why: transition.why,
        slots_differing: transition.differing,
        records: transition.records,
        next_follow_seconds: transition.next_ms.map(until),
        last_follow_seconds: transition.last_ms.map(until),
    })
}

pub(super) fn counts(plane: &impl Plane, service: u32) -> BTreeMap<String, u64> {
    let counts = plane.flow_counts(service).0;
    FlowCount::ALL.iter().zip(counts).map(|(what, count)| (what.name().to_owned(), count)).collect()
}

/// A backend that has left the configuration; `None` once nothing names it.
pub(super) fn leaving(
    gone: &RetiredRecord,
    plane: &impl Plane,
    earlier: Option<&Sample>,
    now: &Sample,
) -> Option<LeavingStatus> {
    let held = plane.held(gone.number);
    if held == Some(Held::default()) {
        return None;
    }
    let (state, health) = state_status(plane.state(gone.number));
    let why = plane.why(gone.number);
    let age = now.at.age(why.changed_ms);
    Some(LeavingStatus {
        name: format!("{}/{}", gone.pool, gone.name),
        address: gone.address.to_string(),
        state,
        health,
        since: age.map(|age| now.at.unix_ms.saturating_sub(age)),
        for_seconds: age.map(|age| age / 1000),
        reason: why.reason,
        slots: held.map(|held| held.slots),
        records: held.map(|held| held.records),
        traffic: now.backend_traffic(gone.number, earlier),
    })
}
