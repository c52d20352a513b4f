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

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
