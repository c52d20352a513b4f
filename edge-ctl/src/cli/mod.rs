//! The commands of `edge-ctl`: each sends a request to the daemon, or else works on the pinned maps, and prints the
//! result.

#![expect(clippy::result_large_err, reason = "an error here ends the process")]

mod dirs;
mod args;
mod change;
mod check;
mod failure;
mod file;
mod render;
mod table;
mod flows;
mod decap;
mod upgrade;
mod documents;
mod journal;
mod many;
mod evacuate;
mod explain;
mod trace;
mod incident;
mod status;
mod suspects;
mod top;
mod tool;
mod doctor;
mod bundle;
#[cfg(test)]
mod monitoring;

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use serde::Serialize;

use self::{
    args::{Args, BackendArgs, Command, Dirs},
    failure::{Code, Failure},
    many::What,
};
use crate::{
    control::{
        events::Event,
        flow_list::Wanted,
        offline::{self, Offline},
        operations::{Operation, Outcome},
    },
    daemon::{
        self, Ended,
        client::{Client, ClientError, LATER, SOON},
    },
    xdp,
};

/// Printed on standard error before the maps are used without a daemon.
const NOTICE: &str = "edge-ctl: the daemon does not answer; working on the pinned maps directly";

/// Runs the command line.
pub fn main() -> ExitCode {
    let Args { dirs, command } = Args::parse();
    journal::log(command.log_level());
    let ended = match command {
        Command::Run(file) => run(&dirs, file.path()),
        Command::Doctor(args) => doctor::doctor(&dirs, &args),
        other => dispatch(&dirs, other).map(|()| ExitCode::SUCCESS),
    };
    match ended {
        Ok(code) => code,
        Err(failure) => {
            let stderr = io::stderr();
            print_error(&format!("edge-ctl: {}", failure.message(stderr.is_terminal(), coloured(&stderr))));
            if let Some(hint) = failure.hint() {
                print_error(&format!("  {hint}"));
            }
            ExitCode::from(failure.code() as u8)
        }
    }
}

/// Whether output to the stream is coloured (<https://no-color.org>).
fn coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn run(dirs: &Dirs, file: &Path) -> Result<ExitCode, Failure> {
    let runtime = runtime(true)?;
    let ended = runtime.block_on(daemon::run(dirs.directories(&dirs.socket()), file));
    // Does not wait for a program that is still being loaded.
    runtime.shutdown_background();
    match ended? {
        Ended::Stopped => Ok(ExitCode::SUCCESS),
        // A supervisor must not restart this daemon.
        Ended::Detached => Ok(ExitCode::from(Code::Detached as u8)),
    }
}

fn dispatch(dirs: &Dirs, command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(file) => run(dirs, file.path()).map(drop),
        Command::Doctor(args) => doctor::doctor(dirs, &args).map(drop),
        Command::Bundle(args) => bundle::bundle(dirs, &args),
        Command::Check(args) => check::check(dirs, &args),
        Command::Plan { file, json } => change::plan(dirs, &file, json),
        Command::Apply { file, allow, words } => change::apply(dirs, &file, allow, words),
        Command::Confirm => change::confirm(dirs),
        Command::Rollback { generation, words } => change::roll_back(dirs, generation, words),
        Command::History { json, text } => change::history(dirs, json, text),
        Command::Diff { from, to, json } => change::diff(dirs, &from, to.as_deref(), json),
        Command::Status(args) => runtime(false)?.block_on(status::status(dirs, &args)),
        Command::Top => top::top(dirs),
        Command::Flows { service, json, limit } => flows(dirs, Wanted { service: service.as_deref(), limit }, json),
        Command::Explain(args) => explain::explain(dirs, &args),
        Command::Trace(args) => trace::trace(dirs, &args),
        Command::Drain(args) => backends(dirs, &args, |backend, reason| Operation::Drain { backend, reason }),
        Command::Enable(args) => backends(dirs, &args, |backend, reason| Operation::Enable { backend, reason }),
        Command::Disable(args) => backends(dirs, &args, |backend, reason| Operation::Disable { backend, reason }),
        Command::Weight(args) => many::weigh(dirs, args),
        Command::Health(args) => {
            let (health, reason) = (args.health.health(), args.reason);
            let operation = |backend| Operation::Health { backend, health, reason: reason.clone() };
            many::each(dirs, &args.backends, What::Backends, args.dry_run, operation)
        }
        Command::Failover(args) => many::fail_over(dirs, &args),
        Command::Failback { services, dry_run } => {
            many::each(dirs, &services, What::Services, dry_run, |service| Operation::Failback { service })
        }
        Command::Evacuate(args) => evacuate::evacuate(dirs, args),
        Command::Return { pools, dry_run } => evacuate::bring_back(dirs, &pools, dry_run),
        Command::Reload { allow, words } => runtime(false)?.block_on(change::reload(dirs, allow, words)),
        Command::Suspects { json } => runtime(false)?.block_on(suspects::suspects(dirs, json)),
        Command::Events { follow, json } => runtime(false)?.block_on(events(dirs, follow, json)),
        Command::Incident(args) => incident::incident(dirs, &args),
        Command::Upgrade => runtime(false)?.block_on(upgrade::upgrade(dirs)),
        Command::Detach => detach(dirs),
        Command::Decap(args) => decap::run(&args, &dirs.pin_dir, xdp::OBJECT).map_err(Failure::Decap),
        Command::Documents { directory } => documents::write(&directory).map_err(Failure::Documents),
    }
}

fn backends(
    dirs: &Dirs,
    args: &BackendArgs,
    operation: impl Fn(String, Option<String>) -> Operation,
) -> Result<(), Failure> {
    let operation = |backend| operation(backend, args.reason.clone());
    many::each(dirs, &args.backends, What::Backends, args.dry_run, operation)
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn flows(dirs: &Dirs, wanted: Wanted<'_>, json: bool) -> Result<(), Failure> {
    // Flow records belong to the packet path: neither the daemon nor the lock is needed.
    let offline = Offline::open(&dirs.pin_dir);
    let flows = offline.and_then(|offline| offline.flows(wanted)).map_err(|error| Failure::offline(error, dirs))?;
    let mut out = io::stdout();
    // A closed pipe is no failure, as in `print_line`.
    let _ = if json {
        writeln!(out, "{}", to_json(&flows, true))
    } else {
        write!(out, "{}", flows::render(&flows, coloured(&out)))
    };
    Ok(())
}

async fn events(dirs: &Dirs, follow: bool, json: bool) -> Result<(), Failure> {
    let mut client = needed(dirs, "events", SOON).await?;
    let path = if follow { "/v1/events?follow=true" } else { "/v1/events" };
    let show = |line: &[u8]| {
        let text = match serde_json::from_slice::<Event>(line) {
            Ok(event) if !json => render::event(&event),
            _ => String::from_utf8_lossy(line).into_owned(),
        };
        writeln!(io::stdout(), "{text}").and_then(|()| io::stdout().flush()).is_ok()
    };
    tokio::select! {
        ended = client.lines(path, show) => Ok(ended?),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

fn detach(dirs: &Dirs) -> Result<(), Failure> {
    let runtime = runtime(false)?;
    let answer = runtime.block_on(async {
        let mut client = Client::connect_alive(&dirs.socket(), LATER).await?;
        client.post("/v1/detach", &()).await
    });
    let outcome = match answer {
        // A hanging daemon holds the lock: the failure names the daemon's PID.
        Err(ClientError::Absent { .. } | ClientError::Slow(SOON)) => {
            let notify = || print_error(NOTICE);
            let detached = runtime.block_on(offline::detach(&dirs.pin_dir, &dirs.run_dir, notify));
            detached.map_err(|error| Failure::offline(error, dirs))?
        }
        answer => answer?,
    };
    print_outcome(&outcome);
    Ok(())
}

async fn needed(dirs: &Dirs, verb: &'static str, patience: Duration) -> Result<Client, Failure> {
    Client::connect_alive(&dirs.socket(), patience).await.map_err(|error| match error {
        ClientError::Absent { .. } => Failure::DaemonNeeded { socket: dirs.socket(), verb },
        other => other.into(),
    })
}

fn print_outcome(outcome: &Outcome) {
    print_line(&outcome.message);
    for warning in &outcome.warnings {
        // A finding of the preflight names its severity itself.
        print_error(&format!("edge-ctl: warning: {}", warning.strip_prefix("warning: ").unwrap_or(warning)));
    }
}

/// A line on standard output. A closed pipe is no failure.
fn print_line(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A line on standard error. If nobody reads it, the exit code still tells what happened; `eprintln` would panic.
fn print_error(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn to_json(value: &impl Serialize, pretty: bool) -> String {
    if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }
        .expect("names are strings and numbers are finite")
}

fn runtime(threads: bool) -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = if threads {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder.enable_all().build().map_err(Failure::Runtime)
}

/// The printed form of a difference.
#[cfg(test)]
pub(crate) fn shown_diff(diff: &crate::control::change::Diff) -> String {
    render::change::diff(diff, false)
}
