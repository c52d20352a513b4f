//! Input and output of a reconcile pass.

use std::time::Duration;

/// Timeouts of a service's flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waits {
    /// How long a slot's pick must have been the same before it becomes the owner.
    pub(crate) flow_idle_timeout: Duration,
    /// How long a record is kept without a packet of its flow.
    pub(crate) expiry: Duration,
}

impl Waits {
    /// For a service that the configuration does not name.
    pub(super) const UNKNOWN: Self =
        Self { flow_idle_timeout: Duration::from_mins(5), expiry: Duration::from_secs(301) };
}

/// Progress of a service in transition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transition {
    /// Start of the transition in milliseconds of `CLOCK_BOOTTIME`; 0 if unknown.
    pub(crate) changed_ms: u64,
    pub(crate) why: String,
    /// Slots whose owner is not their pick; `None` before the first look.
    pub(crate) differing: Option<u32>,
    /// Flow records of the service at the last reading.
    pub(crate) records: u64,
    /// When the first and the last differing slot change owner if nothing else changes, in milliseconds of
    /// `CLOCK_BOOTTIME`.
    pub(crate) next_ms: Option<u64>,
    pub(crate) last_ms: Option<u64>,
}

/// Number of slots and records that name a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Slots of all services that the backend owns.
    pub(crate) slots: u64,
    /// Flow records.
    pub(crate) records: u64,
}

/// Progress of a reconcile pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    /// No pass is under way.
    #[default]
    Idle,
    /// The pass has more steps.
    GoOn,
    /// The pass waits some milliseconds until packets have left the packet path.
    Wait,
    /// The pass has ended.
    Done {
        /// Services with differing slots that had none at the last look.
        started: Vec<u32>,
        finished: Vec<Finished>,
    },
}

/// A service whose transition has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) service: u32,
    /// Start of the transition in milliseconds of `CLOCK_BOOTTIME`; 0 if unknown.
    pub(crate) since_ms: u64,
    /// Number of slots with a new owner, as far as this controller has observed; 0 if no slot differed.
    pub(crate) moved: u64,
    /// Whether an earlier pass has reported the start.
    pub(crate) started: bool,
}
