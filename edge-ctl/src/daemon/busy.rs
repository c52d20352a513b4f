//! Whether the loop is at long work: it takes no request meanwhile, and is as alive as one that does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::bpf::boot_ms;

/// Longest time of one work: to publish a large configuration, or to take everything down.
pub(crate) const LONGEST: Duration = Duration::from_secs(15);

/// Shared by the loop and the API.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy {
    /// The end of the work, as expected at its beginning: milliseconds of `CLOCK_BOOTTIME`. 0 if no work is under way.
    until_ms: Arc<AtomicU64>,
}

impl Busy {
    /// The loop begins long work.
    pub(super) fn begin(&self) {
        let longest = u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX);
        self.until_ms.store(boot_ms().saturating_add(longest), Ordering::Relaxed);
    }

    /// The loop takes requests again.
    pub(super) fn end(&self) {
        self.until_ms.store(0, Ordering::Relaxed);
    }

    /// Whether work is under way that does not take longer than it may.
    pub(super) fn is_at_work(&self) -> bool {
        boot_ms() < self.until_ms.load(Ordering::Relaxed)
    }
}
