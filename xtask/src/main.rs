//! `cargo xtask`: the entry point for set-up, build, test, lab, demo and bench.

mod edge_tasks;
mod fuzz;
mod labs;
mod lints;
mod package;
mod repeat;
mod rules;
mod slowest;
mod test;
mod test_run;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use xtask::{
    build, setup,
    tasks::{self, Task},
};

/// Builds, tests and shows the load balancer.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 120)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install the prerequisites: eBPF toolchain, bpf-linker, packages. Every other command does this first.
    Setup,
    /// Build the eBPF programs, then edge-ctl with them inside.
    Build {
        /// Build the released binary: optimized and stripped.
        #[arg(long)]
        release: bool,
        /// With traces in the packet path, for development; never in a release.
        #[arg(long, conflicts_with = "release")]
        trace: bool,
    },
    /// Run every check and every test there is (root, for packets and labs).
    Test {
        /// Leave out the parts that take minutes: other kernels, the model of flows, labs, and kills at each step.
        #[arg(long)]
        quick: bool,
    },
    /// Let libFuzzer search for frames that break a rule of the packet path, or for input that crashes the controller.
    Fuzz(fuzz::Options),
    /// Check formatting, clippy, dependencies and spelling.
    Lints,
    /// Make a Debian and an RPM package.
    Package(package::Options),
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command. The program of tasks parses the arguments of a task; here they are only passed on.
fn run(words: &[OsString]) -> Result<ExitCode> {
    if let Some(task) = Task::of(words) {
        return edge_tasks::run(task, words);
    }
    match command() {
        Command::Setup => setup::everything().map(|_| ExitCode::SUCCESS),
        Command::Build { release, trace } => {
            let profile = if release { build::Profile::Release } else { build::Profile::Dev };
            build::all(profile, trace).map(|_| ExitCode::SUCCESS)
        }
        Command::Test { quick } => test::all(quick),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Lints => lints::all().map(|()| ExitCode::SUCCESS),
        Command::Package(options) => package::run(options),
    }
}

/// The command on the command line. The list of commands in the help includes tasks.
fn command() -> Command {
    let tasks = tasks::ALL.map(|task| clap::Command::new(task.name).about(task.about));
    let matches = Args::command().subcommands(tasks).get_matches();
    Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command
}
