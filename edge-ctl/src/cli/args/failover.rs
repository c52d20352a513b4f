//! The flags of `failover`.

use std::time::Duration;

/// Which services are failed over, and how.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FailoverArgs {
    /// Services, or patterns of their names.
    #[arg(required = true, value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// The pool that receives the new flows, instead of the pools before it in the service's list.
    #[arg(long, value_name = "POOL")]
    pub(crate) to: String,
    /// Move the established flows of the pools before it, too.
    #[arg(long)]
    pub(crate) evacuate: bool,
    /// Take the failover back by itself after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) time: Option<Duration>,
    /// The reason, for `status` and `events`.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Show the outcome, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
