//! Deadlines of operators' words, which outlive the process and the host's clock. Pure.

#![deny(clippy::disallowed_methods)]

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The end of an evacuation or a failover; none without a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Deadline {
    /// The whole time, milliseconds.
    pub(crate) for_ms: Option<u64>,
    /// Milliseconds of `CLOCK_BOOTTIME`.
    pub(crate) until_ms: Option<u64>,
}

impl Deadline {
    /// The deadline after `for_ms`, from `boot_ms` on.
    pub(crate) fn after(for_ms: Option<u64>, boot_ms: u64) -> Self {
        Self { for_ms, until_ms: for_ms.map(|time| boot_ms.saturating_add(time)) }
    }

    /// Time until the deadline; `None` without one.
    pub(crate) fn left(self, boot_ms: u64) -> Option<Duration> {
        // A deadline further in the future than the whole time was set before a reboot.
        let left = self.until_ms?.saturating_sub(boot_ms).min(self.for_ms.unwrap_or(u64::MAX));
        Some(Duration::from_millis(left))
    }

    /// Whole seconds until the deadline, rounded up.
    pub(crate) fn seconds_left(self, boot_ms: u64) -> Option<u64> {
        self.left(boot_ms).map(|left| (left + Duration::from_millis(999)).as_secs())
    }

    pub(crate) fn is_over(self, boot_ms: u64) -> bool {
        self.left(boot_ms).is_some_and(|left| left.is_zero())
    }

    /// The deadline after a reboot, with which the clock has started anew: the time that was left if the deadline shows
    /// it, and else the whole time.
    pub(crate) fn restarted(self, boot_ms: u64) -> Self {
        let left = self.left(boot_ms).map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        Self { until_ms: left.map(|left| boot_ms.saturating_add(left)), ..self }
    }
}
