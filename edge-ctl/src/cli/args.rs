//! The command line: every verb and flag of `edge-ctl`.

mod failover;
mod status;
mod support;
mod trace;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

pub(crate) use self::{
    failover::FailoverArgs,
    status::StatusArgs,
    support::{BundleArgs, DoctorArgs},
    trace::{Exits, TraceArgs},
};
pub(crate) use super::dirs::Dirs;
use super::{
    decap::DecapArgs,
    file::{DaemonFileArgs, FileArgs},
};
use crate::{config::Protocol, control::explain::Assumption, daemon::api::HealthWord};

/// Exit codes in `--help`; docs/cli.md has more about them.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; the message has the reason
  2  wrong usage, an ambiguous name, or a configuration that was refused
  3  no daemon answers, and there are no pinned maps to work on instead (or the verb needs a daemon)
  4  no such backend, service, pool, generation or incident
  5  another daemon runs; the message has its PID
  6  of run: `edge-ctl detach` has ended it
Of doctor: 0 nothing is wrong, 1 warnings, 2 errors.

FILE is /etc/edge/edge.toml where it is left out; `-` is standard input, but not for run.
BACKEND is POOL/BACKEND; the bare name suffices where only one pool has a backend of this name.
Without a daemon, status, top, drain, enable, disable, weight, health, failover, failback, evacuate, return, apply, confirm,
rollback and detach work on the pinned maps, with a notice; plan, history, diff, flows, explain and trace always use
them, and incident reads what the daemon has written, and doctor and
bundle take what they can read.";

/// Keys in `top --help`; docs/cli.md has them all.
const TOP_KEYS: &str = "\
Keys: up and down select, enter opens a service or a backend, escape goes back, / filters, s changes the order,
tab or 1, 2, 3 show services, backends, exits and drops, q ends it.";

/// XDP load balancer: run it, watch it and move its traffic.
#[derive(Debug, Parser)]
#[command(name = "edge-ctl", version, after_help = EXIT_CODES, max_term_width = 120)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) dirs: Dirs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon. On SIGHUP it reads the file again; on SIGTERM it stops, and the traffic goes on.
    Run(DaemonFileArgs),
    /// Check a configuration file and change nothing.
    Check(CheckArgs),
    /// Show what a configuration file would change, and change nothing.
    Plan {
        #[command(flatten)]
        file: FileArgs,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Bring a configuration file into force.
    Apply {
        #[command(flatten)]
        file: FileArgs,
        #[command(flatten)]
        allow: AllowArgs,
        #[command(flatten)]
        words: WordArgs,
    },
    /// Keep the change that was applied with --confirm.
    Confirm,
    /// Bring an earlier generation's configuration back; without a number, the last good one.
    Rollback {
        /// The generation to go back to (see `history`).
        generation: Option<u64>,
        #[command(flatten)]
        words: WordArgs,
    },
    /// List the last generations: time, origin, author and outcome of each.
    History {
        /// Print one JSON object.
        #[arg(long, conflicts_with = "text")]
        json: bool,
        /// Print the text of this generation instead.
        #[arg(long, value_name = "GENERATION")]
        text: Option<u64>,
    },
    /// Show the differences between two generations or files.
    Diff {
        /// A generation, or a file; `-` is standard input.
        #[arg(value_name = "A")]
        from: String,
        /// A generation, or a file; without it, the generation in force.
        #[arg(value_name = "B")]
        to: Option<String>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show whether all is well, and services, pools and backends: state, time in it, reason, traffic.
    Status(StatusArgs),
    /// Show services, backends and drops live, with their rates; opens a service or a backend.
    #[command(after_help = TOP_KEYS)]
    Top,
    /// List translated flows, and flows that a change would have moved, with their backends.
    Flows {
        /// List only flows of this service.
        #[arg(long, value_name = "SERVICE")]
        service: Option<String>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        /// List at most N records; the total still counts all.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Explain where a client's flow goes, by the packet path's own code on the pinned maps.
    Explain(ExplainArgs),
    /// Show packets live with their fate: service, slot, owner or record, backend, exit; before and after.
    Trace(TraceArgs),
    /// Send no new flows to a backend; its established flows stay.
    Drain(BackendArgs),
    /// Undo a drain or a disable.
    Enable(BackendArgs),
    /// Take a backend out of service at once, with its established flows.
    Disable(BackendArgs),
    /// Override the file's weights of backends: new flows follow the new weights, established flows stay.
    Weight(WeightArgs),
    /// Override the health that probes have determined.
    Health(HealthArgs),
    /// Send a service's new flows to another of its pools.
    Failover(FailoverArgs),
    /// Undo a failover.
    Failback {
        /// Services, or patterns of their names.
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
        /// Show the outcome, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Make all services leave pools, such as a whole provider, with their established flows.
    Evacuate(EvacuateArgs),
    /// End the evacuation of pools.
    Return {
        /// Pools, or patterns of their names.
        #[arg(required = true, value_name = "POOL")]
        pools: Vec<String>,
        /// Show the outcome, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Make the daemon read its configuration file again; a bad file changes nothing.
    Reload {
        #[command(flatten)]
        allow: AllowArgs,
        #[command(flatten)]
        words: WordArgs,
    },
    /// List the backends that do not answer their clients although their probes pass, and the evidence.
    Suspects {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the daemon's last events.
    Events {
        /// Show new events as well, until Ctrl-C.
        #[arg(long)]
        follow: bool,
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// List the recorded outages, or show one in detail.
    Incident(IncidentArgs),
    /// Examine the host, the installation and the load balancer; name a remedy for each finding.
    Doctor(DoctorArgs),
    /// Collect what support asks for in one tar file, without the configuration's secrets.
    Bundle(BundleArgs),
    /// Start the daemon's executable anew in its place, after an installation: the traffic goes on.
    Upgrade,
    /// Stop the load balancer: stop the daemon, detach the program from the interfaces, withdraw announced VIPs.
    Detach,
    /// On a tunnel backend: decapsulate the packets of edges.
    Decap(DecapArgs),
    /// Write man pages and shell completions into a directory, for packages.
    #[command(hide = true)]
    Documents { directory: PathBuf },
}

impl Command {
    /// What is logged: a command that runs until a signal ends it logs its actions, and `top` nothing, since it has the screen.
    pub(crate) const fn log_level(&self) -> &'static str {
        match self {
            Self::Run(_) => "info",
            Self::Decap(args) if args.watch => "info",
            Self::Top => "off",
            _ => "warn",
        }
    }
}

/// Effects that a change is allowed to have.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct AllowArgs {
    /// Allow the removal of up to N services, pools, backends, interfaces and announcements; a refusal prints N.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) allow_removal: u32,
    /// Allow changes of `hash_key`, `slots` or a service's `affinity`, which move flows.
    #[arg(long)]
    pub(crate) allow_moves: bool,
    /// Apply even if the rehearsal is impossible or fails.
    #[arg(long)]
    pub(crate) allow_unrehearsed: bool,
    /// Apply even if the change certainly loses traffic on this host.
    #[arg(long)]
    pub(crate) allow_unfit: bool,
    /// Undo the change after this time, unless `edge-ctl confirm` comes first.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) confirm: Option<Duration>,
}

/// Text for the history.
#[derive(Debug, clap::Args)]
pub(crate) struct WordArgs {
    /// The reason, for `history`.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BackendArgs {
    /// POOL/BACKEND, or BACKEND where only one pool has it; or patterns of them: `provider-a/*`.
    #[arg(required = true, value_name = "BACKEND")]
    pub(crate) backends: Vec<String>,
    /// The reason, for `status`.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Show the outcome, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WeightArgs {
    /// POOL/BACKEND, or BACKEND where only one pool has it; or patterns of them: `provider-a/*`.
    #[arg(required = true, value_name = "BACKEND")]
    pub(crate) backends: Vec<String>,
    /// 1 to 65535; `auto` removes the override.
    #[arg(required = true, value_name = "N", value_parser = weight)]
    pub(crate) weight: Weight,
    /// The reason, for `status` and `events`.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Show the outcome, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct HealthArgs {
    /// POOL/BACKEND, or BACKEND where only one pool has it; or patterns of them: `provider-a/*`.
    #[arg(required = true, value_name = "BACKEND")]
    pub(crate) backends: Vec<String>,
    /// `auto`: probes determine the health again.
    #[arg(required = true, value_enum, value_name = "HEALTH")]
    pub(crate) health: HealthWord,
    /// The reason, for `status` and `events`.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Show the outcome, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A weight; `None`: the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weight(pub(crate) Option<u32>);

fn weight(text: &str) -> Result<Weight, String> {
    match text.parse::<u32>() {
        _ if text == "auto" => Ok(Weight(None)),
        Ok(weight @ 1..=65_535) => Ok(Weight(Some(weight))),
        Ok(0) => Err("a backend of weight 0 would get no new flows: that is `edge-ctl drain`".to_owned()),
        Ok(_) | Err(_) => Err("a weight is 1 to 65535, or `auto` for the file's".to_owned()),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct IncidentArgs {
    /// Show this outage: first sign, failed backends, moved services, operators' actions, and its end.
    #[arg(value_name = "ID", conflicts_with = "last")]
    pub(crate) id: Option<String>,
    /// Show the last outage.
    #[arg(long)]
    pub(crate) last: bool,
    /// Print one JSON array of the incidents.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    #[arg(value_enum)]
    pub(crate) protocol: Protocol,
    /// The client's address and port: `203.0.113.7:51515`, or `[2001:db8::7]:51515`.
    #[arg(value_name = "CLIENT:PORT")]
    pub(crate) client: SocketAddr,
    /// The VIP and its port.
    #[arg(value_name = "VIP:PORT")]
    pub(crate) vip: SocketAddr,
    /// Assume that a backend, or all of a pool, is up, down, unknown, drained, disabled or enabled; repeatable.
    #[arg(long = "if", value_name = "NAME=STATE")]
    pub(crate) assumptions: Vec<Assumption>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct EvacuateArgs {
    /// Pools, or patterns of their names: `provider-a*`.
    #[arg(required = true, value_name = "POOL")]
    pub(crate) pools: Vec<String>,
    /// Return by itself after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) time: Option<Duration>,
    /// The reason, for `status` and `events`.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Leave established flows where they are.
    #[arg(long)]
    pub(crate) drain: bool,
    /// Disable (with --drain: drain) the pool's backends as well, for services that have no other pool.
    #[arg(long)]
    pub(crate) force: bool,
    /// Show the outcome, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// Compare the file with this host, too: interfaces, addresses, routes to backends, settings of the kernel.
    #[arg(long)]
    pub(crate) host: bool,
    /// Warnings count as errors.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn help_names_every_verb_and_exit_code() {
        let help = Args::command().mut_args(|arg| arg.hide_env_values(true)).term_width(120).render_help().to_string();
        insta::assert_snapshot!(help);
    }
}
