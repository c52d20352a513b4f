//! The flags of `doctor` and `bundle`.

use std::path::PathBuf;

/// What is examined.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Configuration file; default: the daemon's, or without a daemon /etc/edge/edge.toml.
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the bundle is written.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BundleArgs {
    /// File to write, which must not exist; `-` is standard output; default: edge-bundle-HOST-TIME.tar.
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}
