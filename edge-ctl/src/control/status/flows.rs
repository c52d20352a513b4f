//! The part of `status` about flows after a change: transitions, flow records, retired backends.

use std::collections::BTreeMap;

use edge_common::abi::FlowCount;
use serde::{Deserialize, Serialize};

use super::{BackendState, Clock, HealthStatus, Sample, ServiceStatus, TrafficStatus, state_status};
use crate::{bpf::Held, config::is_same, control::data_plane::DataPlane, plan::RetiredRecord};

/// A service in transition: slots have an owner that is not their pick, or flows are recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TransitionStatus {
    /// Start in milliseconds since 1970, UTC; absent if unknown.
    pub(crate) since: Option<u64>,
    pub(crate) for_seconds: Option<u64>,
    /// The first reason for the transition; empty if unknown.
    pub(crate) why: String,
    /// Slots whose owner is not their pick; absent before the first look.
    pub(crate) slots_differing: Option<u32>,
    /// Flow records.
    pub(crate) records: u64,
    /// Seconds until the first of these slots is handed over, if nothing changes; absent without a daemon.
    pub(crate) next_handover_seconds: Option<f64>,
    /// Seconds until the last of these slots is handed over.
    pub(crate) last_handover_seconds: Option<f64>,
}

/// Use of the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlowTableStatus {
    /// Flow records of services in transition, as last counted; others need none.
    pub(crate) records: u64,
    /// Flow records that the table has room for.
    pub(crate) room: u32,
}

/// New flows that were to go to another backend than their slot's owner, and could not be recorded there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnrecordedStatus {
    /// Start in milliseconds since 1970, UTC.
    pub(crate) since: u64,
    pub(crate) for_seconds: u64,
    /// New flows that went to their slot's owner for this reason.
    pub(crate) kept: u64,
    /// New flows that took their slot over from an owner that takes no new flows.
    pub(crate) taken_over: u64,
    /// All new flows that were to go to another backend.
    pub(crate) of: u64,
    pub(crate) why: String,
}

/// Shows unrecorded flows at the service `name`. If `name` is a part of a service, they are shown at the part, and
/// added to those of the whole service.
pub(crate) fn show_unrecorded(services: &mut [ServiceStatus], name: &str, shown: &UnrecordedStatus) {
    for service in services.iter_mut().filter(|service| is_same(&service.name, name)) {
        service.unrecorded = Some(match service.unrecorded.take() {
            None => shown.clone(),
            Some(part) => UnrecordedStatus {
                since: part.since.min(shown.since),
                for_seconds: part.for_seconds.max(shown.for_seconds),
                kept: part.kept + shown.kept,
                taken_over: part.taken_over + shown.taken_over,
                of: part.of + shown.of,
                why: part.why,
            },
        });
        if let Some(part) = service.parts.iter_mut().find(|part| part.name == name) {
            part.unrecorded = Some(shown.clone());
        }
    }
}

/// A backend that was removed from the configuration and keeps its flows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RetiredStatus {
    /// `POOL/BACKEND`.
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) state: BackendState,
    pub(crate) health: HealthStatus,
    /// Last change of the state in milliseconds since 1970, UTC; absent if unknown.
    pub(crate) since: Option<u64>,
    pub(crate) for_seconds: Option<u64>,
    pub(crate) reason: String,
    /// Number of slots, of all services, whose owner is this backend; absent before the first look.
    pub(crate) slots: Option<u64>,
    /// Number of flow records that name this backend.
    pub(crate) records: Option<u64>,
    pub(crate) traffic: TrafficStatus,
}

/// The transition of a service; `None` if the service is stable.
#[expect(clippy::cast_precision_loss, reason = "seconds are for people; 52 bits are plenty")]
pub(super) fn transition(plane: &impl DataPlane, service: u32, now: Clock) -> Option<TransitionStatus> {
    let transition = plane.transition(service)?;
    let age = now.age(transition.changed_ms);
    let until = |ms: u64| ms.saturating_sub(now.boot_ms) as f64 / 1000.0;
    Some(TransitionStatus {
        since: age.map(|age| now.unix_ms.saturating_sub(age)),
        for_seconds: age.map(|age| age / 1000),
        why: transition.why,
        slots_differing: transition.differing,
        records: transition.records,
        next_handover_seconds: transition.next_ms.map(until),
        last_handover_seconds: transition.last_ms.map(until),
    })
}

pub(super) fn counts(plane: &impl DataPlane, service: u32) -> BTreeMap<String, u64> {
    let counts = plane.flow_counts(service).0;
    FlowCount::ALL.iter().zip(counts).map(|(what, count)| (what.name().to_owned(), count)).collect()
}

/// A retired backend; `None` once no slot and no record names it.
pub(super) fn retired(
    retired: &RetiredRecord,
    plane: &impl DataPlane,
    earlier: Option<&Sample>,
    now: &Sample,
) -> Option<RetiredStatus> {
    let held = plane.held(retired.number);
    if held == Some(Held::default()) {
        return None;
    }
    let (state, health) = state_status(plane.state(retired.number));
    let why = plane.why(retired.number);
    let age = now.at.age(why.changed_ms);
    Some(RetiredStatus {
        name: format!("{}/{}", retired.pool, retired.name),
        address: retired.address.to_string(),
        state,
        health,
        since: age.map(|age| now.at.unix_ms.saturating_sub(age)),
        for_seconds: age.map(|age| age / 1000),
        reason: why.reason,
        slots: held.map(|held| held.slots),
        records: held.map(|held| held.records),
        traffic: now.backend_traffic(retired.number, earlier),
    })
}
