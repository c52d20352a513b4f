//! The result of one look at a target.

use std::time::Duration;

use tokio::time::Instant;

use super::dial::Through;
use crate::health::Verdict;

/// Result of a look.
#[derive(Debug)]
pub(super) struct Look {
    /// When the look started.
    pub(super) start: Instant,
    pub(super) verdict: Verdict,
    /// Time until the answers; `None` unless it has passed by them.
    pub(super) took: Option<Duration>,
    /// The service with this result; `None` if the result is that of all services, or of the own address.
    pub(super) through: Option<Through>,
}
