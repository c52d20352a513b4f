//! iperf3 and traceroute for the lab: unpacked, not installed, since the user may have other versions.

use anyhow::Result;

use crate::unpacked;

/// Makes sure that both are available for the lab, with their libraries.
pub(crate) fn ensure() -> Result<()> {
    unpacked::ensure_whole("iperf3", &["iperf3"], "usr/bin/iperf3")?;
    unpacked::ensure_whole("traceroute", &["traceroute"], "usr/bin/traceroute.db").map(drop)
}
