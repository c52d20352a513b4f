//! What `status` shows of the generation in force: its history, its trial, and evacuations.

use serde::{Deserialize, Serialize};

use super::Clock;
use crate::control::change::{History, Verdict};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HistoryStatus {
    /// How the generation came into force: a name of `How`, such as `start` or `rollback`.
    pub(crate) how: String,
    /// The file that it was read from.
    pub(crate) file: Option<String>,
    /// When it came into force: milliseconds since 1970, UTC.
    pub(crate) at: u64,
    /// Whether the generation has passed its soak.
    pub(crate) good: bool,
    /// The last generation that has passed its soak.
    pub(crate) last_good: Option<u64>,
    pub(crate) trial: Option<TrialStatus>,
    /// Pools that operators have evacuated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) evacuations: Vec<EvacuationStatus>,
    /// Failovers that operators have given a reason or a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) failovers: Vec<FailoverNoteStatus>,
}

/// A failover with a reason or a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailoverNoteStatus {
    pub(crate) service: String,
    pub(crate) to: String,
    /// Milliseconds since 1970, UTC.
    pub(crate) since: u64,
    pub(crate) reason: Option<String>,
    /// Seconds until the failover is taken back; 0 if its time is over, and it ends once a daemon runs. Absent if it has no
    /// end.
    pub(crate) seconds_left: Option<u64>,
}

/// A pool that an operator has evacuated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EvacuationStatus {
    pub(crate) pool: String,
    /// Milliseconds since 1970, UTC.
    pub(crate) since: u64,
    /// Whether established flows stay.
    pub(crate) drain: bool,
    pub(crate) reason: Option<String>,
    /// Seconds until the evacuation ends by itself; 0 if its time is over, and it ends once a daemon runs. Absent if it
    /// has no end.
    pub(crate) seconds_left: Option<u64>,
}

/// The trial of the generation in force, which is undone unless it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrialStatus {
    /// The generation whose text comes back.
    pub(crate) back_to: u64,
    /// Seconds until the generation is undone; 0 if the time is over: then the next daemon that starts undoes it.
    pub(crate) seconds_left: u64,
    /// Why the generation is still in force although it is to be undone; the daemon tries it again each second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) overdue: Option<String>,
}

impl HistoryStatus {
    pub(crate) fn of(history: &History, generation: u64, now: Clock) -> Option<Self> {
        let entry = history.entry(generation)?;
        let trial = history.trial.as_ref().map(|trial| TrialStatus {
            back_to: trial.back_to,
            seconds_left: trial.until_ms.saturating_sub(now.boot_ms).div_ceil(1000),
            overdue: None,
        });
        let evacuations = history.evacuations.iter().map(|evacuation| EvacuationStatus {
            pool: evacuation.pool.clone(),
            since: evacuation.since,
            drain: evacuation.drain,
            reason: evacuation.reason.clone(),
            seconds_left: evacuation.deadline.seconds_left(now.boot_ms),
        });
        let failovers = history.failovers.iter().map(|note| FailoverNoteStatus {
            service: note.service.clone(),
            to: note.to.clone(),
            since: note.since,
            reason: note.reason.clone(),
            seconds_left: note.deadline.seconds_left(now.boot_ms),
        });
        Some(Self {
            how: entry.how.name().to_owned(),
            file: entry.file.clone(),
            at: entry.at,
            good: entry.verdict == Verdict::Good,
            last_good: history.last_good().map(|entry| entry.generation),
            trial,
            evacuations: evacuations.collect(),
            failovers: failovers.collect(),
        })
    }
}
