//! `edge-ctl`: the controller and its command line.

mod cli;
mod daemon;
mod config;
mod model;
mod health;
mod probe;
mod kernel;
mod net;
mod decap;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
