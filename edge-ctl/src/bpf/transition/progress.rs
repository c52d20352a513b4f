//! Input and output of a reconcile pass.

use std::time::Duration;

/// How long a service's flows are kept in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waits {
    /// How long a slot's pick must have been the same before it becomes the owner.
    pub(crate) flow_idle_timeout: Duration,
    /// How long a flow's record is kept when no packet of it comes.
    pub(crate) expiry: Duration,
}

impl Waits {
    /// Of a service that the configuration does not name.
    pub(super) const UNKNOWN: Self =
        Self { flow_idle_timeout: Duration::from_mins(5), expiry: Duration::from_secs(301) };
}

/// What is under way in a service in transition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transition {
    /// Since when: milliseconds of `CLOCK_BOOTTIME`; 0: not known.
    pub(crate) changed_ms: u64,
    pub(crate) why: String,
    /// Slots whose owner is not their pick; `None` before the first look.
    pub(crate) differing: Option<u32>,
    /// Flow records of the service, as of the last time that they were read.
    pub(crate) records: u64,
    /// When the first and the last of these slots change owner if nothing else changes: milliseconds of
    /// `CLOCK_BOOTTIME`.
    pub(crate) next_ms: Option<u64>,
    pub(crate) last_ms: Option<u64>,
}

/// How many slots and records name a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Slots, of all services, whose owner it is.
    pub(crate) slots: u64,
    /// Flow records.
    pub(crate) records: u64,
}

/// How far a reconcile pass has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is no work until the next pass.
    #[default]
    Idle,
    /// The pass has more steps.
    GoOn,
    /// The pass waits some milliseconds for packets to leave the packet path.
    Wait,
    /// The pass has ended with this.
    Done {
        /// Services in which slots differ, and did not at the last look.
        started: Vec<u32>,
        finished: Vec<Finished>,
    },
}

/// A service whose transition has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) service: u32,
    /// Since when it was in transition: milliseconds of `CLOCK_BOOTTIME`; 0: not known.
    pub(crate) since_ms: u64,
    /// Slots with a new owner, as far as this controller knows. Zero where nothing differed.
    pub(crate) moved: u64,
    /// Whether an earlier pass has reported the start.
    pub(crate) started: bool,
}
