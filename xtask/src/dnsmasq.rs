//! dnsmasq for the lab: unpacked, not installed, so that no name server of the system appears.

use anyhow::Result;

use crate::unpacked;

/// Makes sure that the lab finds a dnsmasq, with its libraries.
pub(crate) fn ensure() -> Result<()> {
    unpacked::ensure_whole("dnsmasq", &["dnsmasq-base"], "usr/sbin/dnsmasq").map(drop)
}
