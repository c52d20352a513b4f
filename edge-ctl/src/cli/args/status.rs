//! The flags of `status`.

use glob::Pattern;

use crate::control::status::Part;

/// Which part of the status is shown, and how.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct StatusArgs {
    /// Show only this service, and its pools; a name or a pattern, repeatable.
    #[arg(long = "service", value_name = "SERVICE", value_parser = Pattern::new)]
    pub(crate) services: Vec<Pattern>,
    /// Show only this pool, and the services that list it; a name or a pattern, repeatable.
    #[arg(long = "pool", value_name = "POOL", value_parser = Pattern::new)]
    pub(crate) pools: Vec<Pattern>,
    /// Show only services, pools and backends in trouble.
    #[arg(long)]
    pub(crate) trouble: bool,
    /// Show everything, even if it does not fit into the terminal.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print one JSON object (with --watch: one a line each second).
    #[arg(long)]
    pub(crate) json: bool,
    /// Show the status again each second, until Ctrl-C.
    #[arg(long)]
    pub(crate) watch: bool,
}

impl StatusArgs {
    pub(crate) fn part(&self) -> Part {
        Part { services: self.services.clone(), pools: self.pools.clone(), trouble: self.trouble }
    }
}
