//! tshark for the lab, which reads captures that `edge-ctl trace` has written: unpacked, not installed.

use anyhow::Result;

use crate::unpacked;

/// Makes sure that it is available for the lab, with its libraries.
pub(crate) fn ensure() -> Result<()> {
    unpacked::ensure_whole("tshark", &["tshark"], "usr/bin/tshark").map(drop)
}
