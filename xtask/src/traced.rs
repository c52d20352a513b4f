//! iperf3 and traceroute for the lab: unpacked, not installed, as what the user has may be another version.

use anyhow::Result;

use crate::unpacked;

/// Makes sure that the lab finds both, with their libraries.
pub(crate) fn ensure() -> Result<()> {
    unpacked::ensure_whole("iperf3", &["iperf3"], "usr/bin/iperf3")?;
    unpacked::ensure_whole("traceroute", &["traceroute"], "usr/bin/traceroute.db").map(drop)
}
