//! `edge-ctl`: the controller and its command line.

mod cli;
mod config;
mod daemon;
mod decap;
mod health;
mod kernel;
mod model;
mod net;
mod probe;

use std::{io, process::ExitCode};

use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // EDGE_LOG takes what tracing's filters take: `debug`, `info,edge_ctl::net=trace`.
    let filter = EnvFilter::try_from_env("EDGE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .init();
    cli::main()
}
