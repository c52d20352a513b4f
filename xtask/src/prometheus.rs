//! Prometheus for the lab: unpacked, not installed, so that no server of the system appears.

use anyhow::Result;

use crate::unpacked;

/// Makes sure that `prometheus` and `promtool` are available for the lab.
pub(crate) fn ensure() -> Result<()> {
    // Both need the C library alone. The package's dependencies are for its web pages.
    unpacked::ensure("prometheus", &["prometheus"], "usr/bin/prometheus").map(drop)
}
