//! Suspicions in a status.

use serde::{Deserialize, Serialize};

/// A suspicion of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SuspicionStatus {
    pub(crate) evidence: String,
    /// When it began, milliseconds since 1970.
    pub(crate) since: u64,
    /// Number of the other backends of its pool, and of those that are suspected as well.
    pub(crate) others: usize,
    pub(crate) others_suspected: usize,
}
