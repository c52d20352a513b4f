//! dnsmasq for the lab: unpacked, not installed, so that no name server of the system appears.

use anyhow::Result;

use crate::unpacked;

/// Makes sure that dnsmasq and its libraries are available for the lab.
pub(crate) fn ensure() -> Result<()> {
    unpacked::ensure_whole("dnsmasq", &["dnsmasq-base"], "usr/sbin/dnsmasq").map(drop)
}
