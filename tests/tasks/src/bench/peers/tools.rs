//! The programs to compare; unpacked, not installed, if a package would start a server.

use std::path::{Path, PathBuf};

use anyhow::Result;
use xtask::{
    packages::{self, Package},
    setup, unpacked,
};

/// Paths of the programs.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) edge_ctl: PathBuf,
    pub(super) haproxy: PathBuf,
    pub(super) nginx: PathBuf,
    /// nginx's stream module.
    pub(super) stream: PathBuf,
}

impl Tools {
    /// Makes sure that all programs exist.
    pub(super) fn ensure(edge_ctl: &Path) -> Result<Self> {
        const PURPOSE: &str = "the comparison with other load balancers";
        setup::lab()?;
        packages::ensure(&["nftables", "util-linux", "wrk"].map(Package::any), PURPOSE)?;
        let libraries =
            ["libcrypt1", "liblua5.3-0", "libopentracing-c-wrapper0", "libpcre2-8-0", "libssl3", "libsystemd0"];
        packages::ensure(&libraries.map(Package::any), PURPOSE)?;
        let haproxy = unpacked::ensure("haproxy", &["haproxy"], "usr/sbin/haproxy")?;
        // Both at once, since the module only fits the nginx that it was built with.
        let nginx = unpacked::ensure("nginx-stream", &["nginx", "libnginx-mod-stream"], "usr/sbin/nginx")?;
        let module = "usr/lib/nginx/modules/ngx_stream_module.so";
        let stream = unpacked::ensure("nginx-stream", &["nginx", "libnginx-mod-stream"], module)?;
        Ok(Self { edge_ctl: edge_ctl.to_owned(), haproxy, nginx, stream })
    }
}
