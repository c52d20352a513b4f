//! `edge-ctl`'s verbs: each is a request to the daemon, or else done on the pinned maps, and its outcome printed.

#![expect(clippy::result_large_err, reason = "an error here ends the process")]

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

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use self::{
    args::{Args, Command, Dirs},
    failure::Failure,
};
use crate::{
    control::{
        chain,
        events::Event,
        flow_list::Wanted,
        offline::{self, Offline},
        operations::{Operation, Outcome},
        status::{Sample, Status},
    },
    daemon::{
        self,
        api::{BackendBody, FailoverBody},
        client::{Client, ClientError, LATER, SOON, segment},
    },
    xdp,
};

/// Printed on standard error before the maps are used without a daemon.
const NOTICE: &str = "edge-ctl: the daemon does not answer; working on the pinned maps directly";

/// How often `--watch` looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the command line.
pub fn main() -> ExitCode {
    let Args { dirs, command } = Args::parse();
    log(if command.stays() { "info" } else { "warn" });
    match dispatch(&dirs, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let stderr = io::stderr();
            eprintln!("edge-ctl: {}", failure.message(stderr.is_terminal(), coloured(&stderr)));
            if let Some(hint) = failure.hint() {
                eprintln!("  {hint}");
            }
            ExitCode::from(failure.code() as u8)
        }
    }
}

/// Logs to standard error. `EDGE_LOG` takes what tracing's filters take: `debug`, `info,edge_ctl::net=trace`.
fn log(default: &str) {
    let filter = EnvFilter::try_from_env("EDGE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(coloured(&io::stderr())).init();
}

/// Whether what goes there has colours (<https://no-color.org>).
fn coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn dispatch(dirs: &Dirs, command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(file) => {
            let runtime = runtime(true)?;
            let ended = runtime.block_on(daemon::run(dirs.directories(&dirs.socket()), file.path()));
            // A program that is still being loaded is not waited for.
            runtime.shutdown_background();
            Ok(ended?)
        }
        Command::Check(args) => check::check(dirs, &args),
        Command::Plan { file, json } => change::plan(dirs, &file, json),
        Command::Apply { file, allow, words } => change::apply(dirs, &file, allow, words),
        Command::Confirm => change::confirm(dirs),
        Command::Rollback { generation, words } => change::roll_back(dirs, generation, words),
        Command::History { json, text } => change::history(dirs, json, text),
        Command::Diff { from, to, json } => change::diff(dirs, &from, to.as_deref(), json),
        Command::Status { json, watch } => runtime(false)?.block_on(status(dirs, json, watch)),
        Command::Flows { service, json, limit } => flows(dirs, Wanted { service: service.as_deref(), limit }, json),
        Command::Drain(args) => operate(dirs, &Operation::Drain { backend: args.backend, reason: args.reason }),
        Command::Enable(args) => operate(dirs, &Operation::Enable { backend: args.backend, reason: args.reason }),
        Command::Disable(args) => operate(dirs, &Operation::Disable { backend: args.backend, reason: args.reason }),
        Command::Failover { service, to, evacuate } => operate(dirs, &Operation::Failover { service, to, evacuate }),
        Command::Failback { service } => operate(dirs, &Operation::Failback { service }),
        Command::Reload { allow, words } => runtime(false)?.block_on(change::reload(dirs, allow, words)),
        Command::Events { follow, json } => runtime(false)?.block_on(events(dirs, follow, json)),
        Command::Upgrade => runtime(false)?.block_on(upgrade::upgrade(dirs)),
        Command::Detach => detach(dirs),
        Command::Decap(args) => decap::run(&args, &dirs.pin_dir, xdp::OBJECT).map_err(Failure::Decap),
    }
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

async fn status(dirs: &Dirs, json: bool, watch: bool) -> Result<(), Failure> {
    let mut earlier = None;
    if !watch {
        let status = status_once(dirs, &mut earlier, true).await?;
        if json {
            print_line(&to_json(&status, true));
        } else {
            let mut out = io::stdout();
            let _ = write!(out, "{}", render::status(&status, coloured(&out)));
        }
        return Ok(());
    }
    let mut ticks = tokio::time::interval(WATCH_INTERVAL);
    let mut notified = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = tokio::signal::ctrl_c() => {
                if io::stdout().is_terminal() && !json {
                    print_line("");
                }
                return Ok(());
            }
        }
        let terminal = io::stdout().is_terminal();
        // On a terminal the status itself shows it; a notice on standard error would tear the screen.
        let looked = status_once(dirs, &mut earlier, !terminal && !notified).await;
        let shown = match looked {
            Ok(status) => {
                notified = status.daemon.is_none();
                if json { to_json(&status, false) } else { render::status(&status, coloured(&io::stdout())) }
            }
            // A watcher wants to see it come back.
            Err(failure) if terminal => format!("edge-ctl: {}", chain(&failure)),
            Err(failure) => return Err(failure),
        };
        let written = if terminal && !json {
            repaint(&shown)
        } else {
            writeln!(io::stdout(), "{shown}").and_then(|()| io::stdout().flush())
        };
        if written.is_err() {
            return Ok(());
        }
    }
}

/// Paints over what was there without a moment of emptiness in between. What does not fit is cut off.
fn repaint(text: &str) -> io::Result<()> {
    let rows = terminal_rows().unwrap_or(usize::MAX);
    let mut out = io::stdout().lock();
    // Home, without wrapping of long lines.
    write!(out, "\x1b[H\x1b[?7l")?;
    for (row, line) in text.lines().take(rows).enumerate() {
        write!(out, "{}{line}\x1b[K", if row == 0 { "" } else { "\r\n" })?;
    }
    write!(out, "\x1b[J\x1b[?7h")?;
    out.flush()
}

/// Rows of the terminal that standard output is.
fn terminal_rows() -> Option<usize> {
    // SAFETY: a `winsize` is four integers; zero is a value of each.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one `winsize`, to which the pointer goes for the whole call.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_row > 0).then(|| size.ws_row.into())
}

async fn status_once(dirs: &Dirs, earlier: &mut Option<Sample>, notify: bool) -> Result<Status, Failure> {
    let answer = match Client::connect(&dirs.socket(), SOON).await {
        Ok(mut client) => client.get("/v1/status").await,
        Err(error) => Err(error),
    };
    match answer {
        Err(ClientError::Absent { .. } | ClientError::Slow(_)) => offline_status(dirs, earlier, notify),
        answer => Ok(answer?),
    }
}

fn offline_status(dirs: &Dirs, earlier: &mut Option<Sample>, notify: bool) -> Result<Status, Failure> {
    let failed = |error| Failure::offline(error, dirs);
    let mut offline = Offline::open(&dirs.pin_dir).map_err(failed)?;
    if notify {
        eprintln!("{NOTICE}");
    }
    offline.status(earlier).map_err(failed)
}

fn flows(dirs: &Dirs, wanted: Wanted<'_>, json: bool) -> Result<(), Failure> {
    // The records are the packet path's own: neither the daemon nor the lock is needed.
    let offline = Offline::open(&dirs.pin_dir);
    let flows = offline.and_then(|offline| offline.flows(wanted)).map_err(|error| Failure::offline(error, dirs))?;
    let mut out = io::stdout();
    // As in `print_line`.
    let _ = if json {
        writeln!(out, "{}", to_json(&flows, true))
    } else {
        write!(out, "{}", flows::render(&flows, coloured(&out)))
    };
    Ok(())
}

fn operate(dirs: &Dirs, operation: &Operation) -> Result<(), Failure> {
    let answer = runtime(false)?.block_on(async {
        let mut client = Client::connect(&dirs.socket(), SOON).await?;
        post_operation(&mut client, operation).await
    });
    let outcome = match answer {
        // A daemon that comes to it later does not do it any more.
        Err(ClientError::Absent { .. } | ClientError::Slow(_)) => {
            let notify = || eprintln!("{NOTICE}");
            offline::operate(&dirs.pin_dir, operation, notify).map_err(|error| Failure::offline(error, dirs))?
        }
        answer => answer?,
    };
    print_outcome(&outcome);
    Ok(())
}

async fn post_operation(client: &mut Client, operation: &Operation) -> Result<Outcome, ClientError> {
    let (verb, backend, reason) = match operation {
        Operation::Drain { backend, reason } => ("drain", backend, reason),
        Operation::Enable { backend, reason } => ("enable", backend, reason),
        Operation::Disable { backend, reason } => ("disable", backend, reason),
        Operation::Failover { service, to, evacuate } => {
            let path = format!("/v1/services/{}/failover", segment(service));
            return client.post(&path, &FailoverBody { to: to.clone(), evacuate: *evacuate }).await;
        }
        Operation::Failback { service } => {
            return client.post(&format!("/v1/services/{}/failback", segment(service)), &()).await;
        }
    };
    let backend = match backend.split_once('/') {
        Some((pool, backend)) => format!("{}/{}", segment(pool), segment(backend)),
        None => segment(backend),
    };
    client.post(&format!("/v1/backends/{backend}/{verb}"), &BackendBody { reason: reason.clone() }).await
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
        let mut client = Client::connect(&dirs.socket(), LATER).await?;
        client.post("/v1/detach", &()).await
    });
    let outcome = match answer {
        Err(ClientError::Absent { .. }) => {
            let notify = || eprintln!("{NOTICE}");
            let detached = runtime.block_on(offline::detach(&dirs.pin_dir, &dirs.run_dir, notify));
            detached.map_err(|error| Failure::offline(error, dirs))?
        }
        answer => answer?,
    };
    print_outcome(&outcome);
    Ok(())
}

async fn needed(dirs: &Dirs, verb: &'static str, patience: Duration) -> Result<Client, Failure> {
    Client::connect(&dirs.socket(), patience).await.map_err(|error| match error {
        ClientError::Absent { .. } => Failure::DaemonNeeded { socket: dirs.socket(), verb },
        other => other.into(),
    })
}

fn print_outcome(outcome: &Outcome) {
    print_line(&outcome.message);
    for warning in &outcome.warnings {
        eprintln!("edge-ctl: warning: {warning}");
    }
}

/// A line on standard output. A closed pipe is no failure.
fn print_line(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
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

/// A difference as it is printed.
#[cfg(test)]
pub(crate) fn shown_diff(diff: &crate::control::change::Diff) -> String {
    render::change::diff(diff, false)
}
